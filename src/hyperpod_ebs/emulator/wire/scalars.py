"""Single values as text: times, blobs, numbers and booleans on the wire."""

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

Scalar = Any  # str, int, float, bool, datetime or bytes, depending on the shape
Write = Callable[[Scalar], str]
Read = Callable[[str], Scalar]

_INTEGER: Final = re.compile(r"[+-]?[0-9]+")
_BOOLEANS: Final = {"true": True, "false": False}


def utc(value: datetime) -> datetime:
    """`value` in UTC.

    Raises:
        ValueError: The time has no time zone.
    """
    if value.tzinfo is None:
        raise ValueError(f"time {value} has no time zone")
    return value.astimezone(UTC)


def iso8601(value: datetime) -> str:
    """`value` with milliseconds, as EC2 and STS write times: 2026-01-02T03:04:05.678Z."""
    return utc(value).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def epoch(value: datetime) -> float:
    """Seconds since 1970 to the millisecond, as the JSON protocols write times."""
    seconds = round(utc(value).timestamp(), 3)
    return int(seconds) if seconds.is_integer() else seconds


def time_of(text: str) -> datetime:
    """The time in an ISO 8601 text; without a time zone it is in UTC.

    Raises:
        ValueError: The text is not a time.
    """
    value = datetime.fromisoformat(text)
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value


def blob_of(text: str) -> bytes:
    """The bytes that a base64 text encodes.

    Raises:
        ValueError: The text is not base64.
    """
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"{text!r} is not base64") from error


def base64_text(value: bytes) -> str:
    """`value` in base64."""
    return base64.b64encode(value).decode()


def _integer_of(text: str) -> int:
    if not _INTEGER.fullmatch(text):
        raise ValueError(f"{text!r} is not a whole number")
    return int(text)


def _boolean_of(text: str) -> bool:
    value = _BOOLEANS.get(text.lower())
    if value is None:
        raise ValueError(f"{text!r} is neither true nor false")
    return value


def _integer(value: int) -> str:
    return f"{value:d}"


def _boolean(value: object) -> str:
    if not isinstance(value, bool):
        raise TypeError(f"{value!r} is not a boolean")
    return "true" if value else "false"


READ: Final[Mapping[str, Read]] = {
    "string": str,
    "character": str,
    "integer": _integer_of,
    "long": _integer_of,
    "float": float,
    "double": float,
    "boolean": _boolean_of,
    "timestamp": time_of,
    "blob": blob_of,
}
"""Readers of text by the type of the shape. Each raises ValueError for invalid text."""

WRITE: Final[Mapping[str, Write]] = {
    "integer": _integer,
    "long": _integer,
    "float": repr,
    "double": repr,
    "boolean": _boolean,
    "timestamp": iso8601,
    "blob": base64_text,
}
"""Writers of values other than text, by the type of the shape."""
