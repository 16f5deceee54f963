"""Values that no request of a job has: with them, a comparison tries whether a policy allows more than the job."""

import re
from collections.abc import Iterator
from typing import Final

OTHER: Final = "another"

_PART: Final = re.compile(r"[^.:/]+")


def other_values(value: str) -> Iterator[str]:
    """Values that differ from a value: as a whole, and in one part of a host name, an ARN or the name of an account."""
    yield OTHER
    parts = list(_PART.finditer(value))
    for part in parts if len(parts) > 1 else ():
        yield f"{value[: part.start()]}{OTHER}{value[part.end() :]}"
