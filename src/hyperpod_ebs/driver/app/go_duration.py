"""Durations as flags of Go programs have them, such as `2s`, `500ms` and `1m30s` (Go, time.ParseDuration)."""

import re
from typing import Final

_SECONDS: Final = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART: Final = re.compile(r"(\d+\.?\d*|\.\d+)(" + "|".join(_SECONDS) + ")", re.ASCII)


def parse_go_duration(text: str) -> float:
    """The seconds of a duration that is not negative.

    Raises:
        ValueError: The text is not such a duration.
    """
    if text == "0":
        return 0.0
    parts = list(_PART.finditer(text))
    if not parts or "".join(part[0] for part in parts) != text:
        raise ValueError(f"{text!r} is not a duration, such as 2s or 500ms")
    return sum(float(part[1]) * _SECONDS[part[2]] for part in parts)
