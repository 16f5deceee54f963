"""The cluster that `make cluster` leaves running: begun in a session of its own, found again, and ended."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

from hyperpod_ebs.kit.directory_lock import lock_directory
from hyperpod_ebs.sandbox import janitor, sandbox
from hyperpod_ebs.sandbox.failures import PrerequisiteMissing, explanation
from localcluster import progress, record
from localcluster.record import Record

NAME: Final = "hpc"
"""What its directory is called."""

_TO_END: Final = 240.0
"""Seconds that it has to end."""


def found() -> Record | None:
    """The one that runs, or comes up."""
    return next((one for one in record.found(NAME) if one.holder.lasts()), None)


def running() -> Record:
    """The one that runs.

    Raises:
        PrerequisiteMissing: None does.
    """
    one = found()
    if one is None:
        raise PrerequisiteMissing("no cluster runs: make cluster brings one up")
    if not one.kubeconfig:
        raise PrerequisiteMissing(f"the cluster in {one.directory} is still coming up: wait for it")
    return one


def begin(images: Sequence[Path], hold: Callable[[], int]) -> int:
    """The exit code of bringing one up with `hold`, which a process of its own does; there is at most one."""
    holder = 0
    try:
        with lock_directory(sandbox.parent_directory()) as lock:
            if one := found():
                return _already(one, images)
            holder, lines = _detached(hold, lock)
            directory = _followed(lines, until="begun")
        if directory := directory and _followed(lines, until="ready"):
            sys.stdout.write(f"\n{_guidance(Record.read(directory))}\n")
            return 0
        return os.waitstatus_to_exitcode(os.waitpid(holder, 0)[1]) or 1
    except KeyboardInterrupt:
        if holder:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            sys.stderr.write("localcluster: stopped; what it had begun is cleaned up\n")
            os.kill(holder, signal.SIGTERM)
            os.waitpid(holder, 0)
        return 128 + signal.SIGINT


def end() -> int:
    """The exit code of ending it, and any other whose holder was killed; 0 leaves the machine as it was."""
    place, there = sandbox.parent_directory().resolve(), record.directories(NAME)
    if not there:
        sys.stderr.write(f"localcluster: no cluster runs: there is no {place}/{NAME}-* (TMPDIR says where to look)\n")
    deadline = time.monotonic() + _TO_END
    while any(directory.exists() for directory in there) and time.monotonic() < deadline:
        for one in record.found(NAME):  # again and again, since one may have yet to write its record
            one.holder.signal(signal.SIGTERM)
        # The janitor of a dead holder goes on; what has lost its janitor, too, is ours to clean.
        janitor.clean_abandoned(place, NAME)
        time.sleep(0.1)
    left = [what for directory in there for what in _left(directory)]
    for what in left:
        sys.stderr.write(f"localcluster: {what} is still there: look what uses it (findmnt, losetup, ps)\n")
    return 1 if left else 0


def _left(directory: Path) -> list[str]:
    return [
        *([str(directory)] if directory.exists() else []),
        *map(str, janitor.loops_below(directory)),
        *(f"process {pid}" for pid in janitor.processes_of(directory)),
    ]


def _already(one: Record, images: Sequence[Path]) -> int:
    """Say that there is one, and that it does not have these images, which may be newer."""
    if not one.kubeconfig:
        sys.stderr.write(f"localcluster: one is coming up in {one.directory}: wait, or end it with make cluster-down\n")
        return 1
    sys.stdout.write("A cluster runs already; make cluster-down ends it.\n")
    if images:
        sys.stdout.write("It has the images that there were when it began; those of now are brought with\n")
    for image in images:
        sys.stdout.write(f"                .venv/bin/python -m localcluster load {image}\n")
    sys.stdout.write(f"\n{_guidance(one)}\n")
    return 0


def _detached(hold: Callable[[], int], lock: int) -> tuple[int, Iterable[str]]:
    """The process that holds the cluster, out of reach of a Ctrl-C at the terminal, and the lines that it tells."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(lock)  # it would last as long as the cluster
        os.close(reading)
        _hold(hold, writing)
    # From here on whoever ends us ends it, too.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    os.close(writing)
    return child, os.fdopen(reading)


def _hold(hold: Callable[[], int], writing: int) -> None:
    """Hold the cluster in a session of its own; never comes back."""
    code = 1
    try:
        os.setsid()
        for handle in (1, 2):
            os.dup2(writing, handle)
        os.close(writing)
        code = hold()
    except BaseException as error:  # noqa: BLE001 - nobody above would tell of it
        sys.stderr.write(f"localcluster: {explanation(error)}\n")
    finally:
        os._exit(code)


def _followed(lines: Iterable[str], *, until: str) -> Path | None:
    """The cluster's directory once it has come so far, or None when it ends before; what is done is shown."""
    for line in lines:
        try:
            said = json.loads(line)
        except ValueError:
            sys.stderr.write(line)
            continue
        if until in said:
            return Path(said[until])
        if "done" in said:
            sys.stdout.write(progress.line(said["done"], said["seconds"]))
            sys.stdout.flush()
    return None


def _guidance(of: Record) -> str:
    """How to look around; the last line is for the shell."""
    return "\n".join(
        [
            "Look around:    kubectl get nodes,pods --all-namespaces          (with the line below in the environment)",
            f"                {of.kubectl} is of the cluster's version",
            'The cloud:      eval "$(.venv/bin/python -m localcluster env)"   then the AWS CLI',
            "Own images:     .venv/bin/python -m localcluster load ARCHIVE   an OCI or docker archive, onto every node",
            f"Logs:           {of.directory}/*.log",
            "The end:        make cluster-down",
            f"KUBECONFIG={of.kubeconfig}",
        ]
    )
