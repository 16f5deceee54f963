"""Patterns of policies: wildcards, and policy variables such as ${aws:username}.

Sources: IAM User Guide, "IAM policy elements: Variables and tags" and "IAM JSON policy
elements: Resource".
"""

import functools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from hyperpod_ebs.iam.request import Context

ARN_FIELDS: Final = 6
"""Fields of an ARN between colons; the last one, the resource, may contain colons."""

_PART: Final = re.compile(
    r"\$\{(?P<special>[*?$])\}"
    r"|\$\{\s*(?P<key>[^{}',\s]+)\s*(?:,\s*'(?P<default>[^']*)'\s*)?\}"
    r"|(?P<wildcard>[*?])"
    r"|(?P<literal>[^$*?]+|\$)"
)


@dataclass(frozen=True, slots=True)
class Text:
    """Literal text."""

    value: str


@dataclass(frozen=True, slots=True)
class Wildcard:
    """An asterisk, which stands for any text, or a question mark, which stands for one character."""

    mark: str


@dataclass(frozen=True, slots=True)
class Variable:
    """A condition key that its value replaces."""

    key: str
    default: str | None


@dataclass(frozen=True, slots=True)
class Pattern:
    """A string of a policy in which only wildcards are special."""

    parts: tuple[Text | Wildcard, ...]

    @property
    def text(self) -> str:
        """The string; wildcards are plain characters."""
        return "".join(part.value if isinstance(part, Text) else part.mark for part in self.parts)

    def is_match(self, text: str, *, ignores_case: bool = False) -> bool:
        """Whether the whole text matches; an asterisk stands for any characters."""
        return _fullmatch(self._regex(is_arn=False), ignores_case)(text) is not None

    def is_arn_match(self, arn: str) -> bool:
        """Whether the ARN matches field by field: a wildcard does not cross a colon before the last field."""
        return _fullmatch(self._regex(is_arn=True), ignores_case=False)(arn) is not None

    def _regex(self, *, is_arn: bool) -> str:
        """The regular expression.

        All but the last chunk of text after an asterisk are atomic groups: their first match is as good as any
        other, and without backtracking the time is proportional to the product of both lengths.
        """
        colons = sum(part.value.count(":") for part in self.parts if isinstance(part, Text))
        last = min(colons, ARN_FIELDS - 1) if is_arn else 0
        expression, chunk, field, star = "", "", 0, ""
        for part in self.parts:
            if isinstance(part, Text):
                chunk += re.escape(part.value)
                field += part.value.count(":")
                continue
            anything = "." if field >= last else "[^:]"
            if part.mark == "?":
                chunk += anything
                continue
            expression += f"(?>{star}{chunk})" if star else chunk
            star, chunk = f"{anything}*?", ""
        return expression + star + chunk


@dataclass(frozen=True, slots=True)
class Template:
    """A string of a policy that may contain policy variables."""

    source: str
    parts: tuple[Text | Wildcard | Variable, ...]

    def resolve(self, context: Context) -> Pattern | None:
        """Replace the variables; None if the request lacks one that has no default.

        A variable with several values has no single text, so it counts as missing.
        """
        parts: list[Text | Wildcard] = []
        for part in self.parts:
            if not isinstance(part, Variable):
                parts.append(part)
                continue
            values = context.get(part.key)
            value = values[0] if len(values) == 1 else part.default
            if value is None:
                return None
            parts.append(Text(value))
        return Pattern(tuple(parts))

    @property
    def constant(self) -> Pattern | None:
        """The pattern, unless it depends on the request."""
        parts = [part for part in self.parts if not isinstance(part, Variable)]
        return Pattern(tuple(parts)) if len(parts) == len(self.parts) else None


def parse(source: str, *, variables: bool) -> Template:
    """Parse a string of a policy.

    Args:
        source: The string, as the document has it.
        variables: Whether the string may contain policy variables; version 2008-10-17 of the language has none.
    """
    if not variables:
        pieces = re.findall(r"[*?]|[^*?]+", source)
        return Template(source, tuple(Wildcard(piece) if piece in "*?" else Text(piece) for piece in pieces))
    parts: list[Text | Wildcard | Variable] = []
    for match in _PART.finditer(source):
        if match["key"] is not None:
            parts.append(Variable(match["key"], match["default"]))
        elif match["wildcard"] is not None:
            parts.append(Wildcard(match["wildcard"]))
        else:
            parts.append(Text(match["special"] or match["literal"]))
    return Template(source, tuple(parts))


@dataclass(frozen=True, slots=True)
class ArnPatterns:
    """The Resource or NotResource element of a statement."""

    constants: frozenset[str]
    """Patterns without wildcards and variables."""

    patterns: Sequence[Pattern]
    templates: Sequence[Template]

    @classmethod
    def compile(cls, templates: Sequence[Template]) -> "ArnPatterns":
        """Sort the strings of the element by what comparing them takes."""
        patterns = [pattern for template in templates if (pattern := template.constant)]
        return cls(
            constants=frozenset(pattern.text for pattern in patterns if _is_plain(pattern)),
            patterns=[pattern for pattern in patterns if not _is_plain(pattern)],
            templates=[template for template in templates if template.constant is None],
        )

    def is_match(self, arn: str, context: Context) -> bool | None:
        """Whether the ARN matches one of the strings; None if none matches and a policy variable is missing."""
        if arn in self.constants or any(pattern.is_arn_match(arn) for pattern in self.patterns):
            return True
        resolved = [template.resolve(context) for template in self.templates]
        if any(pattern is not None and pattern.is_arn_match(arn) for pattern in resolved):
            return True
        return None if None in resolved else False


def _is_plain(pattern: Pattern) -> bool:
    return all(isinstance(part, Text) for part in pattern.parts)


@functools.lru_cache(maxsize=8192)
def _fullmatch(regex: str, ignores_case: bool) -> Callable[[str], re.Match[str] | None]:  # noqa: FBT001 - a cache's key
    return re.compile(regex, re.DOTALL | (re.IGNORECASE if ignores_case else 0)).fullmatch
