"""`hyperpod-ebs demo`: a volume's whole life on HyperPod nodes, shown."""

import asyncio
import json
import os
import signal
import sys
import time
from contextlib import nullcontext
from typing import Final, Literal

from cyclopts import App
from rich.console import Console

from hyperpod_ebs.demo import fleet, screen
from hyperpod_ebs.demo.report import Report
from hyperpod_ebs.demo.sandbox import Sandbox
from hyperpod_ebs.demo.story import Story

app = App(name="demo", help="Show a volume's whole life on HyperPod nodes, on the embedded cloud.")

NEXT: Final = """
What to try next:
  1. keep a cloud of your own:   hyperpod-ebs emulator run --state ~/cloud --port 4566
  2. use it with the AWS CLI:    eval "$(hyperpod-ebs emulator env --state ~/cloud)" && aws ec2 describe-volumes
  3. see what the demo measured: hyperpod-ebs demo --profile instant --output json
"""


@app.default
async def demo(*, profile: Literal["aws", "instant"] = "aws", output: Literal["table", "json"] = "table") -> int:
    """Show a volume's whole life on HyperPod nodes.

    Args:
        profile: How long the embedded cloud takes: as AWS does, or no time at all.
        output: For people, or one JSON document.

    Returns:
        The exit code: 0 when all went well and nothing is left behind.
    """
    if os.geteuid() != 0:
        sys.stderr.write("the demo needs root: it makes loop devices and mounts filesystems; try: sudo make demo\n")
        return 1
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, _cancel, asyncio.current_task())
    console = Console()
    report = await _run(profile, console if output == "table" else None)
    if output == "json":
        sys.stdout.write(json.dumps(report.document(), indent=2) + "\n")
    else:
        console.print(screen.closing(report))
        console.print(NEXT, highlight=False)
    return 0 if report.clean else 1


def _cancel(task: asyncio.Task[int] | None) -> None:
    if task is not None:
        task.cancel()


async def _run(profile: str, console: Console | None) -> Report:
    async with Sandbox.open("hyperpod-ebs-demo") as sandbox:
        with screen.shown(console) if console else nullcontext(screen.Silent()) as shown:
            async with fleet.running(sandbox, profile) as everything:
                story, since = Story(everything, shown), time.monotonic()
                await story.tell()
                seconds = time.monotonic() - since
                history = await everything.emulated.history()
                volumes, snapshots = await everything.orchestrator.remaining()
        return Report(
            profile=profile,
            seconds=round(seconds, 3),
            steps=tuple(story.steps),
            history=history,
            leftovers=sandbox.leftovers(),
            volumes=tuple(volumes),
            snapshots=tuple(snapshots),
        )
