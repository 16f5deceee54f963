"""`python -m localcluster`: a Kubernetes with the driver on this machine, brought up and taken down."""

import asyncio
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final, Literal

from cyclopts import App, CycloptsError, Parameter

from hyperpod_ebs.sandbox.failures import explanation
from hyperpod_ebs.sandbox.interruption import Interruption
from hyperpod_ebs.sandbox.sandbox import Sandbox
from localcluster import holder, kept, progress
from localcluster.cluster import Cluster
from localcluster.demo import show
from localcluster.images import sidecars
from localcluster.kubernetes.kubectl import Kubectl
from localcluster.kubernetes.node import take_in
from localcluster.machines.network import Namespace
from localcluster.programs import Programs
from localcluster.record import Record

app = App(name="localcluster", help="A Kubernetes with the driver on this machine.", help_format="plaintext")

SHOWN: Final = "hpd"
"""What the directory of a cluster is called that is there for a demo alone."""

Images = Annotated[tuple[Path, ...], Parameter(name="--image", negative="")]
Profile = Literal["instant", "aws"]


@app.command
def run(*, image: Images = (), name: str = kept.NAME, profile: Profile = "instant", install: bool = True) -> int:
    """Run a cluster until SIGTERM or Ctrl-C; what is done is told in lines of JSON.

    Args:
        image: An image archive that every node gets; may be given again.
        name: What the cluster's directory is called, before a made-up part.
        profile: How long the cloud takes.
        install: Whether the driver is installed.
    """
    return asyncio.run(holder.hold([path.resolve() for path in image], name, profile, install=install))


@app.command
def up(*, image: Images = (), profile: Profile = "instant", install: bool = True) -> int:
    """Bring a cluster up, leave it running, and say how to look around.

    Args:
        image: An image archive that every node gets; may be given again.
        profile: How long the cloud takes.
        install: Whether the driver is installed.
    """
    return kept.begin(image, lambda: run(image=image, profile=profile, install=install))


@app.command
def env() -> int:
    """Print what kubectl and an AWS CLI or SDK need in their environment, for a shell's eval."""
    of = kept.running()
    kubectl = Kubectl(of.kubectl, of.kubeconfig)
    for name, value in {"KUBECONFIG": of.kubeconfig, "KUBECACHEDIR": kubectl.cache, **of.environment}.items():
        sys.stdout.write(f"export {name}={shlex.quote(value)}\n")
    return 0


@app.command
def load(archive: Path, /) -> int:
    """Take an image archive in, on every node.

    Args:
        archive: An OCI archive, or one of `docker save`.
    """
    asyncio.run(_load(kept.running(), archive.resolve()))
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
    there = Record.read(directory) if directory else (kept.running() if kept.found() else None)
    return asyncio.run(_demo([path.resolve() for path in image], there, output))


async def _demo(images: Sequence[Path], there: Record | None, output: show.Output) -> int:
    with Interruption.listen() as interruption:
        if there:
            async with there.cloud() as cloud:
                return await show.show(Kubectl(there.kubectl, there.kubeconfig), cloud, output, interruption)
        programs = Programs.here()
        holder.check_space()
        images, step = [sidecars(programs), *images], progress.in_words
        try:
            async with (
                Sandbox.open(SHOWN) as place,
                interruption.scope(),
                Cluster.running(place, programs, images, profile="instant", step=step) as cluster,
            ):
                await holder.installed(cluster, step)
                return await show.show(cluster.kubectl, cluster.cloud.client, output, interruption)
        except TimeoutError:
            if not interruption.cause:
                raise
            sys.stderr.write(f"localcluster: stopped by {interruption.cause}; what it had begun is cleaned up\n")
            return interruption.exit_code


@app.command
def down() -> int:
    """End the cluster that `up` has left running; leave the machine as it was."""
    return kept.end()


def main() -> None:
    """Run the command line."""
    try:
        sys.exit(app(print_error=False, exit_on_error=False, result_action="return_value"))
    except CycloptsError as error:
        sys.stderr.write(f"localcluster: {error}\n")
    except Exception as error:  # noqa: BLE001 - nobody who runs a cluster is shown a traceback
        sys.stderr.write(f"localcluster: {explanation(error)}\n")
    sys.exit(1)


if __name__ == "__main__":
    main()
