"""Pages of EKS's List calls: maxResults and nextToken."""

from collections.abc import Iterable
from typing import Final

from hyperpod_ebs.emulator.state.key_pages import page_after
from hyperpod_ebs.emulator.wire.operations import AwsFault, Parameters

PAGE_SIZE: Final = 100
"""The largest page, and the default."""


def page(keys: Iterable[str], parameters: Parameters) -> tuple[list[str], str | None]:
    """The requested page of `keys` in their order, and the token of the next page.

    Raises:
        AwsFault: nextToken is invalid.
    """
    token, size = parameters.get("nextToken"), parameters.get("maxResults", PAGE_SIZE)
    try:
        return page_after(keys, str, marker=token, size=size)
    except ValueError as error:
        raise AwsFault("InvalidParameterException", f"nextToken {token} is not valid") from error
