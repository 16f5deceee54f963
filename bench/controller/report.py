"""The results as a table and as a JSON document."""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Final

from rich.console import Console
from rich.table import Table

from bench.controller.measurement import Result, Row, Scale, figures_of
from bench.controller.quiet_machine import Machine

_WORDS: Final = ("", "unit")
_NUMBERS: Final = ("ours", "peer", "limit", "ours / limit", "ours / peer")

_WIDTH: Final = 132
"""Characters of a line that is not shown in a terminal."""

_WHOLE: Final = 100
"""The number from which decimals do not count."""


def document(
    *,
    scale: Scale,
    machine: Machine,
    rows: Sequence[Row],
    results: Sequence[Result],
    problem: str | None,
) -> dict[str, object]:
    """The results as JSON; `problem` says why some are missing."""
    ours, peer = figures_of(results, "ours"), figures_of(results, "peer")
    return {
        "problem": problem,
        "scale": asdict(scale),
        "machine": {**asdict(machine), "is_quiet": machine.is_quiet},
        "rows": [
            {
                **asdict(row),
                "ours": ours.get(row.id),
                "peer": peer.get(row.id),
                "ours_to_limit": ratio(ours.get(row.id), row.limit),
                "ours_to_peer": ratio(ours.get(row.id), peer.get(row.id)),
            }
            for row in rows
        ],
        "details": [
            {"measurement": result.measurement, "contender": result.contender, "details": result.findings.details}
            for result in results
        ],
    }


def print_table(rows: Sequence[Row], results: Sequence[Result]) -> None:
    """Print a line for each row; a dash stands for what was not measured, or has no limit."""
    ours, peer = figures_of(results, "ours"), figures_of(results, "peer")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in _WORDS:
        table.add_column(column, no_wrap=True)
    for column in _NUMBERS:
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        figures = (ours.get(row.id), peer.get(row.id), row.limit)
        ratios = (ratio(ours.get(row.id), row.limit), ratio(ours.get(row.id), peer.get(row.id)))
        misses = row.limit is not None and (figure := ours.get(row.id)) is not None and figure > row.limit
        table.add_row(row.text, row.unit, *map(_number, (*figures, *ratios)), style="red" if misses else "")
    width = None if sys.stdout.isatty() else _WIDTH
    Console(width=width, highlight=False, markup=False).print(table)


def ratio(figure: float | None, other: float | None) -> float | None:
    """The figure over the other one; None if either is missing, or the other one is 0."""
    return figure / other if figure is not None and other else None


def _number(value: float | None) -> str:
    """A number with three digits that count."""
    if value is None:
        return "-"
    return f"{value:.0f}" if value == int(value) or abs(value) >= _WHOLE else f"{value:#.3g}"
