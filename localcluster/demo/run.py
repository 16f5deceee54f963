"""One run of the demo on a cluster: live in a terminal, as lines elsewhere, or as one JSON document."""

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
from localcluster.demo.cluster_state import ClusterState
from localcluster.demo.cluster_view import ClusterView, PlainClusterScreen
from localcluster.demo.story import Story
from localcluster.kubernetes.kubectl import Kubectl

Output = Literal["table", "json"]

_FAILURE: Final = 1


class ClusterScreen(Screen, Protocol):
    """A screen that also shows the state of the cluster."""

    def update_cluster(self, state: ClusterState, training: str) -> None:
        """Show the state of the cluster, and the training job's latest event."""


class SilentClusterScreen(SilentScreen):
    """Shows nothing."""

    def update_cluster(self, state: ClusterState, training: str) -> None:
        """Show nothing."""


async def run_demo(kubectl: Kubectl, emulator: EmulatorClient, output: Output, interruption: Interruption) -> int:
    """Run the demo on a cluster; the exit code."""
    console, start, error = Console(), time.monotonic(), None
    with _open_screen(console, output) as screen:
        steps = Steps(screen)
        try:
            async with interruption.scope():
                await Story(kubectl, emulator, steps, screen.update_cluster).run()
        except Exception as raised:  # noqa: BLE001 - users see a sentence instead of a traceback
            error = f"stopped by {interruption.cause}" if interruption.cause else explanation(raised)
    if output == "json":
        document = {
            "seconds": round(time.monotonic() - start, 1),
            "steps": [asdict(step) for step in steps.finished],
            "error": error,
        }
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
    elif can_redraw(console) and steps.finished:
        console.print(steps_table(steps.finished, min(console.width, MAX_WIDTH)))
    if error:
        sys.stderr.write(f"localcluster: {error}\n")
    return interruption.exit_code or (_FAILURE if error else 0)


@contextmanager
def _open_screen(console: Console, output: Output) -> Generator[ClusterScreen]:
    if output == "json":
        yield SilentClusterScreen()
    elif can_redraw(console):
        view = ClusterView()
        with Live(view, console=console, refresh_per_second=8, transient=True):
            yield view
    else:
        yield PlainClusterScreen(console)
