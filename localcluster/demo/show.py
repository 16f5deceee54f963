"""The story, shown: as a picture in a terminal, in lines elsewhere, or as one JSON document."""

import json
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Final, Literal, Protocol

from rich.console import Console
from rich.live import Live

from hyperpod_ebs.demo.emulator_client import EmulatorClient
from hyperpod_ebs.demo.live_view import MAX_WIDTH, steps_table
from hyperpod_ebs.demo.screen import Screen, SilentScreen, can_redraw
from hyperpod_ebs.demo.steps import Steps
from hyperpod_ebs.sandbox.failures import explanation
from hyperpod_ebs.sandbox.interruption import Interruption
from localcluster.demo.scene import Scene
from localcluster.demo.stage import Stage, Told
from localcluster.demo.story import Story
from localcluster.kubernetes.kubectl import Kubectl

Output = Literal["table", "json"]

_FAILED: Final = 1


class Looking(Screen, Protocol):
    """A screen that also shows what the cluster looks like."""

    def looked(self, scene: Scene, training: str) -> None:
        """The cluster looks like this, and this is what the training has said last."""


class Unseen(SilentScreen):
    """Shows nothing."""

    def looked(self, scene: Scene, training: str) -> None:
        """Show nothing."""


async def show(kubectl: Kubectl, cloud: EmulatorClient, output: Output, interruption: Interruption) -> int:
    """The exit code of the story, told on this cluster."""
    console, since, error = Console(), time.monotonic(), None
    with _screen(console, output) as screen:
        steps = Steps(screen)
        try:
            async with interruption.scope():
                await Story(kubectl, cloud, steps, screen.looked).tell()
        except Exception as raised:  # noqa: BLE001 - nobody who runs a demo is shown a traceback
            error = f"stopped by {interruption.cause}" if interruption.cause else explanation(raised)
    if output == "json":
        told = {"seconds": round(time.monotonic() - since, 1), "steps": [asdict(step) for step in steps.finished]}
        sys.stdout.write(json.dumps({**told, "error": error}, indent=2) + "\n")
    elif can_redraw(console) and steps.finished:
        console.print(steps_table(steps.finished, min(console.width, MAX_WIDTH)))
    if error:
        sys.stderr.write(f"localcluster: {error}\n")
    return interruption.exit_code or (_FAILED if error else 0)


@contextmanager
def _screen(console: Console, output: Output) -> Generator[Looking]:
    if output == "json":
        yield Unseen()
    elif can_redraw(console):
        stage = Stage()
        with Live(stage, console=console, refresh_per_second=8, transient=True):
            yield stage
    else:
        yield Told(console)
