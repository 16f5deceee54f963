"""HTTP requests and replies as bytes, before parsing and after writing."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl


@dataclass(frozen=True, kw_only=True)
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

    @functools.cached_property
    def form(self) -> Sequence[tuple[str, str]]:
        """The parameters in the query and, if the body is a form, those in the body."""
        is_form = self.headers.get("content-type", "").startswith("application/x-www-form-urlencoded")
        texts = [self.query, self.body.decode(errors="replace")] if is_form else [self.query]
        return [pair for text in texts for pair in parse_qsl(text, keep_blank_values=True)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An HTTP reply."""

    status: int
    headers: Mapping[str, str]
    body: bytes
