"""How the demo shows itself: live in a terminal, as plain lines elsewhere, silent for JSON."""

import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Final, Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from hyperpod_ebs.demo.report import Moment, Report, Step

# A modification that is completed leaves the volume in use, which is what the bar then shows.
COLOURS: Final[Mapping[str, str]] = {
    "creating": "yellow",
    "available": "green",
    "attaching": "bright_yellow",
    "attached": "bright_green",
    "in-use": "bright_green",
    "detaching": "magenta",
    "busy": "red",
    "modifying": "bright_blue",
    "optimizing": "blue",
    "completed": "bright_green",
    "deleting": "bright_black",
}
_WIDTH: Final = 60
"""Cells of the time line."""


class Screen(Protocol):
    """Is told of each step as it begins and ends."""

    def began(self, name: str) -> None:
        """A step has begun."""

    def ended(self, step: Step) -> None:
        """The step that began last has ended."""


class Silent:
    """Shows nothing."""

    def began(self, name: str) -> None:
        """Show nothing."""

    def ended(self, step: Step) -> None:
        """Show nothing."""


class Lines:
    """One line for each step that has ended."""

    def __init__(self, console: Console) -> None:
        """Lines go to `console`."""
        self._console = console

    def began(self, name: str) -> None:
        """Wait for its end."""

    def ended(self, step: Step) -> None:
        """Print it."""
        self._console.print(
            f"{step.seconds:7.2f} s  {step.name}: {step.result}  [{calls_text(step.calls)}]",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )


class Picture:
    """The steps so far as a table, and a spinner for the one under way."""

    def __init__(self) -> None:
        """Nothing has been done yet."""
        self._steps: list[Step] = []
        self._now: str | None = None
        self._since = 0.0

    def __rich__(self) -> Group:
        table = steps_table(self._steps)
        if self._now is None:
            return Group(table)
        spinner = Spinner("dots", f"{self._now}  {time.monotonic() - self._since:.1f} s")
        return Group(table, spinner)

    def began(self, name: str) -> None:
        """Show it turning."""
        self._now, self._since = name, time.monotonic()

    def ended(self, step: Step) -> None:
        """Add it to the table."""
        self._steps.append(step)
        self._now = None


@contextmanager
def shown(console: Console) -> Generator[Screen]:
    """A screen that fits the console: a live picture in a terminal, lines elsewhere."""
    if not console.is_terminal:
        yield Lines(console)
        return
    picture = Picture()
    with Live(picture, console=console, refresh_per_second=10, transient=True):
        yield picture


def closing(report: Report) -> Group:
    """The table of all steps, the volumes' time line, and the balance."""
    total = sum(count for step in report.steps for count in step.calls.values())
    balance = Text(
        f"{report.seconds:.1f} s under the {report.profile} profile, {total} AWS calls; "
        + ("nothing is left behind" if report.clean else f"LEFT BEHIND: {report.document()['leftovers']}"),
        style="green" if report.clean else "bold red",
    )
    return Group(steps_table(report.steps), Text(), time_line(report.history), Text(), balance)


def steps_table(steps: Sequence[Step]) -> Table:
    """A row for each step: its time, result and calls."""
    table = Table(title="A volume's whole life on HyperPod nodes", title_justify="left")
    table.add_column("step")
    table.add_column("seconds", justify="right")
    table.add_column("result")
    table.add_column("AWS calls")
    for step in steps:
        table.add_row(Text(step.name), f"{step.seconds:.2f}", Text(step.result), calls_text(step.calls))
    return table


def calls_text(calls: Mapping[str, int]) -> str:
    """The operations called, most often first."""
    ordered = sorted(calls.items(), key=lambda item: (-item[1], item[0]))
    return (
        ", ".join(f"{name.partition(':')[2]}{f' x{count}' if count > 1 else ''}" for name, count in ordered) or "none"
    )


def time_line(history: Sequence[Moment]) -> Table:
    """A bar for each volume, from its creation to its end, coloured by its state."""
    table = Table(title="States of the volumes over time", title_justify="left", box=None, show_header=False)
    if not history:
        return table
    first, last = history[0].instant, max(moment.instant for moment in history)
    scale = _WIDTH / max(last - first, 0.001)
    for volume in dict.fromkeys(moment.volume for moment in history):
        table.add_row(volume, _bar([m for m in history if m.volume == volume], first, last, scale))
    used = dict.fromkeys(moment.state for moment in history if moment.state in COLOURS and moment.state != "completed")
    table.add_row("", Text("  ").join(Text("━━ ", COLOURS[state]) + Text(state) for state in used))
    return table


def _bar(moments: Sequence[Moment], first: float, last: float, scale: float) -> Text:
    bar = Text(" " * round((moments[0].instant - first) * scale))
    ends = [*moments, Moment(volume=moments[0].volume, state="", instant=last)]
    for now, then in pairwise(ends):
        if now.state in COLOURS:
            cells = round((then.instant - first) * scale) - round((now.instant - first) * scale)
            bar.append("━" * cells, COLOURS[now.state])
    return bar
