"""Pages of IAM's lists: MaxItems and Marker."""

import base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar

from hyperpod_ebs.emulator.iam_api.faults import validation_error
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
    after, size = read_marker(parameters.get("Marker")), parameters.get("MaxItems", DEFAULT_ITEMS)
    rest = sorted(((key(item), item) for item in items), key=lambda pair: pair[0])
    rest = [pair for pair in rest if after is None or pair[0] > after]
    shown: Sequence[Any] = [show(item) for _, item in rest[:size]]  # Any: as `show`
    is_truncated = len(rest) > size
    marker = write_marker(rest[size - 1][0]) if is_truncated else None
    return {member: shown, "IsTruncated": is_truncated, "Marker": marker}


def split_page(answer: Answer, lists: Mapping[str, str]) -> Answer:
    """A page of pairs of a kind and an object, in the list Found, as one list for each kind.

    Args:
        answer: The page.
        lists: The names of the lists by kind.
    """
    split = {name: [members for of, members in answer["Found"] if of == kind] for kind, name in lists.items()}
    return {**split, "IsTruncated": answer["IsTruncated"], "Marker": answer["Marker"]}


def write_marker(key: str) -> str:
    """The marker of the page that starts after the item with this key."""
    return base64.urlsafe_b64encode(key.encode()).decode()


def read_marker(marker: str | None) -> str | None:
    """The key in a marker; None without one.

    Raises:
        AwsFault: The text is not a marker.
    """
    if marker is None:
        return None
    try:
        return base64.b64decode(marker, altchars=b"-_", validate=True).decode()
    except ValueError as error:
        raise validation_error(f"Invalid Marker: {marker}") from error
