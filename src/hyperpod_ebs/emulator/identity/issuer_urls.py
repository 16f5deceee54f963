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
    host = _host(url)
    is_safe = scheme == HTTPS or (scheme == HTTP and (url in own or _is_local(host)))
    return rest if host and is_safe else None


def _host(url: str) -> str:
    """The host of a URL; empty if it has none."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:  # an address with a missing bracket
        return ""


def _is_local(host: str) -> bool:
    """Whether the host is this machine."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
