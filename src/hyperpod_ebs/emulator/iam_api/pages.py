"""Pages of IAM's lists: MaxItems and Marker."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeVar

from hyperpod_ebs.emulator.iam_api.faults import validation_error
from hyperpod_ebs.emulator.state.key_pages import page_after
from hyperpod_ebs.emulator.wire.operations import Answer, Parameters

R = TypeVar("R")

DEFAULT_ITEMS: Final = 100
"""The length of a page without MaxItems."""


def page(
    parameters: Parameters, member: str, items: Iterable[R], key: Callable[[R], str], show: Callable[[R], Any]
) -> Answer:
    """The members of an answer with the page of a list that the request asks for.

    Args:
        parameters: The request, with MaxItems and Marker.
        member: The name of the list in the answer.
        items: The whole list.
        key: Returns an item's key; the list is in the order of the keys, and a marker is the last key of a page.
        show: Returns an item as the answer has it.

    Raises:
        AwsFault: The marker is invalid.
    """
    size = parameters.get("MaxItems", DEFAULT_ITEMS)
    try:
        this_page, marker = page_after(items, key, marker=parameters.get("Marker"), size=size)
    except ValueError as error:
        raise validation_error(f"Invalid Marker: {parameters['Marker']}") from error
    return {member: [show(item) for item in this_page], "IsTruncated": marker is not None, "Marker": marker}


def split_page(answer: Answer, lists: Mapping[str, str]) -> Answer:
    """A page of pairs of a kind and an object, in the list Found, as one list for each kind.

    Args:
        answer: The page.
        lists: The names of the lists by kind.
    """
    split = {name: [members for of, members in answer["Found"] if of == kind] for kind, name in lists.items()}
    return {**split, "IsTruncated": answer["IsTruncated"], "Marker": answer["Marker"]}
