"""`hyperpod-ebs emulator`: run the embedded cloud, talk to it, look into it, throw it away."""

import asyncio
import json
import os
import shlex
import sys
import urllib.request
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter
from rich.console import Console
from rich.table import Table

from hyperpod_ebs.emulator import leftovers, lock
from hyperpod_ebs.emulator.identity import Identity
from hyperpod_ebs.emulator.state.store import StateRefused

app = App(name="emulator", help="The embedded cloud: EC2 EBS and SageMaker HyperPod with real block devices.")
# Named by its path, so that the other commands answer at once, without the server and the SDK's models.
app.command("hyperpod_ebs.emulator.process:run", name="run", help="Run the embedded cloud until SIGTERM or Ctrl-C.")

StateDirectory = Annotated[Path | None, Parameter(name="--state")]
Output = Literal["table", "json"]


def default_state() -> Path:
    """Where the state is unless told otherwise."""
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(home) / "hyperpod-ebs" / "emulator"


@app.command
def env(*, state: StateDirectory = None, output: Literal["shell", "json"] = "shell") -> int:
    """Print what an AWS CLI or SDK needs in its environment.

    Args:
        state: The state directory of the emulator that runs.
        output: Lines for a shell's eval, or one JSON object.
    """
    home = (state or default_state()).resolve()
    try:
        variables = Identity.read(home).environment(_url(home))
    except FileNotFoundError:
        return fail(f"no emulator runs on {home}: start one with `hyperpod-ebs emulator run --state {home}`")
    except (StateRefused, OSError) as refused:
        return fail(str(refused))
    if output == "json":
        say(json.dumps(variables))
    else:
        say("\n".join(f"export {name}={shlex.quote(value)}" for name, value in variables.items()))
    return 0


@app.command
def status(*, state: StateDirectory = None, output: Output = "table") -> int:
    """Show volumes, snapshots, attachments with their loop devices, instances and clusters.

    Args:
        state: The state directory of the emulator that runs.
        output: Tables, or one JSON object.
    """
    home = (state or default_state()).resolve()
    try:
        with urllib.request.urlopen(f"{_url(home)}/_emulator/status", timeout=10) as answer:  # noqa: S310 - our own http
            found: dict[str, list[dict[str, Any]]] = json.load(answer)  # ids, numbers, names
    except OSError:
        return fail(f"no emulator answers for {home}: start one with `hyperpod-ebs emulator run --state {home}`")
    if output == "json":
        say(json.dumps(found))
        return 0
    for title, rows in found.items():
        _show(title, rows)
    return 0


@app.command
def reset(*, state: StateDirectory = None) -> int:
    """Delete a state directory with everything in it, unless an emulator runs on it or something is still mounted.

    Args:
        state: The state directory to delete.
    """
    home = (state or default_state()).resolve()
    if not home.exists():
        say(f"{home} is not there: nothing to delete")
        return 0
    try:
        with lock.held(home):
            in_use = asyncio.run(leftovers.removed(home))
    except (StateRefused, OSError) as refused:
        return fail(str(refused))
    if in_use:
        return fail("\n".join(["still in use, so nothing more was deleted:", *in_use]))
    say(f"{home} is deleted")
    return 0


def _url(home: Path) -> str:
    """Where the emulator of `home` answers.

    Raises:
        FileNotFoundError: None runs.
    """
    url = lock.endpoint(home)
    if url is None:
        raise FileNotFoundError(home)
    return url


def _show(title: str, rows: list[dict[str, Any]]) -> None:  # as status gives them
    if not rows:
        Console().print(f"{title}: none")
        return
    table = Table(title=f"{title} ({len(rows)})", title_justify="left")
    for name in rows[0]:
        table.add_column(name)
    for row in rows:
        table.add_row(*[str(value) for value in row.values()])
    Console().print(table)


def say(text: str) -> None:
    """Tell whoever typed the command."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def fail(text: str) -> int:
    """Tell what went wrong; the exit code for it."""
    sys.stderr.write(f"{text}\n")
    return 1


if __name__ == "__main__":
    app()
