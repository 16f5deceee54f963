"""The process that holds a cluster: brings it up, writes down what there is, follows the cloud, and ends all of it."""

import asyncio
import os
import signal
from collections.abc import Sequence
from pathlib import Path

from localcluster import progress
from localcluster.cluster import Cluster
from localcluster.images import sidecars
from localcluster.kubernetes.chart import Release
from localcluster.programs import Programs
from localcluster.record import NodeRecord, Record


async def hold(images: Sequence[Path], name: str, profile: str, *, install: bool) -> None:
    """Run a cluster until SIGTERM or Ctrl-C; what is done is told in lines of JSON."""
    told, begun = asyncio.Event(), asyncio.Event()
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - asyncio.run runs nothing but tasks
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, lambda: told.set() if begun.is_set() else task.cancel())
    programs = Programs.here()
    images = [*sidecars(programs), *images] if install else images
    async with Cluster.running(programs, images, name=name, profile=profile, step=progress.in_json) as cluster:
        _record(cluster).write()
        begun.set()
        if install:
            await installed(cluster, progress.in_json)
        progress.tell(ready=str(cluster.sandbox.path))
        async with asyncio.TaskGroup() as tasks:
            following = tasks.create_task(cluster.roster.keep(lambda: _record(cluster).write()))
            await told.wait()
            following.cancel()


async def installed(cluster: Cluster, step: progress.Step) -> None:
    """Come back when the driver is."""
    release = Release(cluster.kubectl, cluster.sandbox.path)
    environment = cluster.cloud.emulated.environment
    with step("install the driver from its chart"):
        await release.credentials(environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"])
        await release.upgrade(release.values(environment["AWS_REGION"]))


def _record(cluster: Cluster) -> Record:
    return Record(
        directory=str(cluster.sandbox.path),
        pid=os.getpid(),
        kubectl=cluster.kubectl.program,
        kubeconfig=cluster.kubectl.kubeconfig,
        environment=cluster.cloud.emulated.environment,
        nodes=tuple(
            NodeRecord(
                name=node.instance.name,
                instance=node.instance.id,
                provider_id=node.instance.provider_id,
                number=node.machine.number,
                holder=node.machine.namespace.holder,
            )
            for node in cluster.roster.nodes
        ),
    )
