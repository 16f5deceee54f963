"""`hyperpod-ebs demo`: a volume's whole life on HyperPod nodes, shown."""

import asyncio
from typing import Final, Literal

from cyclopts import App

_MORE: Final = (
    "An emulator with a HyperPod cluster of two nodes is started, and the driver's processes; then it does what "
    "Kubernetes would: creates a volume, attaches, formats and mounts it, writes a checkpoint, takes a snapshot while "
    "writing goes on, grows the volume in use, moves it to the other node, compares, restores the snapshot, uses a "
    "volume made beforehand and a raw block volume, and deletes everything. Each step is shown with its time and its "
    "AWS calls: live in a terminal, as plain lines elsewhere.\n\n"
    "It needs root, for loop devices and mounts. All that it makes is below one temporary directory (TMPDIR says "
    "where), and gone at the end, also after Ctrl-C and kill -9.\n\n"
    "Exit codes: 0 all went well and nothing is left; 1 it did not, and stderr says what to do; 130 Ctrl-C; "
    "143 SIGTERM. With --output json stdout has the document in any case."
)

app = App(name="demo", help_epilogue=_MORE)


@app.default
def demo(*, profile: Literal["aws", "instant"] = "aws", output: Literal["table", "json"] = "table") -> int:
    """Show a volume's whole life on HyperPod nodes, on the embedded cloud.

    Args:
        profile: How long the cloud takes: as AWS does (about 40 s in all), or no time (about 10 s).
        output: A picture or lines for people, or one JSON document on stdout, whatever happens.
    """
    from hyperpod_ebs.demo import performance  # noqa: PLC0415 - --help answers without AWS's SDK and gRPC

    return asyncio.run(performance.performed(profile, output))
