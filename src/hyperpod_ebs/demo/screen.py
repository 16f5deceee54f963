"""What the demo prints while it runs: a live view in a terminal, plain lines elsewhere, nothing for JSON."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.live import Live

from hyperpod_ebs.demo.live_view import LiveView, calls_text
from hyperpod_ebs.demo.report import Moment, Step


class Screen(Protocol):
    """Shows the steps as they start and finish, and the states of the volumes as they change."""

    def start_step(self, name: str) -> None:
        """Show that a step has started."""

    def finish_step(self, step: Step) -> None:
        """Show that the step that was started last has finished."""

    def update_history(self, history: Sequence[Moment]) -> None:
        """Show the states of the volumes up to now."""


class SilentScreen:
    """Shows nothing."""

    def start_step(self, name: str) -> None:
        """Show nothing."""

    def finish_step(self, step: Step) -> None:
        """Show nothing."""

    def update_history(self, history: Sequence[Moment]) -> None:
        """Show nothing."""


class PlainScreen(SilentScreen):
    """Prints a line for each finished step."""

    def __init__(self, console: Console) -> None:
        """Print to `console`."""
        self._console = console

    def finish_step(self, step: Step) -> None:
        """Print the step's time, name, result and calls."""
        text = f"{step.seconds:7.2f} s  {step.name}: {step.result}  [AWS calls: {calls_text(step.calls)}]"
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def open_screen(console: Console) -> Generator[Screen]:
    """A live view if the console can show one, else plain lines."""
    if not can_redraw(console):
        yield PlainScreen(console)
        return
    view = LiveView()
    with Live(view, console=console, refresh_per_second=8, transient=True):
        yield view


def can_redraw(console: Console) -> bool:
    """Whether the console is a terminal that can draw over earlier output; a dumb one cannot."""
    return console.is_terminal and not console.is_dumb_terminal
