"""`python -m localcluster`: a Kubernetes with the driver on this machine, brought up and taken down."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Final, Literal

from cyclopts import App, CycloptsError, Parameter

from hyperpod_ebs.demo import janitor, sandbox
from hyperpod_ebs.demo.interruption import Interruption
from hyperpod_ebs.kit import command
from localcluster import holder, progress, record
from localcluster.cluster import Cluster
from localcluster.demo import show
from localcluster.images import sidecars
from localcluster.kubernetes.chart import NotInstalled
from localcluster.kubernetes.kubectl import Kubectl
from localcluster.kubernetes.node import take_in
from localcluster.machines.network import Namespace
from localcluster.programs import Programs
from localcluster.record import Record

app = App(name="localcluster", help="A Kubernetes with the driver on this machine.", help_format="plaintext")

KEPT: Final = "hpc"
"""What the directory of the cluster that `up` leaves running is called."""

SHOWN: Final = "hpd"
"""The same of one that is there for a demo alone."""

_TO_END: Final = 120.0
"""Seconds that a cluster has to end."""

_TOLD: Final = (LookupError, command.CommandFailed, NotInstalled, ExceptionGroup)
"""What goes wrong here, and is told in a sentence."""

Images = Annotated[tuple[Path, ...], Parameter(name="--image", negative="")]
Profile = Literal["instant", "aws"]


@app.command
def run(*, image: Images = (), name: str = KEPT, profile: Profile = "instant", install: bool = True) -> int:
    """Run a cluster until SIGTERM or Ctrl-C; what is done is told in lines of JSON.

    Args:
        image: An image archive that every node gets; may be given again.
        name: What the cluster's directory is called, before a made-up part.
        profile: How long the cloud takes.
        install: Whether the driver is installed.
    """
    asyncio.run(holder.hold([path.resolve() for path in image], name, profile, install=install))
    return 0


@app.command
def up(*, image: Images = (), profile: Profile = "instant") -> int:
    """Bring a cluster up, leave it running, and say how to look around.

    Args:
        image: An image archive that every node gets; may be given again.
        profile: How long the cloud takes.
    """
    if already := next((one for one in record.found(KEPT) if one.alive), None):
        sys.stdout.write(f"A cluster runs already; make cluster-down ends it.\n{_told(already)}\n")
        return 0
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        _detached(writing, image, profile)
    os.close(writing)
    with os.fdopen(reading) as lines:
        directory = _followed(lines)
    if directory is None:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) or 1
    sys.stdout.write(f"\n{_told(Record.read(directory))}\n")
    return 0


def _detached(writing: int, image: Images, profile: Profile) -> None:
    """Run the cluster in a session of its own, which a Ctrl-C at the terminal does not reach; never comes back."""
    os.setsid()
    for handle in (1, 2):
        os.dup2(writing, handle)
    os.close(writing)
    code = 1
    try:
        code = run(image=image, profile=profile)
    except (*_TOLD, asyncio.CancelledError) as error:
        sys.stderr.write(f"localcluster: {_sentence(error)}\n")
    finally:
        sys.stderr.flush()
        os._exit(code)


def _followed(lines: Iterable[str]) -> Path | None:
    """The cluster's directory once it is ready, or None when it ends before; what is done is shown."""
    for line in lines:
        try:
            said = json.loads(line)
        except ValueError:
            sys.stderr.write(line)
            continue
        if "ready" in said:
            return Path(said["ready"])
        if "done" in said:
            sys.stdout.write(progress.line(said["done"], said["seconds"]))
            sys.stdout.flush()
    return None


def _told(of: Record) -> str:
    """How to look around; the last line is for the shell."""
    return "\n".join(
        [
            "Look around:    kubectl get nodes,pods --all-namespaces      (with the line below in the environment)",
            f"                {of.kubectl} is of the cluster's version",
            "The cloud:      eval $(python -m localcluster env)           then the AWS CLI",
            "Own images:     python -m localcluster load ARCHIVE          an OCI or docker archive, onto every node",
            f"Logs:           {of.directory}/*.log",
            "The end:        make cluster-down",
            f"KUBECONFIG={of.kubeconfig}",
        ]
    )


@app.command
def env() -> int:
    """Print what kubectl and an AWS CLI or SDK need in their environment, for a shell's eval."""
    of = _kept()
    for name, value in {"KUBECONFIG": of.kubeconfig, **of.environment}.items():
        sys.stdout.write(f"export {name}={value}\n")
    return 0


@app.command
def load(archive: Path, /) -> int:
    """Take an image archive in, on every node.

    Args:
        archive: An OCI archive, or one of `docker save`.
    """
    asyncio.run(_load(_kept(), archive.resolve()))
    return 0


async def _load(of: Record, archive: Path) -> None:
    async with asyncio.TaskGroup() as tasks:
        for node in of.nodes:
            tasks.create_task(take_in(Namespace(node.holder), archive))


@app.command
def demo(*, image: Images = (), directory: Path | None = None, output: show.Output = "table") -> int:
    """Show a training that loses its node, on the cluster that `up` left running, or on one for this alone.

    Args:
        directory: That of another cluster that runs.
        image: An image archive that every node of a new cluster gets; may be given again.
        output: A picture or lines for people, or one JSON document.
    """
    kept = Record.read(directory) if directory else next((one for one in record.found(KEPT) if one.alive), None)
    return asyncio.run(_demo([path.resolve() for path in image], kept, output))


async def _demo(images: Sequence[Path], kept: Record | None, output: show.Output) -> int:
    with Interruption.expected() as interruption:
        if kept:
            async with kept.cloud() as cloud:
                return await show.show(Kubectl(kept.kubectl, kept.kubeconfig), cloud, output, interruption)
        programs = Programs.here()
        images = [*sidecars(programs), *images]
        try:
            async with (
                interruption.ends(),
                Cluster.running(programs, images, name=SHOWN, profile="instant", step=progress.in_words) as cluster,
            ):
                await holder.installed(cluster, progress.in_words)
                return await show.show(cluster.kubectl, cluster.cloud.emulated, output, interruption)
        except TimeoutError:
            if not interruption.words:
                raise
            sys.stderr.write(f"localcluster: stopped by {interruption.words}; what it had begun is cleaned up\n")
            return interruption.code


@app.command
def down() -> int:
    """End the cluster that `up` has left running; leave the machine as it was."""
    kept = list(record.found(KEPT))
    for one in kept:
        if one.alive:
            os.kill(one.pid, signal.SIGTERM)
    deadline = time.monotonic() + _TO_END
    while any(one.alive or Path(one.directory).exists() for one in kept) and time.monotonic() < deadline:
        # Its janitor goes on when it is dead; one whose janitor is dead, too, is ours to clean.
        janitor.clean_abandoned(sandbox.place().resolve(), KEPT)
        time.sleep(0.1)
    left = [one.directory for one in kept if Path(one.directory).exists()]
    for directory in left:
        sys.stderr.write(f"localcluster: {directory} is still there: look what uses it (findmnt, losetup, ps)\n")
    return 1 if left else 0


def _kept() -> Record:
    found = next((one for one in record.found(KEPT) if one.alive), None)
    if found is None:
        raise LookupError("no cluster runs: make cluster brings one up")
    return found


def _sentence(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(_sentence(one) for one in error.exceptions)
    return str(error) or type(error).__name__


def main() -> None:
    """Run the command line."""
    try:
        sys.exit(app(print_error=False, exit_on_error=False, result_action="return_value"))
    except (CycloptsError, *_TOLD) as error:
        sys.stderr.write(f"localcluster: {_sentence(error)}\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
