"""Pages of EKS's List calls: maxResults and nextToken."""

import base64
from collections.abc import Iterable
from typing import Final

from hyperpod_ebs.emulator.wire.operations import AwsFault, Parameters

PAGE_SIZE: Final = 100
"""The largest page, and the default."""


def page(keys: Iterable[str], parameters: Parameters) -> tuple[list[str], str | None]:
    """The requested page of `keys` in their order, and the token of the next page.

    A token names the last key of its page, so a page is right even if keys were added or removed since.

    Raises:
        AwsFault: nextToken is invalid.
    """
    token, size = parameters.get("nextToken"), parameters.get("maxResults", PAGE_SIZE)
    previous = _read_token(token) if token else ""
    rest = sorted(key for key in keys if key > previous)
    if len(rest) <= size:
        return rest, None
    this_page = rest[:size]
    return this_page, base64.urlsafe_b64encode(this_page[-1].encode()).decode()


def _read_token(token: str) -> str:
    try:
        return base64.urlsafe_b64decode(token).decode()
    except ValueError as error:  # not ASCII, not base64, or not UTF-8
        raise AwsFault("InvalidParameterException", f"nextToken {token} is not valid") from error
