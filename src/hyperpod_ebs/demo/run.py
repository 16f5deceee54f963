"""One run of the demo, from the check of the machine to the check for leftovers."""

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

from hyperpod_ebs.demo import live_view, prerequisites, screen, timeline
from hyperpod_ebs.demo.emulator_client import EmulatorClient
from hyperpod_ebs.demo.fleet import start_fleet
from hyperpod_ebs.demo.report import Moment, Report
from hyperpod_ebs.demo.screen import Screen
from hyperpod_ebs.demo.steps import Steps
from hyperpod_ebs.demo.story import Story
from hyperpod_ebs.demo.suggestions import suggestions
from hyperpod_ebs.sandbox.failures import explanation
from hyperpod_ebs.sandbox.interruption import Interruption
from hyperpod_ebs.sandbox.sandbox import Leftovers, Sandbox

NAME: Final = "hyperpod-ebs-demo"
"""The start of the name of each demo's directory."""

_FAILURE: Final = 1
_DISK_FULL: Final = 16 << 20
"""Bytes of free space below which a full disk is the likely cause of any error."""

_REFRESH: Final = 0.5
"""Seconds between two readings of the volumes' states."""


@dataclass(slots=True)
class _Findings:
    """What is known about the emulator and the processes, up to the moment of a failure."""

    history: tuple[Moment, ...] = ()
    volumes: tuple[str, ...] = ()
    snapshots: tuple[str, ...] = ()
    leftovers: Leftovers = field(default_factory=Leftovers)
    """What the processes left when they had stopped, before the janitor could remove it."""
    error: str | None = None


async def run_demo(profile: str, output: Literal["table", "json"]) -> int:
    """Run the demo, with its output on stdout and an error on stderr; the exit code."""
    console = Console()
    with Interruption.listen() as interruption:
        with screen.open_screen(console) if output == "table" else nullcontext(screen.SilentScreen()) as display:
            report = await _run_in_sandbox(profile, display, interruption)
        if output == "json":
            sys.stdout.write(json.dumps(report.document(), indent=2) + "\n")
        else:
            _print_ending(console, report)
        if report.error:
            sys.stderr.write(f"hyperpod-ebs: {report.error}\n")
        return interruption.exit_code or (_FAILURE if report.error or not report.is_clean else 0)


async def _run_in_sandbox(profile: str, display: Screen, interruption: Interruption) -> Report:
    steps, findings, start = Steps(display), _Findings(), time.monotonic()
    leftovers = Leftovers()
    if problem := next(prerequisites.problems(), None):
        findings.error = problem
    else:
        async with Sandbox.open(NAME) as sandbox:
            try:
                async with interruption.scope():
                    await _run_story(sandbox, profile, display, steps, findings)
            except Exception as error:  # noqa: BLE001 - users see a sentence instead of a traceback
                findings.error = _error_text(error, steps, sandbox.path)
        leftovers = findings.leftovers.union(sandbox.leftovers())
    if interruption.cause:
        at = f" at step {steps.current!r}" if steps.current else ""
        findings.error = f"stopped by {interruption.cause}{at}; everything that the demo had started is cleaned up"
    return Report(
        profile=profile,
        seconds=round(time.monotonic() - start, 3),
        steps=tuple(steps.finished),
        history=findings.history,
        leftovers=leftovers,
        volumes=findings.volumes,
        snapshots=findings.snapshots,
        error=findings.error,
    )


async def _run_story(sandbox: Sandbox, profile: str, display: Screen, steps: Steps, findings: _Findings) -> None:
    async with start_fleet(sandbox, profile, steps) as fleet:
        async with _show_volume_states(fleet.emulator, display):
            volumes, snapshots = await Story(fleet, steps).run()
        findings.volumes, findings.snapshots = tuple(volumes), tuple(snapshots)
        findings.history = await fleet.emulator.history()
        async with steps.step("stop and check for leftovers") as result:
            steps.count_calls()
            await fleet.processes.stop()
            findings.leftovers = replace(sandbox.leftovers(), directories=())
            await sandbox.close()
            by_kind = findings.leftovers.union(sandbox.leftovers()).as_dict()
            left = [item for items in by_kind.values() for item in items]
            result(f"left behind: {', '.join(left)}" if left else "no process, mount, loop device or file is left")


@asynccontextmanager
async def _show_volume_states(emulator: EmulatorClient, display: Screen) -> AsyncGenerator[None]:
    """Keep the screen's states of the volumes up to date until the block ends."""

    async def refresh() -> None:
        with suppress(aiohttp.ClientError):  # the emulator has ended, which its supervisor reports
            while True:
                display.update_history(await emulator.history())
                await asyncio.sleep(_REFRESH)

    async with asyncio.TaskGroup() as group:
        refreshing = group.create_task(refresh())
        yield
        refreshing.cancel()


def _error_text(error: Exception, steps: Steps, path: Path) -> str:
    """What failed, at which step, and what to do."""
    text = explanation(error)
    at = f"at step {steps.current!r}: " if steps.current and not text.startswith(steps.current) else ""
    with suppress(OSError):
        if shutil.disk_usage(path).free < _DISK_FULL:
            text += f"; the disk of {path.parent} is full: free some space, or set TMPDIR to another directory"
    return at + text


def _print_ending(console: Console, report: Report) -> None:
    """Print the result: all tables in a terminal; elsewhere only what the printed lines did not contain."""
    if screen.can_redraw(console):
        if report.steps:
            console.print(*live_view.final_view(report, console), sep="\n", highlight=False)
    elif report.history:
        bars = timeline.lines(report.history, width=max(console.width, 80), colours=False)
        for line in ("", "States of the volumes over time", *(bar.plain for bar in bars), ""):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    if report.steps or not report.is_clean:
        _print_summary(console, report)
    if report.error is None:
        console.print("\nWhat to try next", style="bold")
        for number, (what, command) in enumerate(suggestions(), 1):
            console.print(f"{number}. {what}:", highlight=False)
            console.print(f"   {command}", style="cyan", markup=False, highlight=False, soft_wrap=True)


def _print_summary(console: Console, report: Report) -> None:
    calls = sum(sum(step.calls.values()) for step in report.steps)
    kinds = report.all_leftovers().items()
    left = ", ".join(f"{kind.replace('_', ' ')} {' '.join(items)}" for kind, items in kinds if items)
    text = f"{report.seconds:.1f} s with the {report.profile} profile, {calls} AWS calls; "
    text += f"LEFT BEHIND: {left}" if left else "nothing is left behind"
    console.print(text, style="green" if report.is_clean else "bold red", markup=False, highlight=False, soft_wrap=True)
