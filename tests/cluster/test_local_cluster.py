"""The cluster of `make cluster` itself: what it leaves behind."""

import asyncio
import json
import re
import sys
from pathlib import Path

from hyperpod_ebs.demo import cgroups, janitor
from live import eventually
from localcluster.record import Record


def of_the_machine() -> dict[str, set[str]]:
    """What a cluster has to leave as it was; loop devices of other tests come and go meanwhile."""
    return {
        "interfaces": {interface.name for interface in Path("/sys/class/net").iterdir()},
        "network namespaces": {entry.name for entry in Path("/run/netns").glob("*")},
        "devices": {entry.name for entry in Path("/dev").iterdir() if not re.match(r"loop\d", entry.name)},
        "run": {entry.name for entry in Path("/run").iterdir()},
    }


async def test_a_cluster_whose_holder_is_killed_leaves_the_machine_as_it_was() -> None:
    """Ours: also after kill -9, for its janitor lives on."""
    before = of_the_machine()
    holder = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "localcluster", "run", "--name=hpk", "--no-install"),
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    assert holder.stdout is not None
    directory = None
    while directory is None:
        directory = json.loads(await holder.stdout.readline()).get("ready")
    cluster = Record.read(Path(directory))

    holder.kill()

    await holder.wait()
    where = Path(cluster.directory)

    async def nothing_left() -> bool:
        left = [*janitor.processes_of(where), *janitor.mounts_below(where), *janitor.loops_below(where)]
        nodes = any(Path(f"/proc/{node.holder}").exists() for node in cluster.nodes)
        return not (left or nodes or cgroups.left(where.name) or where.exists())

    await eventually(nothing_left)
    assert of_the_machine() == before
