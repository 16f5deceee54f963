r"""Translation of the models' regular expressions from Java to Python.

Python's `re` does not support `\p{L}`. General categories become ranges of code points, which
are computed once from `unicodedata`.
"""

import functools
import re
import unicodedata
from itertools import groupby
from typing import Final

_PROPERTY: Final = re.compile(r"\\p\{(L|M|N|P|S|Z|Alnum)\}")

# Above these code points there are only tags, variation selectors and private characters; no AWS pattern needs them.
_CODE_POINTS: Final = range(0x32400)


def python_pattern(java: str) -> re.Pattern[str] | None:
    """The pattern for Python; None if Python cannot express it.

    Python cannot express a few of SageMaker's patterns (a quantified `$`, halves of surrogate pairs), so the members
    with these patterns are not checked.
    """
    try:
        return re.compile(_with_properties(java), re.ASCII)  # in Java, \w and \d are ASCII
    except re.error:
        return None


def _with_properties(java: str) -> str:
    r"""The pattern with each `\p{...}` written out as ranges, in brackets unless it is inside brackets already."""
    parts: list[str] = []
    end = 0
    for match in _PROPERTY.finditer(java):
        parts.append(java[end : match.start()])
        ranges = "a-zA-Z0-9" if match[1] == "Alnum" else _categories()[match[1]]
        unescaped = re.sub(r"\\.", "", java[: match.start()])
        inside_brackets = unescaped.rfind("[") > unescaped.rfind("]")
        parts.append(ranges if inside_brackets else f"[{ranges}]")
        end = match.end()
    return "".join(parts) + java[end:]


@functools.cache
def _categories() -> dict[str, str]:
    """The code points of each general category of Unicode, as ranges of a character class."""
    ranges: dict[str, list[str]] = {}
    for category, group in groupby(_CODE_POINTS, key=lambda code: unicodedata.category(chr(code))[0]):
        codes = list(group)
        ranges.setdefault(category, []).append(f"\\U{codes[0]:08x}-\\U{codes[-1]:08x}")
    return {category: "".join(parts) for category, parts in ranges.items()}
