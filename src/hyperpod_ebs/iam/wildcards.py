"""Comparison of a text with asterisks and question marks.

Callers write both the policies and many of the texts. So the time must not grow with the product of both lengths: each
chunk between two asterisks is searched once, from left to right, because its first place is as good as any later one.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Text:
    """Literal text."""

    value: str


@dataclass(frozen=True, slots=True)
class Wildcard:
    """An asterisk, which stands for any text, or a question mark, which stands for one character."""

    mark: str


Part = Text | Wildcard


@dataclass(frozen=True, slots=True)
class Chunk:
    """What a pattern has between two asterisks."""

    text: str
    gaps: frozenset[int]
    """The places of question marks, where any character fits."""

    def fits(self, text: str, at: int) -> bool:
        """Whether the chunk matches the text at this place."""
        if not self.gaps:
            return text.startswith(self.text, at)
        given = text[at : at + len(self.text)]
        return len(given) == len(self.text) and all(
            place in self.gaps or own == given[place] for place, own in enumerate(self.text)
        )

    def find(self, text: str, start: int, end: int) -> int:
        """The first place from `start` where the chunk matches the text before `end`; -1 if there is none."""
        return self._find_with_gaps(text, start, end) if self.gaps else text.find(self.text, start, end)

    def _find_with_gaps(self, text: str, start: int, end: int) -> int:
        """Search with the algorithm Shift-And.

        Bit n of `reached` says whether the last n + 1 characters of the text match the first ones of the chunk.
        """
        anything, masks = sum(1 << place for place in self.gaps), dict[str, int]()
        for place, character in enumerate(self.text):
            masks[character] = masks.get(character, anything) | 1 << place
        whole, reached = 1 << (len(self.text) - 1), 0
        for place in range(start, end):
            reached = (reached << 1 | 1) & masks.get(text[place], anything)
            if reached & whole:
                return place + 1 - len(self.text)
        return -1


@dataclass(frozen=True, slots=True)
class Glob:
    """A compiled pattern."""

    first: Chunk
    others: tuple[Chunk, ...]
    """The chunks after each asterisk; empty if there is no asterisk."""

    @classmethod
    def compile(cls, parts: Iterable[Part]) -> Self:
        """Compile the parts of a pattern."""
        texts, gaps = [""], [set[int]()]
        for part in parts:
            if isinstance(part, Text):
                texts[-1] += part.value
            elif part.mark == "?":
                gaps[-1].add(len(texts[-1]))
                texts[-1] += part.mark
            else:
                texts.append("")
                gaps.append(set())
        first, *others = (Chunk(text, frozenset(places)) for text, places in zip(texts, gaps, strict=True))
        return cls(first, tuple(others))

    def is_match(self, text: str) -> bool:
        """Whether the whole text matches."""
        at, end = len(self.first.text), len(text)
        if not self.others:
            return at == end and self.first.fits(text, 0)
        *between, last = self.others
        end -= len(last.text)
        if at > end or not self.first.fits(text, 0) or not last.fits(text, end):
            return False
        for chunk in between:
            if (found := chunk.find(text, at, end)) < 0:
                return False
            at = found + len(chunk.text)
        return True
