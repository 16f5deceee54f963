"""The process that holds a cluster: brings it up, writes down what there is, follows the cloud, and ends all of it."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from hyperpod_ebs.kit import files
from hyperpod_ebs.sandbox import sandbox
from hyperpod_ebs.sandbox.failures import PrerequisiteMissing
from hyperpod_ebs.sandbox.interruption import Interruption
from hyperpod_ebs.sandbox.sandbox import Sandbox
from localcluster import progress
from localcluster.cluster import Cluster
from localcluster.images import sidecars
from localcluster.kubernetes.chart import Release
from localcluster.machines.life import Life
from localcluster.programs import Programs
from localcluster.record import NodeRecord, Record

_SPACE: Final = 5 * 1024**3
"""Bytes that a cluster and what is tried on it take; three nodes unpack the same images."""


async def hold(images: Sequence[Path], name: str, profile: str, *, install: bool) -> int:
    """The exit code of a cluster that runs until SIGTERM or Ctrl-C; what is done is told in lines of JSON.

    It is in its record from its first moment on, so that whoever wants it to end can say so.

    Raises:
        Failure, CommandFailed: It does not come up.
    """
    programs = Programs.here()
    check_space()
    ready = False
    with Interruption.listen() as interruption:
        try:
            async with Sandbox.open(name) as place, interruption.scope():
                begun = Record(
                    directory=str(place.path),
                    holder=await files.off_loop(lambda: Life.of(os.getpid())),
                    kubectl=programs["kubectl"],
                )
                begun.write()
                progress.tell(begun=begun.directory)
                images = [sidecars(programs), *images] if install else images
                async with Cluster.running(place, programs, images, profile=profile, step=progress.in_json) as cluster:
                    if install:
                        await installed(cluster, progress.in_json)
                    _completed(begun, cluster).write()
                    ready = True
                    progress.tell(ready=begun.directory)
                    await cluster.roster.keep(lambda: _completed(begun, cluster).write())
        except TimeoutError:
            if not interruption.cause:
                raise
    return 0 if ready else interruption.exit_code


def check_space() -> None:
    """See that there is room for a cluster.

    Raises:
        PrerequisiteMissing: There is not.
    """
    place = sandbox.parent_directory()
    if (free := shutil.disk_usage(place).free) < _SPACE:
        gib = 1024**3
        raise PrerequisiteMissing(
            f"{place} has {free / gib:.1f} GiB free, but a cluster takes {_SPACE / gib:g}: make room, or set TMPDIR"
        )


async def installed(cluster: Cluster, step: progress.Step) -> None:
    """Come back when the driver is."""
    release = Release(cluster.kubectl, cluster.sandbox.path)
    environment = cluster.cloud.client.environment
    with step("install the driver from its chart"):
        await release.credentials(environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"])
        await release.upgrade(release.values(environment["AWS_REGION"]))


def _completed(begun: Record, cluster: Cluster) -> Record:
    """The record with what has come since."""
    return replace(
        begun,
        kubeconfig=cluster.kubectl.kubeconfig,
        environment=cluster.cloud.client.environment,
        nodes=tuple(
            NodeRecord(
                name=node.instance.name,
                instance=node.instance.id,
                provider_id=node.instance.provider_id,
                number=node.machine.number,
                holder=node.machine.init.pid,
            )
            for node in cluster.roster.nodes
        ),
    )
