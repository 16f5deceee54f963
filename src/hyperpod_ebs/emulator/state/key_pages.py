"""Pages of a list in the order of its keys; a marker is the last key of a page.

A page is right even if items were added or removed since the page before.
"""

import base64
from collections.abc import Callable, Iterable
from typing import TypeVar

R = TypeVar("R")


def page_after(
    items: Iterable[R], key: Callable[[R], str], *, marker: str | None, size: int
) -> tuple[list[R], str | None]:
    """A page of the items, and the marker of the next page; None if there is none.

    Args:
        items: The whole list, in any order.
        key: Returns an item's key, which is not empty.
        marker: The marker of the page; None for the first page.
        size: The length of a page.

    Raises:
        ValueError: The text is not a marker.
    """
    after = _read_marker(marker) if marker else ""
    rest = sorted((item for item in items if key(item) > after), key=key)
    return rest[:size], _write_marker(key(rest[size - 1])) if len(rest) > size else None


def _write_marker(key: str) -> str:
    """The marker of the page that starts after the item with this key."""
    return base64.urlsafe_b64encode(key.encode()).decode()


def _read_marker(marker: str) -> str:
    """The key in a marker.

    Raises:
        ValueError: The text is not a marker: not ASCII, not base64, or not UTF-8.
    """
    return base64.b64decode(marker, altchars=b"-_", validate=True).decode()
