"""HTTP requests and replies as bytes, before parsing and after writing."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """An HTTP request, not decoded."""

    method: str

    path: str
    """The path as it was sent: escaped, without the query."""

    query: str
    """The query as it was sent, without the question mark."""

    headers: Mapping[str, str]
    """Headers by lower-case name; the values of a repeated header are joined by commas."""

    body: bytes

    source_ip: str = ""
    """The address of the client."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An HTTP reply."""

    status: int
    headers: Mapping[str, str]
    body: bytes
