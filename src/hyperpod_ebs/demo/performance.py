"""One performance of the demo, from the first look at the machine to the last look for leftovers."""

import asyncio
import json
import shutil
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal

import aiohttp
from rich.console import Console

from hyperpod_ebs.demo import fleet, machine, picture, screen, timeline
from hyperpod_ebs.demo.fleet import Emulated
from hyperpod_ebs.demo.report import Moment, Report
from hyperpod_ebs.demo.screen import Screen
from hyperpod_ebs.demo.steps import Steps
from hyperpod_ebs.demo.story import Story
from hyperpod_ebs.demo.suggestions import suggestions
from hyperpod_ebs.sandbox.failures import explanation
from hyperpod_ebs.sandbox.interruption import Interruption
from hyperpod_ebs.sandbox.sandbox import Leftovers, Sandbox

NAME: Final = "hyperpod-ebs-demo"
"""What the directories of demos are called, before the dash."""

_FAILED: Final = 1
_FULL: Final = 16 << 20
"""Bytes of free space below which a disk's being full is the likely cause of any trouble."""

_LOOK: Final = 0.5
"""Seconds between two looks at the volumes' states."""


@dataclass(slots=True)
class _Seen:
    """What is known of the cloud, up to the moment in which something went wrong."""

    history: tuple[Moment, ...] = ()
    volumes: tuple[str, ...] = ()
    snapshots: tuple[str, ...] = ()
    left: Leftovers = field(default_factory=Leftovers)
    """What the product's processes left when they had stopped, before the janitor would hide it."""
    error: str | None = None


async def performed(profile: str, output: Literal["table", "json"]) -> int:
    """The exit code of a demo that was shown on stdout; what went wrong is told on stderr."""
    console = Console()
    with Interruption.listen() as interruption:
        with screen.shown(console) if output == "table" else nullcontext(screen.Silent()) as shown:
            report = await _run(profile, shown, interruption)
        if output == "json":
            sys.stdout.write(json.dumps(report.document(), indent=2) + "\n")
        else:
            _close(console, report)
        if report.error:
            sys.stderr.write(f"hyperpod-ebs: {report.error}\n")
        return interruption.exit_code or (_FAILED if report.error or not report.clean else 0)


async def _run(profile: str, shown: Screen, interruption: Interruption) -> Report:
    steps, seen, since = Steps(shown), _Seen(), time.monotonic()
    leftovers = Leftovers()
    if lacking := next(machine.wants(), None):
        seen.error = lacking
    else:
        async with Sandbox.open(NAME) as sandbox:
            try:
                async with interruption.scope():
                    await _tell(sandbox, profile, shown, steps, seen)
            except Exception as error:  # noqa: BLE001 - nobody who runs a demo is shown a traceback
                seen.error = _sentence(error, steps, sandbox.path)
        leftovers = seen.left.union(sandbox.leftovers())
    if interruption.cause:
        at = f" at step {steps.now!r}" if steps.now else ""
        seen.error = f"stopped by {interruption.cause}{at}; what it had begun is cleaned up"
    return Report(
        profile=profile,
        seconds=round(time.monotonic() - since, 3),
        steps=tuple(steps.done),
        history=seen.history,
        leftovers=leftovers,
        volumes=seen.volumes,
        snapshots=seen.snapshots,
        error=seen.error,
    )


async def _tell(sandbox: Sandbox, profile: str, shown: Screen, steps: Steps, seen: _Seen) -> None:
    async with fleet.running(sandbox, profile, steps) as everything:
        async with _followed(everything.emulated, shown):
            volumes, snapshots = await Story(everything, steps).tell()
        seen.volumes, seen.snapshots = tuple(volumes), tuple(snapshots)
        seen.history = await everything.emulated.history()
        async with steps.step("stop everything, look for leftovers") as result:
            steps.count()
            await everything.processes.stop()
            seen.left = replace(sandbox.leftovers(), directories=())
            await sandbox.close()
            left = [one for kind in seen.left.union(sandbox.leftovers()).as_dict().values() for one in kind]
            result(f"left: {', '.join(left)}" if left else "no process, mount, loop device or file is left")


@asynccontextmanager
async def _followed(emulated: Emulated, shown: Screen) -> AsyncGenerator[None]:
    """The screen is told of the volumes' states, again and again, until the block is left."""

    async def follow() -> None:
        with suppress(aiohttp.ClientError):  # its end is told by whoever watches the process
            while True:
                shown.moved(await emulated.history())
                await asyncio.sleep(_LOOK)

    async with asyncio.TaskGroup() as group:
        following = group.create_task(follow())
        yield
        following.cancel()


def _sentence(error: Exception, steps: Steps, path: Path) -> str:
    """What went wrong, at which step, and what to do."""
    text = explanation(error)
    at = f"at step {steps.now!r}: " if steps.now and not text.startswith(steps.now) else ""
    with suppress(OSError):
        if shutil.disk_usage(path).free < _FULL:
            text = f"{text}; the disk under {path.parent} is full: make room, or name another directory with TMPDIR"
    return at + text


def _close(console: Console, report: Report) -> None:
    """The end of the show, as the console can have it: in a terminal the picture, elsewhere what lines left out."""
    if screen.live(console):
        if report.steps:
            console.print(*picture.closing(report, console), sep="\n", highlight=False)
    elif report.history:
        bars = timeline.lines(report.history, width=max(console.width, 80), colours=False)
        for line in ("", "States of the volumes over time", *(bar.plain for bar in bars), ""):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    if report.steps or not report.clean:
        _balance(console, report)
    if report.error is None:
        console.print("\nWhat to try next", style="bold")
        for number, (what, command) in enumerate(suggestions(), 1):
            console.print(f"{number}. {what}:", highlight=False)
            console.print(f"   {command}", style="cyan", markup=False, highlight=False, soft_wrap=True)


def _balance(console: Console, report: Report) -> None:
    calls = sum(sum(step.calls.values()) for step in report.steps)
    left = ", ".join(f"{kind.replace('_', ' ')} {' '.join(found)}" for kind, found in report.left().items() if found)
    text = f"{report.seconds:.1f} s under the {report.profile} profile, {calls} AWS calls; "
    text += f"LEFT BEHIND: {left}" if left else "nothing is left behind"
    console.print(text, style="green" if report.clean else "bold red", markup=False, highlight=False, soft_wrap=True)
