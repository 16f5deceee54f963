"""The demo in a terminal: a live view while it runs, and tables of everything at the end."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from hyperpod_ebs.demo import timeline
from hyperpod_ebs.demo.report import Moment, Report, Step

TITLE: Final = "The life of a volume on HyperPod nodes"
MAX_WIDTH: Final = 120
"""Columns used at most; longer lines are hard to read."""

_NAME_WIDTH: Final = 35
_SECONDS_WIDTH: Final = 8
_CALLS_WIDTH: Final = len("DescribeVolumesModifications x9,")
_MIN_STEPS: Final = 3
"""Steps that are shown even in a terminal with few lines."""

_SCALE_STEP: Final = 15.0
"""Seconds by which the scale of the volumes' states grows, so that it stays the same between."""


class LiveView:
    """The finished steps, the current one, and the states of the volumes; never higher than the terminal."""

    def __init__(self, title: str = TITLE, *, reserved_lines: int = 0) -> None:
        """`reserved_lines` is the number of the terminal's lines that a subclass uses below."""
        self._title, self._reserved_lines = title, reserved_lines
        self._steps: list[Step] = []
        self._history: Sequence[Moment] = ()
        self._current: str | None = None
        self._current_start = 0.0

    def start_step(self, name: str) -> None:
        """Show the step with a spinner."""
        self._spinner = Spinner("dots", style="cyan")
        self._current, self._current_start = name, time.monotonic()

    def finish_step(self, step: Step) -> None:
        """Add the step to the table."""
        self._steps.append(step)
        self._current = None

    def update_history(self, history: Sequence[Moment]) -> None:
        """Draw the history from the next refresh on."""
        self._history = history

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = min(options.max_width, MAX_WIDTH)
        states = self._state_lines(width, colours=has_colours(console))
        # Besides the steps: the title, the current step, a blank line and the cursor's line.
        room = max(console.height - len(states) - 4 - self._reserved_lines, _MIN_STEPS)
        table = _grid(width)
        hidden = len(self._steps) - room
        for step in self._steps[-room + (hidden > 0) :] if hidden > 0 else self._steps:
            table.add_row(Text("✓", "green"), step.name, f"{step.seconds:.2f} s", Text(calls_text(step.calls), "dim"))
        yield Text(self._title, "bold", no_wrap=True)
        if hidden > 0:
            yield Text(f"  … {hidden + 1} earlier steps", "dim")
        yield table
        yield self._current_row(width)
        yield Group(*states)

    def _current_row(self, width: int) -> RenderableType:
        row = _grid(width)
        if self._current is not None:
            seconds = f"{time.monotonic() - self._current_start:.1f} s"
            row.add_row(self._spinner, Text(self._current, "bold cyan"), Text(seconds, "cyan"), "")
        return row

    def _state_lines(self, width: int, *, colours: bool) -> list[Text]:
        if not self._history:
            return []
        bars = timeline.lines(self._history, width=width, colours=colours, now=time.time(), scale_step=_SCALE_STEP)
        return [Text(), *bars]


def final_view(report: Report, console: Console) -> Iterator[RenderableType]:
    """A table of all steps, and the states of the volumes over time."""
    width = min(console.width, MAX_WIDTH)
    yield Text(TITLE, "bold")
    yield steps_table(report.steps, width)
    if report.history:
        yield Text("States of the volumes over time", "bold")
        yield from timeline.lines(report.history, width=width, colours=has_colours(console))
        yield Text()


def steps_table(steps: Sequence[Step], width: int) -> Table:
    """A row for each step with its result, time and calls, and a row with the sums."""
    total = sum(sum(step.calls.values()) for step in steps)
    table = Table(box=box.SIMPLE, width=width, pad_edge=False, padding=(0, 1, 0, 0), show_footer=True)
    table.add_column("step", "total", ratio=1, overflow="fold")
    table.add_column("seconds", f"{sum(step.seconds for step in steps):.2f}", justify="right", width=7)
    table.add_column("AWS calls", f"{total}", width=max(_CALLS_WIDTH, width * 2 // 5))
    for step in steps:
        description = Text.assemble((step.name, "bold"), "\n", (step.result, "dim"))
        table.add_row(description, f"{step.seconds:.2f}", calls_text(step.calls))
    return table


def calls_text(calls: Mapping[str, int]) -> str:
    """The operations called, most frequent first; with the service's name if two services have such an operation."""
    names = Counter(key.partition(":")[2] for key in calls)
    ordered = sorted(calls.items(), key=lambda item: (-item[1], item[0]))
    named = ((key if names[name := key.partition(":")[2]] > 1 else name, count) for key, count in ordered)
    return ", ".join(f"{name} x{count}" if count > 1 else name for name, count in named) or "none"


def has_colours(console: Console) -> bool:
    """Whether the console can show states as coloured lines."""
    return console.color_system is not None and not console.no_color and not console.options.ascii_only


def _grid(width: int) -> Table:
    """A table whose columns keep their widths as rows are added."""
    table = Table.grid(padding=(0, 1, 0, 0))
    table.width = width
    table.add_column(width=1)
    table.add_column(width=_NAME_WIDTH, no_wrap=True, overflow="ellipsis")
    table.add_column(width=_SECONDS_WIDTH, justify="right")
    table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    return table
