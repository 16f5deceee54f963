"""`hyperpod-ebs demo`: the life of a volume on HyperPod nodes, step by step."""

import asyncio
from typing import Final, Literal

from cyclopts import App

_DETAILS: Final = (
    "The demo starts the emulator with a HyperPod cluster of two nodes, and the driver's processes. Then it calls the "
    "driver as Kubernetes does: it creates a volume, attaches, formats and mounts it, writes a checkpoint, takes a "
    "snapshot during writes, grows the volume while it is mounted, moves it to the other node, verifies the data, "
    "restores the snapshot, uses a volume created in advance and a raw block volume, and deletes everything. It shows "
    "the time and the AWS calls of each step: live in a terminal, otherwise as plain lines.\n\n"
    "It needs root, for loop devices and mounts. All its files are below one temporary directory (set TMPDIR to choose "
    "where) and are removed at the end, even after Ctrl-C or kill -9.\n\n"
    "Exit codes: 0 success, and nothing is left behind; 1 failure, with the reason and what to do on stderr; 130 "
    "Ctrl-C; 143 SIGTERM. With --output json, stdout has the document in every case."
)

app = App(name="demo", help_epilogue=_DETAILS)


@app.default
def demo(*, profile: Literal["aws", "instant"] = "aws", output: Literal["table", "json"] = "table") -> int:
    """Show the life of a volume on HyperPod nodes, on the embedded cloud.

    Args:
        profile: How long AWS operations take: as long as on AWS (about 40 s in all), or no time (about 10 s).
        output: A table for people, or one JSON document on stdout.
    """
    from hyperpod_ebs.demo.run import run_demo  # noqa: PLC0415 - keeps the AWS SDK and gRPC out of --help

    return asyncio.run(run_demo(profile, output))
