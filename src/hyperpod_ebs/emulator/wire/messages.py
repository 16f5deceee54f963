"""A request and its reply, as bytes came in and as bytes go out."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """An HTTP request, nothing in it decoded yet."""

    method: str

    path: str
    """As sent: still escaped, without the query."""

    query: str
    """As sent: what follows the question mark."""

    headers: Mapping[str, str]
    """Names in small letters; the values of a repeated one joined by commas."""

    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An HTTP answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes
