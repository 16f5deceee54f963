"""A Kubernetes cluster in a sandbox: the emulator, the control plane and the nodes."""

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
from localcluster.cloud import Cloud, EksCluster, Instance
from localcluster.images import build_pause_archive
from localcluster.kubernetes import pod_identity_webhook
from localcluster.kubernetes.certificates import ADMINS, CertificateAuthority
from localcluster.kubernetes.control_plane import PORT, ControlPlane
from localcluster.kubernetes.infrastructure import Infrastructure
from localcluster.kubernetes.kubectl import Kubectl
from localcluster.kubernetes.node import Node
from localcluster.machines import network
from localcluster.machines.daemon import Daemon
from localcluster.machines.network import Namespaces
from localcluster.programs import Programs
from localcluster.reconcile import NodeReconciler

HYPERPOD_NODES: Final = 2

_READY_TIMEOUT: Final = 180.0
_NAMESPACE_TIMEOUT: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """A running cluster."""

    sandbox: Sandbox
    cloud: Cloud
    eks: EksCluster
    reconciler: NodeReconciler
    kubectl: Kubectl

    @classmethod
    @asynccontextmanager
    async def start(
        cls, sandbox: Sandbox, programs: Programs, images: Sequence[Path], *, profile: str, step: progress.Step
    ) -> AsyncGenerator["Cluster"]:
        """Start a cluster of two HyperPod nodes and an EC2 node with these images; it ends with the sandbox."""
        hub = await _start_hub(sandbox)
        api_server_address = await _forward_port(sandbox, hub, PORT, name="api-server")
        emulator_address = await _forward_port(sandbox, hub, cloud.PORT, name="cloud")
        async with Cloud.start(sandbox, hub, f"http://{emulator_address}", profile) as emulator:
            with step("create an EKS cluster"):
                eks = await emulator.create_eks_cluster()
            authority = CertificateAuthority.load(sandbox.path / "keys", eks.keys)
            infrastructure = Infrastructure(sandbox=sandbox, programs=programs, authority=authority, hub=hub)
            admin = authority.write_kubeconfig("user", f"https://{api_server_address}", user="admin", group=ADMINS)
            kubectl = Kubectl(programs["kubectl"], str(admin))
            with step("start etcd, the API server, the controllers, the scheduler and the pod identity webhook"):
                await ControlPlane(infrastructure, eks).start()
                await pod_identity_webhook.start(infrastructure, kubectl, emulator.client.environment)
            with step("create a HyperPod cluster and an EC2 instance"):
                await emulator.create_node_role()
                instances = await emulator.create_hyperpod_cluster(HYPERPOD_NODES, eks)
                zone = instances[0].labels["topology.kubernetes.io/zone"]
                instances.append(await emulator.create_ec2_instance(zone))
            with step("start the nodes and import their images"):
                archives = [build_pause_archive(programs), *images]
                nodes = await _start_nodes(infrastructure, instances, archives)
                reconciler = NodeReconciler(infrastructure, emulator, nodes, archives)
            with step("wait until the nodes are ready"):
                for node in nodes:
                    is_ready = partial(_is_node_ready, kubectl, node.instance.name)
                    await node.kubelet.wait_until(is_ready, seconds=_READY_TIMEOUT)
                definitions = ("--filename", str(programs.snapshot_definitions))
                await kubectl("apply", *definitions)
                # The chart omits objects whose kinds the API server does not serve yet.
                until = ("--for=condition=Established", f"--timeout={_READY_TIMEOUT:g}s")
                await kubectl("wait", *definitions, *until, deadline=_READY_TIMEOUT + 10)
            yield cls(sandbox=sandbox, cloud=emulator, eks=eks, reconciler=reconciler, kubectl=kubectl)


async def _is_node_ready(kubectl: Kubectl, name: str) -> bool:
    """Whether a node is registered and ready."""
    ready = 'jsonpath={.status.conditions[?(@.type=="Ready")].status}'
    return (await kubectl("get", "node", name, f"--output={ready}", ok=(0, 1))).out == "True"


async def _start_nodes(
    infrastructure: Infrastructure, instances: Sequence[Instance], images: Sequence[Path]
) -> tuple[Node, ...]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(Node.start(infrastructure, instance, images)) for instance in instances]
    return tuple(task.result() for task in tasks)


async def _start_hub(sandbox: Sandbox) -> Namespaces:
    """Start the control plane's network: a namespace with a bridge, held by a process that does nothing."""
    holder = await Daemon.start(sandbox, "hub", ["unshare", "--net", "sleep", "infinity"])
    hub = Namespaces(holder.process.pid)

    async def has_own_network() -> bool:
        return hub.network_id() != Namespaces.own_network_id()

    await holder.wait_until(has_own_network, seconds=_NAMESPACE_TIMEOUT)
    await network.create_bridge(hub)
    return hub


async def _forward_port(sandbox: Sandbox, hub: Namespaces, port: int, *, name: str) -> str:
    """Forward a free port of this machine to a port of the hub; the address with the free port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        local_port = listening.getsockname()[1]
        handle = listening.fileno()
        argv = hub.network_argv(
            sys.executable, "-m", "localcluster.machines.forward", str(handle), network.GATEWAY, str(port)
        )
        await sandbox.start(argv, log=f"forward-{name}.log", pass_fds=(handle,))
    return f"127.0.0.1:{local_port}"
