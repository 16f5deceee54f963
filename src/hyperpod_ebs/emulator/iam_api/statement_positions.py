"""Where the statements of a policy document begin and end, as SimulatePrincipalPolicy reports matched statements.

AWS counts lines and columns from 1. A statement begins after the bracket, comma or colon before it,
and ends after its closing brace.
"""

import functools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

_SPACE: Final = re.compile(r"[ \t\n\r]*")
_DECODER: Final = json.JSONDecoder()


@dataclass(frozen=True, slots=True)
class Span:
    """The positions of a statement: characters from the document's start."""

    start: int
    end: int


@functools.lru_cache(maxsize=16)
def statement_spans(document: str) -> Sequence[Span]:
    """The statements of a valid document, in order."""
    start, end = next((start, end) for name, start, end in _members(document) if name == "Statement")
    bracket = _skip_space(document, start)
    if document[bracket] != "[":
        return [Span(start, end)]
    spans: list[Span] = []
    at = bracket + 1
    while document[_skip_space(document, at)] != "]":
        _, after = _DECODER.raw_decode(document, _skip_space(document, at))
        spans.append(Span(at, after))
        comma = _skip_space(document, after)
        at = comma + 1 if document[comma] == "," else comma
    return spans


def position(document: str, offset: int) -> Mapping[str, int]:
    """The line and column of a character, as IAM answers positions."""
    before = document[:offset]
    return {"Line": before.count("\n") + 1, "Column": offset - (before.rfind("\n") + 1) + 1}


def _members(document: str) -> Iterator[tuple[str, int, int]]:
    """The members of the document: the name, the character after the colon, and the character after the value."""
    at = _skip_space(document, 0) + 1
    while document[_skip_space(document, at)] != "}":
        name, after_name = _DECODER.raw_decode(document, _skip_space(document, at))
        start = _skip_space(document, after_name) + 1
        _, end = _DECODER.raw_decode(document, _skip_space(document, start))
        yield str(name), start, end
        comma = _skip_space(document, end)
        at = comma + 1 if document[comma] == "," else comma


def _skip_space(document: str, at: int) -> int:
    match = _SPACE.match(document, at)
    return match.end() if match else at
