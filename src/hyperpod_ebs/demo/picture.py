"""The demo in a terminal: what runs now while it runs, and all of it at the end."""

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

TITLE: Final = "A volume's whole life on HyperPod nodes"
WIDEST: Final = 120
"""Columns that are used at most: a longer line is not easier to read."""

_NAME: Final = 35
_SECONDS: Final = 8
_CALLS: Final = len("DescribeVolumesModifications x9,")
_LEAST: Final = 3
"""Steps that are shown in even the lowest terminal."""

_SCALE: Final = 15.0
"""Seconds by which the time line of a running demo gets longer at once, so that it stands still meanwhile."""


class Picture:
    """The steps so far, the one under way, and the states of the volumes; it never outgrows the terminal."""

    def __init__(self, title: str = TITLE, *, below: int = 0) -> None:
        """Nothing has been done yet; `below` are the terminal's lines that are for somebody else."""
        self._title, self._below = title, below
        self._steps: list[Step] = []
        self._history: Sequence[Moment] = ()
        self._now: str | None = None
        self._since = time.monotonic()
        self._start = self._since

    def began(self, name: str) -> None:
        """Show it turning."""
        self._spinner = Spinner("dots", style="cyan")
        self._now, self._since = name, time.monotonic()

    def ended(self, step: Step) -> None:
        """Add it to the steps."""
        self._steps.append(step)
        self._now = None

    def moved(self, history: Sequence[Moment]) -> None:
        """Draw it next time."""
        self._history = history

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = min(options.max_width, WIDEST)
        states = self._states(width, colours=colourful(console))
        room = max(
            console.height - len(states) - 4 - self._below, _LEAST
        )  # title, blank line, step under way, last line
        table = _grid(width)
        hidden = len(self._steps) - room
        for step in self._steps[-room + (hidden > 0) :] if hidden > 0 else self._steps:
            table.add_row(Text("✓", "green"), step.name, f"{step.seconds:.2f} s", Text(calls_text(step.calls), "dim"))
        yield Text(self._title, "bold", no_wrap=True)
        if hidden > 0:
            yield Text(f"  … {hidden + 1} steps before", "dim")
        yield table
        yield self._under_way(width)
        yield Group(*states)

    def _under_way(self, width: int) -> RenderableType:
        row = _grid(width)
        if self._now is not None:
            seconds = f"{time.monotonic() - self._since:.1f} s"
            row.add_row(self._spinner, Text(self._now, "bold cyan"), Text(seconds, "cyan"), "")
        return row

    def _states(self, width: int, *, colours: bool) -> list[Text]:
        if not self._history:
            return []
        bars = timeline.lines(self._history, width=width, colours=colours, now=time.time(), least=_SCALE)
        return [Text(), *bars]


def closing(report: Report, console: Console) -> Iterator[RenderableType]:
    """The table of all steps and the time line of the volumes' states."""
    width = min(console.width, WIDEST)
    yield Text(TITLE, "bold")
    yield steps_table(report.steps, width)
    if report.history:
        yield Text("States of the volumes over time", "bold")
        yield from timeline.lines(report.history, width=width, colours=colourful(console))
        yield Text()


def steps_table(steps: Sequence[Step], width: int) -> Table:
    """A row for each step: what came out, its time, its calls; and the sums."""
    total = sum(sum(step.calls.values()) for step in steps)
    table = Table(box=box.SIMPLE, width=width, pad_edge=False, padding=(0, 1, 0, 0), show_footer=True)
    table.add_column("step", "all of it", ratio=1, overflow="fold")
    table.add_column("seconds", f"{sum(step.seconds for step in steps):.2f}", justify="right", width=7)
    table.add_column("AWS calls", f"{total}", width=max(_CALLS, width * 2 // 5))
    for step in steps:
        said = Text.assemble((step.name, "bold"), "\n", (step.result, "dim"))
        table.add_row(said, f"{step.seconds:.2f}", calls_text(step.calls))
    return table


def calls_text(calls: Mapping[str, int]) -> str:
    """The operations called, most often first; with their service where two have one of that name."""
    names = Counter(key.partition(":")[2] for key in calls)
    ordered = sorted(calls.items(), key=lambda item: (-item[1], item[0]))
    told = ((key if names[name := key.partition(":")[2]] > 1 else name, count) for key, count in ordered)
    return ", ".join(f"{name} x{count}" if count > 1 else name for name, count in told) or "none"


def colourful(console: Console) -> bool:
    """Whether states can be told apart by colour, and drawn as lines."""
    return console.color_system is not None and not console.no_color and not console.options.ascii_only


def _grid(width: int) -> Table:
    """Columns that stay where they are while rows come."""
    table = Table.grid(padding=(0, 1, 0, 0))
    table.width = width
    table.add_column(width=1)
    table.add_column(width=_NAME, no_wrap=True, overflow="ellipsis")
    table.add_column(width=_SECONDS, justify="right")
    table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    return table
