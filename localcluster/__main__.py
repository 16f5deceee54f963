"""`python -m localcluster`: start, use and stop a Kubernetes cluster with the driver on this machine."""

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
from localcluster import background, foreground, progress
from localcluster.cluster import Cluster
from localcluster.demo.run import Output, run_demo
from localcluster.images import build_sidecar_archive
from localcluster.kubernetes.kubectl import Kubectl
from localcluster.kubernetes.node import import_images
from localcluster.machines.network import Namespaces
from localcluster.programs import Programs
from localcluster.record import Record

app = App(name="localcluster", help="A Kubernetes cluster with the driver on this machine.", help_format="plaintext")

DEMO_NAME: Final = "hpd"
"""The start of the name of the directory of a cluster that is started only for a demo."""

Images = Annotated[tuple[Path, ...], Parameter(name="--image", negative="")]
Profile = Literal["instant", "aws"]


@app.command
def run(*, image: Images = (), name: str = background.NAME, profile: Profile = "instant", install: bool = True) -> int:
    """Run a cluster until SIGTERM or Ctrl-C, and report progress as lines of JSON.

    Args:
        image: An image archive to import on every node; can be repeated.
        name: The start of the name of the cluster's directory.
        profile: How long AWS operations take: no time, or as long as on AWS.
        install: Whether to install the driver.
    """
    return asyncio.run(foreground.run_cluster([path.resolve() for path in image], name, profile, install=install))


@app.command
def up(*, image: Images = (), profile: Profile = "instant", install: bool = True) -> int:
    """Start a cluster in the background, and print how to use it.

    Args:
        image: An image archive to import on every node; can be repeated.
        profile: How long AWS operations take: no time, or as long as on AWS.
        install: Whether to install the driver.
    """
    return background.start(image, lambda: run(image=image, profile=profile, install=install))


@app.command
def env() -> int:
    """Print the environment variables for kubectl and for an AWS CLI or SDK, for eval in a shell."""
    cluster = background.require()
    kubectl = Kubectl(cluster.kubectl, cluster.kubeconfig)
    for name, value in {
        "KUBECONFIG": cluster.kubeconfig,
        "KUBECACHEDIR": kubectl.cache,
        **cluster.environment,
    }.items():
        sys.stdout.write(f"export {name}={shlex.quote(value)}\n")
    return 0


@app.command
def load(archive: Path, /) -> int:
    """Import the images of an archive on every node.

    Args:
        archive: An OCI archive, or one from `docker save`.
    """
    asyncio.run(_load(background.require(), archive.resolve()))
    return 0


async def _load(cluster: Record, archive: Path) -> None:
    async with asyncio.TaskGroup() as tasks:
        for node in cluster.nodes:
            tasks.create_task(import_images(Namespaces(node.pid), archive))


@app.command
def demo(*, image: Images = (), directory: Path | None = None, output: Output = "table") -> int:
    """Show a training job that loses its node, on the cluster that `up` has started, or on a temporary one.

    Args:
        image: An image archive to import on every node of a temporary cluster; can be repeated.
        directory: The directory of another running cluster to use.
        output: A table for people, or one JSON document.
    """
    existing = Record.read(directory) if directory else (background.require() if background.find() else None)
    return asyncio.run(_demo([path.resolve() for path in image], existing, output))


async def _demo(images: Sequence[Path], existing: Record | None, output: Output) -> int:
    with Interruption.listen() as interruption:
        if existing:
            async with existing.connect_cloud() as emulator:
                return await run_demo(Kubectl(existing.kubectl, existing.kubeconfig), emulator, output, interruption)
        programs = Programs.find()
        foreground.check_space()
        images, step = [build_sidecar_archive(programs), *images], progress.text_step
        try:
            async with (
                Sandbox.open(DEMO_NAME) as sandbox,
                interruption.scope(),
                Cluster.start(sandbox, programs, images, profile="instant", step=step) as cluster,
            ):
                await foreground.install_driver(cluster, step)
                return await run_demo(cluster.kubectl, cluster.cloud.client, output, interruption)
        except TimeoutError:
            if not interruption.cause:
                raise
            sys.stderr.write(
                f"localcluster: stopped by {interruption.cause}; everything that was started is cleaned up\n"
            )
            return interruption.exit_code


@app.command
def down() -> int:
    """Stop the cluster that `up` has started, and clean up everything."""
    return background.stop()


def main() -> None:
    """Run the command line."""
    try:
        sys.exit(app(print_error=False, exit_on_error=False, result_action="return_value"))
    except CycloptsError as error:
        sys.stderr.write(f"localcluster: {error}\n")
    except Exception as error:  # noqa: BLE001 - users see a sentence instead of a traceback
        sys.stderr.write(f"localcluster: {explanation(error)}\n")
    sys.exit(1)


if __name__ == "__main__":
    main()
