"""Runs a cluster in this process until it is stopped: starts it, records it, reconciles its nodes, and cleans up."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from hyperpod_ebs.kit import files
from hyperpod_ebs.sandbox.failures import PrerequisiteMissing
from hyperpod_ebs.sandbox.interruption import Interruption
from hyperpod_ebs.sandbox.sandbox import Sandbox, parent_directory
from localcluster import progress
from localcluster.cluster import Cluster
from localcluster.driver_role import create_driver_role
from localcluster.images import build_sidecar_archive
from localcluster.kubernetes.chart import Release
from localcluster.machines.supervised_process import SupervisedProcess
from localcluster.programs import Programs
from localcluster.record import NodeRecord, Record

_NEEDED_SPACE: Final = 5 * 1024**3
"""Bytes that a cluster and a user's trials need; three nodes unpack the same images."""


async def run_cluster(images: Sequence[Path], name: str, profile: str, *, install: bool) -> int:
    """Run a cluster until SIGTERM or Ctrl-C, with progress reports in JSON on stdout; the exit code.

    The record is written before anything else is started, so that the cluster can be stopped at any time.

    Raises:
        Failure, CommandFailed: The cluster did not start.
    """
    programs = Programs.find()
    check_space()
    ready = False
    with Interruption.listen() as interruption:
        try:
            async with Sandbox.open(name) as sandbox, interruption.scope():
                initial = Record(
                    directory=str(sandbox.path),
                    process=await files.off_loop(SupervisedProcess.find, os.getpid()),
                    kubectl=programs["kubectl"],
                )
                initial.write()
                progress.print_event(begun=initial.directory)
                images = [build_sidecar_archive(programs), *images] if install else images
                step = progress.json_step
                async with Cluster.start(sandbox, programs, images, profile=profile, step=step) as cluster:
                    if install:
                        await install_driver(cluster, step)
                    _complete_record(initial, cluster).write()
                    ready = True
                    progress.print_event(ready=initial.directory)
                    await cluster.reconciler.run(lambda: _complete_record(initial, cluster).write())
        except TimeoutError:
            if not interruption.cause:
                raise
    return 0 if ready else interruption.exit_code


def check_space() -> None:
    """Check that there is enough space on disk for a cluster.

    Raises:
        PrerequisiteMissing: There is not.
    """
    directory = parent_directory()
    if (free := shutil.disk_usage(directory).free) < _NEEDED_SPACE:
        gib = 1024**3
        raise PrerequisiteMissing(
            f"{directory} has {free / gib:.1f} GiB free, but a cluster needs {_NEEDED_SPACE / gib:g} GiB; "
            "free some space, or set TMPDIR to another directory"
        )


async def install_driver(cluster: Cluster, step: progress.Step) -> None:
    """Create the driver's role, install the driver, and wait until it is ready."""
    client = cluster.cloud.client
    release = Release(cluster.kubectl, cluster.sandbox.path)
    with step("create the driver's IAM role"):
        role = await create_driver_role(client, cluster.eks)
    with step("install the driver from its chart"):
        await release.upgrade(release.values(client.environment["AWS_REGION"], role))


def _complete_record(initial: Record, cluster: Cluster) -> Record:
    """The record of a cluster that has started."""
    return replace(
        initial,
        kubeconfig=cluster.kubectl.kubeconfig,
        environment=cluster.cloud.client.environment,
        nodes=tuple(
            NodeRecord(
                name=node.instance.name,
                instance=node.instance.id,
                provider_id=node.instance.provider_id,
                pid=node.machine.init.pid,
            )
            for node in cluster.reconciler.nodes
        ),
    )
