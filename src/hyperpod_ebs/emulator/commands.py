"""`hyperpod-ebs emulator`: run the embedded cloud, talk to it, look into it, throw it away."""

import asyncio
import json
import logging
import os
import shlex
import signal
import sys
import urllib.request
from pathlib import Path
from typing import Annotated, Any, Literal

import uvloop
from cyclopts import App, Parameter
from cyclopts.validators import Number
from rich.console import Console
from rich.table import Table

from hyperpod_ebs.emulator import leftovers, lock
from hyperpod_ebs.emulator.clock import Profile
from hyperpod_ebs.emulator.ec2.modifications import Rate
from hyperpod_ebs.emulator.emulator import Emulator
from hyperpod_ebs.emulator.identity import Identity
from hyperpod_ebs.emulator.place import ZONES
from hyperpod_ebs.emulator.store import StateRefused

app = App(name="emulator", help="The embedded cloud: EC2 EBS and SageMaker HyperPod with real block devices.")

StateDirectory = Annotated[Path | None, Parameter(name="--state")]
Output = Literal["table", "json"]


def default_state() -> Path:
    """Where the state is unless told otherwise."""
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(home) / "hyperpod-ebs" / "emulator"


@app.command
def run(  # noqa: PLR0913 - each is a flag
    *,
    state: StateDirectory = None,
    port: int = 4566,
    profile: Profile = "instant",
    seed: int = 0,
    region: str = "us-west-2",
    account: str = "123456789012",
    zones: Annotated[int, Parameter(validator=Number(gte=1, lte=ZONES))] = ZONES,
    rate: Rate = "four-a-day",
) -> int:
    """Run the embedded cloud until SIGTERM or Ctrl-C.

    Args:
        state: Where everything is kept (~/.local/state/hyperpod-ebs/emulator).
        port: The port to listen at on the loopback address; 0 for any that is free.
        profile: How fast states change: instant, aws (as seen in the wild) or chaos.
        seed: What the times are drawn from.
        region: The AWS region that it is.
        account: The account that everything belongs to.
        zones: How many availability zones the region has.
        rate: How often a volume may be modified: AWS's rule of today, its older one, or none.
    """
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    home = state or default_state()

    async def serve() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        async with Emulator.running(
            home, profile=profile, seed=seed, port=port, region=region, account=account, zones=zones, rate=rate
        ) as emulator:
            _say(
                f"emulator ready at {emulator.url}; eval $(hyperpod-ebs emulator env --state {shlex.quote(str(home))})"
            )
            await stop.wait()

    try:
        uvloop.run(serve())
    except (StateRefused, OSError) as refused:
        return _fail(str(refused))
    return 0


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
        return _fail(f"no emulator runs on {home}: start one with `hyperpod-ebs emulator run --state {home}`")
    if output == "json":
        _say(json.dumps(variables))
    else:
        _say("\n".join(f"export {name}={shlex.quote(value)}" for name, value in variables.items()))
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
    except (FileNotFoundError, OSError):
        return _fail(f"no emulator answers for {home}: start one with `hyperpod-ebs emulator run --state {home}`")
    if output == "json":
        _say(json.dumps(found))
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
        _say(f"{home} is not there: nothing to delete")
        return 0
    try:
        with lock.held(home):
            in_use = asyncio.run(leftovers.removed(home))
    except StateRefused as refused:
        return _fail(str(refused))
    if in_use:
        return _fail("\n".join(["still in use, so nothing more was deleted:", *in_use]))
    _say(f"{home} is deleted")
    return 0


def _url(home: Path) -> str:
    """Where the emulator of `home` answers.

    Raises:
        FileNotFoundError: None runs.
    """
    if lock.holder(home) is None:
        raise FileNotFoundError(home)
    return (home / "endpoint").read_text()


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


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _fail(text: str) -> int:
    sys.stderr.write(f"{text}\n")
    return 1


if __name__ == "__main__":
    app()
