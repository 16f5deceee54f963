"""Patterns of policies: wildcards, and policy variables such as ${aws:username}.

Sources: IAM User Guide, "IAM policy elements: Variables and tags" and "IAM JSON policy
elements: Resource".
"""

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from hyperpod_ebs.iam.request import Context
from hyperpod_ebs.iam.wildcards import Glob, Part, Text, Wildcard

ARN_FIELDS: Final = 6
"""Fields of an ARN between colons; the last one, the resource, may contain colons."""

_PART: Final = re.compile(
    r"\$\{(?P<special>[*?$])\}"
    r"|\$\{\s*(?P<key>[^{}',\s]+)\s*(?:,\s*'(?P<default>[^']*)'\s*)?\}"
    r"|(?P<wildcard>[*?])"
    r"|(?P<literal>[^$*?]+|\$)"
)


@dataclass(frozen=True, slots=True)
class Variable:
    """A condition key that its value replaces."""

    key: str
    default: str | None


@dataclass(frozen=True)
class Pattern:
    """A string of a policy in which only wildcards are special."""

    parts: tuple[Part, ...]

    @functools.cached_property
    def text(self) -> str:
        """The string; wildcards are plain characters."""
        return "".join(part.value if isinstance(part, Text) else part.mark for part in self.parts)

    def is_match(self, text: str) -> bool:
        """Whether the whole text matches; an asterisk stands for any characters."""
        return self._whole.is_match(text)

    def is_arn_match(self, arn: str) -> bool:
        """Whether the ARN matches field by field: a wildcard does not cross a colon before the last field."""
        fields = arn.split(":", len(self._fields) - 1)
        return len(fields) == len(self._fields) and all(
            own.is_match(field) for own, field in zip(self._fields, fields, strict=True)
        )

    @functools.cached_property
    def _whole(self) -> Glob:
        return Glob.compile(self.parts)

    @functools.cached_property
    def _fields(self) -> Sequence[Glob]:
        fields: list[list[Part]] = [[]]
        for part in self.parts:
            if isinstance(part, Wildcard):
                fields[-1].append(part)
                continue
            first, *others = part.value.split(":", ARN_FIELDS - len(fields))
            fields[-1].append(Text(first))
            fields.extend([Text(other)] for other in others)
        return [Glob.compile(field) for field in fields]


@dataclass(frozen=True)
class Template:
    """A string of a policy that may contain policy variables."""

    source: str
    parts: tuple[Part | Variable, ...]

    def resolve(self, context: Context) -> Pattern | None:
        """Replace the variables; None if the request lacks one that has no default.

        A variable with several values has no single text, so it counts as missing.
        """
        if self.constant is not None:
            return self.constant
        parts: list[Part] = []
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

    @functools.cached_property
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
    parts: list[Part | Variable] = []
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

    is_everything: bool
    """Whether one of the patterns is a bare asterisk."""

    constants: frozenset[str]
    """Patterns without wildcards and variables."""

    patterns: Sequence[Pattern]
    templates: Sequence[Template]

    @classmethod
    def compile(cls, templates: Sequence[Template]) -> "ArnPatterns":
        """Sort the strings of the element by what comparing them takes."""
        patterns = [pattern for template in templates if (pattern := template.constant)]
        return cls(
            is_everything=any(pattern.parts == (Wildcard("*"),) for pattern in patterns),
            constants=frozenset(pattern.text for pattern in patterns if _is_plain(pattern)),
            patterns=[pattern for pattern in patterns if not _is_plain(pattern)],
            templates=[template for template in templates if template.constant is None],
        )

    def is_match(self, arn: str, context: Context) -> bool | None:
        """Whether the ARN matches one of the strings; None if none matches and a policy variable is missing."""
        if self.is_everything or arn in self.constants or any(pattern.is_arn_match(arn) for pattern in self.patterns):
            return True
        resolved = [template.resolve(context) for template in self.templates]
        if any(pattern is not None and pattern.is_arn_match(arn) for pattern in resolved):
            return True
        return None if None in resolved else False


def _is_plain(pattern: Pattern) -> bool:
    return all(isinstance(part, Text) for part in pattern.parts)
