"""The background process of `make cluster`: it is started in a session of its own, found again, and stopped."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

from hyperpod_ebs.kit.directory_lock import lock_directory
from hyperpod_ebs.sandbox import janitor
from hyperpod_ebs.sandbox.failures import PrerequisiteMissing, explanation
from hyperpod_ebs.sandbox.sandbox import parent_directory
from localcluster import progress, record
from localcluster.record import Record

NAME: Final = "hpc"
"""The start of the name of its directory."""

_STOP_TIMEOUT: Final = 240.0
"""Seconds that the cluster has to stop."""


def find() -> Record | None:
    """The record of the background cluster that runs or is starting."""
    return next((found for found in record.records(NAME) if found.process.is_running()), None)


def require() -> Record:
    """The record of the background cluster that runs.

    Raises:
        PrerequisiteMissing: No cluster runs, or it is still starting.
    """
    found = find()
    if found is None:
        raise PrerequisiteMissing("no cluster runs; start one with make cluster")
    if not found.kubeconfig:
        raise PrerequisiteMissing(f"the cluster in {found.directory} is still starting; try again when it is ready")
    return found


def start(images: Sequence[Path], run_cluster: Callable[[], int]) -> int:
    """Start a background process that calls `run_cluster`, unless there is one, and wait until it is ready.

    Returns:
        The exit code.
    """
    process = 0
    try:
        with lock_directory(parent_directory()) as lock:
            if found := find():
                return _report_existing(found, images)
            process, lines = _fork(run_cluster, lock)
            directory = _follow(lines, until="begun")
        if directory := directory and _follow(lines, until="ready"):
            sys.stdout.write(f"\n{_guidance(Record.read(directory))}\n")
            return 0
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) or 1
    except KeyboardInterrupt:
        if process:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            sys.stderr.write("localcluster: interrupted; cleaning up\n")
            os.kill(process, signal.SIGTERM)
            os.waitpid(process, 0)
        return 128 + signal.SIGINT


def stop() -> int:
    """Stop the cluster, and clean up others whose process was killed; the exit code, 0 if nothing is left."""
    parent, directories = parent_directory().resolve(), record.directories(NAME)
    if not directories:
        sys.stderr.write(
            f"localcluster: no cluster runs: {parent} contains no {NAME}-*; if the cluster was started with another "
            "TMPDIR, set TMPDIR to the same directory\n"
        )
    deadline = time.monotonic() + _STOP_TIMEOUT
    while any(directory.exists() for directory in directories) and time.monotonic() < deadline:
        for found in record.records(NAME):  # repeated, because a starting cluster may not have a record yet
            found.process.signal(signal.SIGTERM)
        # The janitor of a killed process cleans up on its own. If the janitor was killed, too, this call cleans up.
        janitor.clean_abandoned(parent, NAME)
        time.sleep(0.1)
    leftovers = [leftover for directory in directories for leftover in _leftovers(directory)]
    for leftover in leftovers:
        sys.stderr.write(
            f"localcluster: {leftover} is still there; find out what uses it with findmnt, losetup or ps\n"
        )
    return 1 if leftovers else 0


def _leftovers(directory: Path) -> list[str]:
    return [
        *([str(directory)] if directory.exists() else []),
        *map(str, janitor.loops_below(directory)),
        *(f"process {pid}" for pid in janitor.processes_of(directory)),
    ]


def _report_existing(found: Record, images: Sequence[Path]) -> int:
    """Print that a cluster exists and how to load these images, which may be newer than its own; the exit code."""
    if not found.kubeconfig:
        sys.stderr.write(
            f"localcluster: a cluster is starting in {found.directory}; wait, or stop it with make cluster-down\n"
        )
        return 1
    sys.stdout.write("A cluster already runs; make cluster-down stops it.\n")
    if images:
        sys.stdout.write("Its nodes have the images from its start. To load the current images:\n")
    for image in images:
        sys.stdout.write(f"                .venv/bin/python -m localcluster load {image}\n")
    sys.stdout.write(f"\n{_guidance(found)}\n")
    return 0


def _fork(run_cluster: Callable[[], int], lock: int) -> tuple[int, Iterable[str]]:
    """Fork a process that runs the cluster in its own session; its id, and the lines of its output."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(lock)  # otherwise the child would hold the lock as long as the cluster runs
        os.close(reading)
        _run_child(run_cluster, writing)
    # From now on, a signal that ends this process has to stop the child as well.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    os.close(writing)
    return child, os.fdopen(reading)


def _run_child(run_cluster: Callable[[], int], writing: int) -> None:
    """Run the cluster in a new session, which a Ctrl-C at the terminal does not reach, and exit; never returns."""
    code = 1
    try:
        os.setsid()
        for handle in (1, 2):
            os.dup2(writing, handle)
        os.close(writing)
        code = run_cluster()
    except BaseException as error:  # noqa: BLE001 - the forked process must not return into its parent's code
        sys.stderr.write(f"localcluster: {explanation(error)}\n")
    finally:
        os._exit(code)


def _follow(lines: Iterable[str], *, until: str) -> Path | None:
    """Print the steps until the event `until`; the cluster's directory, or None if the output ends before the event."""
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:
            sys.stderr.write(line)
            continue
        if until in event:
            return Path(event[until])
        if "done" in event:
            sys.stdout.write(progress.text_line(event["done"], event["seconds"]))
            sys.stdout.flush()
    return None


def _guidance(cluster: Record) -> str:
    """How to use the cluster; the last line is a shell assignment."""
    return "\n".join(
        [
            "Look around:    kubectl get nodes,pods --all-namespaces          after exporting the KUBECONFIG below",
            f"                {cluster.kubectl} has the cluster's version",
            'The cloud:      eval "$(.venv/bin/python -m localcluster env)"   then use the AWS CLI',
            "Your images:    .venv/bin/python -m localcluster load ARCHIVE    an OCI or docker archive, for every node",
            f"Logs:           {cluster.directory}/*.log",
            "Stop:           make cluster-down",
            f"KUBECONFIG={cluster.kubeconfig}",
        ]
    )
