"""Pages of KMS's List calls: Limit and Marker."""

import base64
from collections.abc import Iterable
from typing import Any, TypeVar

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
    limit, start = parameters.get("Limit", default), _read_marker(parameters.get("Marker"))
    rest = sorted((record for record in records if record.id > start), key=lambda record: record.id)
    if len(rest) <= limit:
        return rest, {"Truncated": False}
    marker = base64.b64encode(rest[limit - 1].id.encode()).decode()
    return rest[:limit], {"Truncated": True, "NextMarker": marker}


def _read_marker(marker: str | None) -> str:
    try:
        return base64.b64decode(marker or "", validate=True).decode()
    except ValueError as error:
        raise AwsFault("InvalidMarkerException", "Invalid marker.") from error
