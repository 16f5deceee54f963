"""How the demo shows itself while it runs: live in a terminal, as plain lines elsewhere, silent for JSON."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.live import Live

from hyperpod_ebs.demo.picture import Picture, calls_text
from hyperpod_ebs.demo.report import Moment, Step


class Screen(Protocol):
    """Is told of each step as it begins and ends, and of the volumes' states as they change."""

    def began(self, name: str) -> None:
        """A step has begun."""

    def ended(self, step: Step) -> None:
        """The step that began last has ended."""

    def moved(self, history: Sequence[Moment]) -> None:
        """This is the volumes' history up to now."""


class Silent:
    """Shows nothing."""

    def began(self, name: str) -> None:
        """Show nothing."""

    def ended(self, step: Step) -> None:
        """Show nothing."""

    def moved(self, history: Sequence[Moment]) -> None:
        """Show nothing."""


class Lines(Silent):
    """One line for each step that has ended."""

    def __init__(self, console: Console) -> None:
        """Lines go to `console`."""
        self._console = console

    def ended(self, step: Step) -> None:
        """Print it."""
        text = f"{step.seconds:7.2f} s  {step.name}: {step.result}  [{calls_text(step.calls)}]"
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def shown(console: Console) -> Generator[Screen]:
    """A screen that fits the console."""
    if not live(console):
        yield Lines(console)
        return
    picture = Picture()
    with Live(picture, console=console, refresh_per_second=8, transient=True):
        yield picture


def live(console: Console) -> bool:
    """Whether a picture can be drawn over in place; a dumb terminal cannot do that."""
    return console.is_terminal and not console.is_dumb_terminal
