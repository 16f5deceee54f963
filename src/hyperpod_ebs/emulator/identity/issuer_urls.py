"""The URLs of token issuers: AWS wants https, and the emulator also takes http from issuers on this machine."""

import ipaddress
from collections.abc import Container
from typing import Final
from urllib.parse import urlsplit

HTTPS: Final = "https"
HTTP: Final = "http"


def without_scheme(url: str, own: Container[str]) -> str | None:
    """An issuer's URL as the ARN of its provider has it; None if the issuer is not safe.

    Args:
        url: The issuer's URL.
        own: The URLs of the issuers that the emulator serves itself, under any address.
    """
    scheme, _, rest = url.partition("://")
    if scheme == HTTPS or (scheme == HTTP and (url in own or _is_local(url))):
        return rest
    return None


def _is_local(url: str) -> bool:
    """Whether the URL's host is this machine."""
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
