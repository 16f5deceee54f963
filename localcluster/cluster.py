"""A whole Kubernetes in a sandbox: the cloud, the control plane, the nodes, and the driver installed from its chart."""

import asyncio
import socket
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from hyperpod_ebs.sandbox.sandbox import Sandbox
from localcluster import cloud, progress
from localcluster.cloud import Cloud, Instance
from localcluster.images import pause
from localcluster.kubernetes.control_plane import PORT, ControlPlane
from localcluster.kubernetes.keys import ADMINS, Keys
from localcluster.kubernetes.kubectl import Kubectl
from localcluster.kubernetes.node import Node
from localcluster.kubernetes.site import Site
from localcluster.machines import network
from localcluster.machines.daemon import Daemon
from localcluster.machines.network import Namespace
from localcluster.programs import Programs
from localcluster.roster import Roster

HYPERPOD_NODES: Final = 2

_READY: Final = 180.0
_APART: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """What runs, and how to speak to it from the machine."""

    sandbox: Sandbox
    cloud: Cloud
    roster: Roster
    kubectl: Kubectl

    @classmethod
    @asynccontextmanager
    async def running(
        cls, sandbox: Sandbox, programs: Programs, images: Sequence[Path], *, profile: str, step: progress.Step
    ) -> AsyncGenerator["Cluster"]:
        """A cluster of two HyperPod nodes and a plain EC2 node, with these images on each; it ends with the sandbox."""
        hub = await _hub(sandbox)
        site = Site(sandbox=sandbox, programs=programs, keys=Keys.made(sandbox.path / "keys"), hub=hub)
        server = await _door(site, PORT, name="api-server")
        door = await _door(site, cloud.PORT, name="cloud")
        with step("start etcd, the API server, the controllers and the scheduler"):
            await ControlPlane(site).start()
        async with Cloud.running(sandbox, hub, f"http://{door}", profile) as emulator:
            with step("make an EKS cluster, a HyperPod cluster and an EC2 instance at the cloud"):
                instances = await _instances(emulator)
            with step("start the nodes and bring their images"):
                archives = [pause(programs), *images]
                nodes = await _started(site, instances, archives)
                roster = Roster(site, emulator, nodes, archives)
            admin = site.keys.kubeconfig("me", f"https://{server}", user="admin", group=ADMINS)
            kubectl = Kubectl(programs["kubectl"], str(admin))
            with step("wait until the nodes are ready"):
                for node in nodes:
                    await node.kubelet.until(partial(_ready, kubectl, node.instance.name), seconds=_READY)
                definitions = ("--filename", str(programs.snapshot_definitions))
                await kubectl("apply", *definitions)
                # A chart leaves out what needs a kind that is not served yet.
                until = ("--for=condition=Established", f"--timeout={_READY:g}s")
                await kubectl("wait", *definitions, *until, deadline=_READY + 10)
            yield cls(sandbox=sandbox, cloud=emulator, roster=roster, kubectl=kubectl)


async def _ready(kubectl: Kubectl, name: str) -> bool:
    """Whether a node is known and ready."""
    ready = 'jsonpath={.status.conditions[?(@.type=="Ready")].status}'
    return (await kubectl("get", "node", name, f"--output={ready}", ok=(0, 1))).out == "True"


async def _instances(emulator: Cloud) -> list[Instance]:
    hyperpod = await emulator.hyperpod(HYPERPOD_NODES)
    return [*hyperpod, await emulator.ec2_instance(hyperpod[0].labels["topology.kubernetes.io/zone"])]


async def _started(site: Site, instances: Sequence[Instance], images: Sequence[Path]) -> tuple[Node, ...]:
    async with asyncio.TaskGroup() as tasks:
        starts = [Node.start(site, instance, number, images) for number, instance in enumerate(instances, 1)]
        started = [tasks.create_task(start) for start in starts]
    return tuple(task.result() for task in started)


async def _hub(sandbox: Sandbox) -> Namespace:
    """The control plane's network, held open by a process that does nothing else."""
    holder = await Daemon.started(sandbox, "hub", ["unshare", "--net", "sleep", "infinity"])
    hub = Namespace(holder.process.pid)

    async def is_apart() -> bool:
        return hub.id() != Namespace.machines_own()

    await holder.until(is_apart, seconds=_APART)
    await network.open_hub(hub)
    return hub


async def _door(site: Site, port: int, *, name: str) -> str:
    """An address on the machine, at a port that was free, that leads to a port of the hub's."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        number = listening.getsockname()[1]
        handle = listening.fileno()
        argv = site.hub.inside(
            sys.executable, "-m", "localcluster.machines.forward", str(handle), network.GATEWAY, str(port)
        )
        await site.sandbox.start(argv, log=f"door-{name}.log", pass_fds=(handle,))
    return f"127.0.0.1:{number}"
