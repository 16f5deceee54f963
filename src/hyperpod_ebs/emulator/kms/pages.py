"""Pages of KMS's List calls: Limit and Marker."""

from collections.abc import Iterable
from typing import Any, TypeVar

from hyperpod_ebs.emulator.state.key_pages import page_after
from hyperpod_ebs.emulator.state.store import Record
from hyperpod_ebs.emulator.wire.operations import AwsFault, Parameters

R = TypeVar("R", bound=Record)


def page(records: Iterable[R], parameters: Parameters, *, default: int) -> tuple[list[R], dict[str, Any]]:
    """The requested page of `records`, and the members of the answer about further pages.

    Args:
        records: The records, in any order; pages are in the order of their ids.
        parameters: The request.
        default: The size of a page if the request has no Limit.

    Raises:
        AwsFault: The Marker is not one that an earlier answer had.
    """
    limit = parameters.get("Limit", default)
    try:
        this_page, marker = page_after(records, lambda record: record.id, marker=parameters.get("Marker"), size=limit)
    except ValueError as error:
        raise AwsFault("InvalidMarkerException", "Invalid marker.") from error
    return this_page, {"Truncated": True, "NextMarker": marker} if marker else {"Truncated": False}
