"""What the access tools print: results as a table or JSON on stdout; progress, questions and notes on stderr."""

import json
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Final, Literal

from rich.console import Console
from rich.table import Table

from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.kit.printable import printable

Output = Literal["table", "json"]
Row = Mapping[str, object]

_UNLIMITED: Final = 1_000_000
"""Characters of a line of piped output; a table is never measured wider than the console."""


class Declined(errors.Refused):
    """The user did not agree to an act that destroys or interrupts something, or could not be asked."""


def print_json(value: object) -> None:
    """Print a value as one JSON document."""
    sys.stdout.write(f"{json.dumps(value, indent=2, default=str)}\n")


def print_table(rows: Sequence[Row], columns: Sequence[str]) -> None:
    """Print a row for each mapping; a column's title is its key with spaces. Piped output is not wrapped."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column.replace("_", " ").upper(), overflow="fold")
    for row in rows:
        table.add_row(*(_cell(row.get(column)) for column in columns))
    console = Console(highlight=False, markup=False, emoji=False)
    if console.is_terminal:
        console.print(table)
        return
    console.width = _UNLIMITED
    console.width = max(console.measure(table).maximum, 1)
    with console.capture() as lines:
        console.print(table)
    sys.stdout.writelines(f"{line.rstrip()}\n" for line in lines.get().splitlines())


def print_sentence(text: str) -> None:
    """Print a result that is one sentence."""
    sys.stdout.write(f"{printable(text)}\n")


def note(text: str) -> None:
    """Print a line about the progress, to stderr."""
    sys.stderr.write(f"{printable(text)}\n")
    sys.stderr.flush()


def agrees(question: str, *, yes: bool) -> bool:
    """Whether the user answers with a yes, which `yes` gives without a question.

    Raises:
        Declined: There is no terminal to ask on.
    """
    if yes:
        return True
    if not sys.stdin.isatty():
        raise Declined(f"{question} There is no terminal to ask on; repeat the command with --yes")
    return _ask(f"{question} [y/N] ").casefold() in {"y", "yes"}


def confirm(question: str, *, yes: bool) -> None:
    """Ask for a yes, unless `yes` is given.

    Raises:
        Declined: The answer is another one, or there is no terminal to ask on.
    """
    if not agrees(question, yes=yes):
        raise Declined("nothing was changed")


def confirm_by_typing(explanation: str, word: str) -> None:
    """Explain what may be lost, and ask the user to type a word, such as the volume's id.

    Raises:
        Declined: The user types something else, or there is no terminal to ask on.
    """
    note(explanation)
    if not sys.stdin.isatty():
        raise Declined(f"there is no terminal on which {word} can be typed to confirm; nothing was changed")
    if _ask(f"Type {word} to confirm: ") != word:
        raise Declined("nothing was changed")


def _ask(prompt: str) -> str:
    """Ask for a line. Ctrl-C ends the question at once, also in a coroutine, whose loop would only note it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        sys.stderr.write(printable(prompt))
        sys.stderr.flush()
        return sys.stdin.readline().strip()
    finally:
        signal.signal(signal.SIGINT, before)


def _cell(value: object) -> str:
    if value is None or value in ("", [], ()):
        return "-"
    return printable(", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value))
