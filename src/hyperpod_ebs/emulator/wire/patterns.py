r"""Java's regular expressions, which the models are written in, as Python's.

Python has no `\p{L}`: the general categories become ranges of code points, found
once in `unicodedata`.
"""

import functools
import re
import unicodedata
from itertools import groupby
from typing import Final

_PROPERTY: Final = re.compile(r"\\p\{(L|M|N|P|S|Z|Alnum)\}")

# Above these planes there are only marks of the tag block, which no AWS pattern is about.
_CODE_POINTS: Final = range(0x32400)


def python_pattern(java: str) -> re.Pattern[str] | None:
    """`java` for Python, None where Python cannot say it.

    A handful of SageMaker's patterns are none (a quantified `$`, halves of surrogate
    pairs); what they are about is not checked.
    """
    try:
        return re.compile(_with_properties(java))
    except re.error:
        return None


def _with_properties(java: str) -> str:
    """`java` with each named class written out, which may stand in brackets of its own or within others."""
    parts: list[str] = []
    at = 0
    for match in _PROPERTY.finditer(java):
        before = java[at : match.start()]
        parts.append(before)
        inside = _in_brackets(java[: match.start()])
        parts.append(_ranges(match[1]) if inside else f"[{_ranges(match[1])}]")
        at = match.end()
    return "".join(parts) + java[at:]


def _in_brackets(text: str) -> bool:
    """Whether a character class is open at the end of `text`."""
    bare = re.sub(r"\\.", "", text)
    return bare.rfind("[") > bare.rfind("]")


def _ranges(name: str) -> str:
    if name == "Alnum":
        return "a-zA-Z0-9"
    return _categories()[name]


@functools.cache  # what Unicode says does not change while we run
def _categories() -> dict[str, str]:
    found: dict[str, list[str]] = {}
    for category, group in groupby(_CODE_POINTS, key=lambda code: unicodedata.category(chr(code))[0]):
        codes = list(group)
        found.setdefault(category, []).append(f"\\U{codes[0]:08x}-\\U{codes[-1]:08x}")
    return {category: "".join(ranges) for category, ranges in found.items()}
