"""`hyperpod-ebs emulator calls`: show the latest calls, and follow further ones."""

import json
import os
import signal
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Final

from cyclopts import Parameter
from cyclopts.validators import Number
from rich.console import Console
from rich.text import Text

from hyperpod_ebs.emulator import state_directory
from hyperpod_ebs.emulator.commands import Output, StateDirectory, default_state, fail, not_running_message
from hyperpod_ebs.emulator.state.store import StateRefused

Row = Mapping[str, Any]  # a call as JSON

POLL: Final = 0.2
"""Seconds between two requests for new calls; the emulator keeps the calls of a longer time."""

_MAX_ALLOWED: Final = 3
"""The decisions that allow something, and that the table shows of a call."""

_HEAD: Final = f"{'TIME':12}  {'DURATION':>9}  {'REQUEST':36}  {'OUTCOME':26}  {'CALL':34}  WHO"


def calls(
    *,
    state: StateDirectory = None,
    count: Annotated[int, Parameter(validator=Number(gte=0, lte=1000))] = 20,
    follow: Annotated[bool, Parameter(negative="")] = False,
    output: Output = "table",
) -> int:
    """Show the latest calls: who called, what, the decision and the statement that decided, and the request id.

    Args:
        state: The state directory; the default is hyperpod-ebs/emulator in $XDG_STATE_HOME or ~/.local/state.
        count: The number of calls to show first; the emulator keeps the latest 1000.
        follow: Show further calls as they end, until Ctrl-C.
        output: Format: a table, or a JSON object in each line.
    """
    directory = (state or default_state()).resolve()
    try:
        if (url := state_directory.published_url(directory)) is None:
            return fail(not_running_message(directory))
        _show(url, count=count, follow=follow, output=output)
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (StateRefused, OSError) as error:
        return fail(f"the emulator on {directory} does not answer ({error}); {not_running_message(directory)}")
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not interrupt the end
    return 0


def _show(url: str, *, count: int, follow: bool, output: Output) -> None:
    console = Console(highlight=False, markup=False, soft_wrap=True, emoji=False)
    if output == "table":
        console.print(_HEAD)
    rows = _followed_calls(url, count) if follow else _read(url, count=count)["calls"]
    for row in rows:
        if output == "json":
            sys.stdout.write(f"{json.dumps(row)}\n")
            sys.stdout.flush()
        else:
            for line in _lines(row):
                console.print(line)


def _followed_calls(url: str, count: int) -> Iterator[Row]:
    """The latest calls, and then each further call once it has ended."""
    page = _read(url, count=count)
    first = page["calls"][0]["number"] if page["calls"] else page["last"] + 1
    after, shown = first - 1, set[int]()
    while True:
        ended = [row for row in page["calls"] if row["outcome"] != "under way"]
        running = [row["number"] for row in page["calls"] if row["outcome"] == "under way"]
        yield from (row for row in ended if row["number"] not in shown)
        # A call that is still under way is asked for again, with those that began after it.
        after = min(running) - 1 if running else page["last"]
        shown = {row["number"] for row in ended if row["number"] > after}
        time.sleep(POLL)
        page = _read(url, after=after)
        if page["last"] < after:  # the emulator was restarted, and its numbers too
            page, shown = _read(url), set()


def _read(url: str, **query: int) -> dict[str, Any]:  # Any: JSON
    parameters = "&".join(f"{name}={value}" for name, value in query.items())
    with urllib.request.urlopen(f"{url}/_emulator/calls/latest?{parameters}", timeout=10) as answer:  # noqa: S310 - http, published by the emulator
        page: dict[str, Any] = json.load(answer)
        return page


def _lines(row: Row) -> Sequence[Text]:
    """A call in the table: one line for the call, and one for each decision."""
    instant = f"{datetime.fromtimestamp(row['instant']).astimezone():%H:%M:%S.%f}"[:-3]
    duration = f"{row['seconds'] * 1000:.1f} ms"
    outcome = f"{'DENIED ' if row['denied'] else ''}{row['outcome']}"
    who = row["caller"] or "unknown caller"
    line = f"{instant:12}  {duration:>9}  {row['request_id']:36}  {outcome:26}  {row['operation']:34}  {who}"
    style = "bold red" if row["denied"] else "yellow" if row["outcome"] not in {"ok", "under way"} else ""
    resources = ", ".join(row["resources"]) + (f" and {row['further']} more" if row["further"] else "")
    return [
        _line(line, style),
        *([_line(f"    on {resources}", "dim")] if resources else []),
        *_decision_lines(row),
    ]


def _decision_lines(row: Row) -> Iterator[Text]:
    refusals = [each for each in row["decisions"] if each["verdict"] == "denied"]
    others = [each for each in row["decisions"] if each["verdict"] != "denied"]
    for decision in refusals:
        yield _line(f"    denied {_decision(decision, row)}", "red")
    for decision in others[:_MAX_ALLOWED]:
        yield _line(f"    {decision['verdict']} {_decision(decision, row)}", "dim")
    if left := len(others[_MAX_ALLOWED:]) + row["further_decisions"]:
        yield _line(f"    and {left} more decisions", "dim")


def _decision(decision: Row, row: Row) -> str:
    """What a decision is about, and why it was made."""
    who = "" if decision["principal"] == row["caller"] else f" to {decision['principal']}"
    return f"{decision['action']} on {decision['resource']}{who}: {decision['reason']}"


def _line(text: str, style: str) -> Text:
    """A line of the table, without the control characters that callers may have put into names."""
    return Text("".join(each if each.isprintable() else "?" for each in text), style=style)
