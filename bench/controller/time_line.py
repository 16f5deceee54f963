"""The time line of a burst: tokens left, calls that wait for an answer and attached volumes, as SVG and as text."""

import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from bench.controller.buckets import Buckets
from bench.controller.sidecars import Call

_BARS: Final = "▁▂▃▄▅▆▇█"
_COLUMNS: Final = 72
"""Characters of a line of text."""

_WIDTH: Final = 900
_HEIGHT: Final = 150
_MARGIN: Final = 60
_GAP: Final = 50
_COLOURS: Final = ("#1f77b4", "#d62728", "#2ca02c")


@dataclass(frozen=True, slots=True)
class Sample:
    """One reading of the buckets."""

    instant: float
    """Unix seconds."""
    buckets: Buckets


@dataclass(frozen=True, slots=True)
class Series:
    """A quantity over time."""

    name: str
    values: Sequence[float]
    """One for each instant of the time line."""


@dataclass(frozen=True, slots=True)
class TimeLine:
    """Quantities at the same instants, in panels."""

    instants: Sequence[float]
    """Seconds since the first."""
    panels: Mapping[str, Sequence[Series]]
    """By title."""

    @classmethod
    def build(
        cls, samples: Sequence[Sample], *, calls: Sequence[Call], attached: Sequence[float], buckets: Sequence[str]
    ) -> "TimeLine":
        """The time line of a burst.

        Args:
            samples: The readings of the buckets, at whose instants everything is shown.
            calls: The calls of the controller.
            attached: When volumes became attached: Unix seconds.
            buckets: The buckets to show.
        """
        instants = [sample.instant for sample in samples]
        names = sorted({call.rpc for call in calls})
        done = sorted(attached)
        return cls(
            [instant - instants[0] for instant in instants],
            {
                "tokens left": [Series(name, [sample.buckets[name].tokens for sample in samples]) for name in buckets],
                "calls asked and not answered": [
                    Series(name, _waiting([call for call in calls if call.rpc == name], instants)) for name in names
                ],
                "attached volumes": [Series("attached", [bisect.bisect(done, instant) for instant in instants])],
            },
        )

    def text(self, title: str) -> str:
        """The time line as lines of bars, each with its least and its greatest value."""
        every = [series for panel in self.panels.values() for series in panel]
        label = max(len(series.name) for series in every)
        lines = [f"{title}, {self.instants[-1]:.0f} s"]
        for name, panel in self.panels.items():
            lines += ["", name]
            lines += [
                f"  {series.name:{label}}  {_bars(series.values)}  {min(series.values):.0f} to {max(series.values):.0f}"
                for series in panel
            ]
        return "\n".join(lines) + "\n"

    def svg(self, title: str) -> str:
        """The time line as a picture with a panel below the other."""
        height = _MARGIN + len(self.panels) * (_HEIGHT + _GAP)
        box = f'viewBox="0 0 {_WIDTH + 2 * _MARGIN} {height}"'
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" {box} font-family="sans-serif" font-size="12">',
            '<rect width="100%" height="100%" fill="white"/>',
            f'<text x="{_MARGIN}" y="22" font-size="15">{escape(title)}</text>',
        ]
        for number, (name, panel) in enumerate(self.panels.items()):
            parts += self._panel(name, panel, top=_MARGIN + number * (_HEIGHT + _GAP))
        return "\n".join([*parts, "</svg>", ""])

    def _panel(self, name: str, panel: Sequence[Series], *, top: int) -> Sequence[str]:
        most = max((value for series in panel for value in series.values), default=0) or 1
        span = self.instants[-1] or 1
        bottom = top + _HEIGHT
        parts = [
            f'<path d="M{_MARGIN} {top}V{bottom}H{_MARGIN + _WIDTH}" fill="none" stroke="#888"/>',
            f'<text x="{_MARGIN}" y="{top - 8}">{escape(name)}</text>',
            f'<text x="{_MARGIN - 6}" y="{top + 10}" text-anchor="end">{most:.0f}</text>',
            f'<text x="{_MARGIN - 6}" y="{bottom}" text-anchor="end">0</text>',
            f'<text x="{_MARGIN + _WIDTH}" y="{bottom + 16}" text-anchor="end">{span:.0f} s</text>',
        ]
        for number, series in enumerate(panel):
            colour = _COLOURS[number % len(_COLOURS)]
            points = " ".join(
                f"{_MARGIN + _WIDTH * instant / span:.1f},{bottom - _HEIGHT * value / most:.1f}"
                for instant, value in zip(self.instants, series.values, strict=True)
            )
            place = _MARGIN + 220 * (number + 1)
            parts += [
                f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>',
                f'<text x="{place}" y="{top - 8}" fill="{colour}">{escape(series.name)}</text>',
            ]
        return parts


def _waiting(calls: Sequence[Call], instants: Sequence[float]) -> list[float]:
    """The calls that are asked and not answered at each instant."""
    asked, answered = sorted(call.asked for call in calls), sorted(call.answered for call in calls)
    return [bisect.bisect(asked, instant) - bisect.bisect(answered, instant) for instant in instants]


def _bars(values: Sequence[float]) -> str:
    """A character for each part of the values: the height of the part's last value over the greatest of all."""
    most = max(values) or 1
    count = min(_COLUMNS, len(values))
    last = [values[(number + 1) * len(values) // count - 1] for number in range(count)]
    return "".join(_BARS[round((len(_BARS) - 1) * value / most)] for value in last)
