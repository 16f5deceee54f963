"""A Kubernetes node: a machine on which containerd and kubelet run."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hyperpod_ebs.kit import command, files
from localcluster import programs
from localcluster.cloud import Instance
from localcluster.images import PAUSE
from localcluster.kubernetes.control_plane import SERVER
from localcluster.kubernetes.keys import NODES
from localcluster.kubernetes.site import Site
from localcluster.machines import network
from localcluster.machines.daemon import Daemon
from localcluster.machines.machine import Machine
from localcluster.machines.network import Namespace

TAINT: Final = {"key": "ebs.csi.aws.com/agent-not-ready", "value": "", "effect": "NoExecute"}
"""What a node has until the driver runs on it."""

SOCKET: Final = "/run/containerd/containerd.sock"

_READY: Final = 180.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One that runs."""

    instance: Instance
    machine: Machine
    kubelet: Daemon

    @classmethod
    async def start(cls, site: Site, instance: Instance, number: int, images: Sequence[Path]) -> "Node":
        """Start the machine, its containerd and its kubelet; it makes itself known while the images are brought.

        The first image is the one that holds a pod's namespaces open.

        Raises:
            CommandFailed, ProcessEnded, ProcessNotReady: It does not come up, and is off again.
        """
        machine = await Machine.start(site.sandbox, site.hub, instance.id, number, instance.devices)
        try:
            await _start_containerd(machine, instance.name)
            await take_in(machine.namespace, images[0])
            kubelet = await _start_kubelet(site, instance, machine)
            for archive in images[1:]:
                await take_in(machine.namespace, archive)
        except BaseException:
            machine.end()
            raise
        return cls(instance=instance, machine=machine, kubelet=kubelet)


async def _start_containerd(machine: Machine, name: str) -> None:
    """Start containerd; done when it answers."""
    config = machine.home / "containerd.toml"
    cni = machine.home / "cni"
    await files.off_loop(cni.mkdir)
    await files.off_loop(lambda: config.write_text(_containerd(cni)))
    await files.off_loop(lambda: (cni / "10-pods.conflist").write_text(_pod_network(machine.number)))
    containerd = await machine.run(f"{name}-containerd", "containerd", f"--config={config}")

    async def answers() -> bool:
        return not (await ctr(machine.namespace, "version", ok=frozenset({0, 1}))).code

    await containerd.until(answers, seconds=_READY)


async def _start_kubelet(site: Site, instance: Instance, machine: Machine) -> Daemon:
    """Start kubelet, which makes itself known as the node."""
    user = f"system:node:{instance.name}"
    kubeconfig = site.keys.kubeconfig(instance.id, SERVER, user=user, group=NODES)
    config = machine.home / "kubelet.json"
    document = json.dumps(_kubelet(site, instance, machine), indent=2)
    await files.off_loop(config.write_text, document)
    return await machine.run(
        f"{instance.name}-kubelet",
        site.programs["kubelet"],
        f"--config={config}",
        f"--kubeconfig={kubeconfig}",
        f"--hostname-override={instance.name}",
        f"--node-ip={network.node_address(machine.number)}",
        f"--node-labels={','.join(f'{key}={value}' for key, value in instance.labels.items())}",
    )


def _kubelet(site: Site, instance: Instance, machine: Machine) -> dict[str, object]:
    """Its settings (Kubernetes' reference of KubeletConfiguration)."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(site.keys.ca)},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{machine.group}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "containerRuntimeEndpoint": f"unix://{SOCKET}",
        "evictionHard": {"memory.available": "50Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
        "podCIDR": network.pods_of(machine.number),
        "providerID": instance.provider_id,
        "registerWithTaints": [TAINT],
        "resolvConf": "",
        # Kubelet tells which volumes it uses with its status, and neither mounts nor lets go before it has. That a
        # volume has grown, it sees when it next looks at the pod. Its own are 10 s, 5 minutes and one minute.
        "nodeStatusUpdateFrequency": "1s",
        "nodeStatusReportFrequency": "10s",
        "nodeLeaseDurationSeconds": 8,  # a sign of life every 2 s: one that comes late is no lost node yet
        "syncFrequency": "5s",
        "rotateCertificates": False,
        "serverTLSBootstrap": False,
        "volumePluginDir": "/var/lib/kubelet/volumeplugins",  # its own is in /usr
    }


async def take_in(namespace: Namespace, archive: Path) -> None:
    """Let the node have the image in an archive."""
    await ctr(namespace, "images", "import", "--digests=false", str(archive))


async def ctr(namespace: Namespace, *words: str, ok: frozenset[int] = frozenset({0})) -> command.Finished:
    """What containerd's own command answers on the node of these namespaces, in Kubernetes' namespace."""
    argv = ["ctr", "--namespace=k8s.io", f"--address={SOCKET}", *words]
    return await command.run(namespace.wholly(*argv), ok=ok, deadline=300)


def _pod_network(number: int) -> str:
    """How the node's pods are joined to its network (CNI specification 1.0.0)."""
    addresses = {"type": "host-local", "ranges": [[{"subnet": network.pods_of(number)}]]}
    bridge = {
        "type": "bridge",
        "bridge": "pods",
        "isDefaultGateway": True,
        "ipMasq": False,
        "hairpinMode": True,
        "ipam": {**addresses, "dataDir": "/run/cni"},
    }
    return json.dumps({"cniVersion": "1.0.0", "name": "pods", "plugins": [bridge]})


def _containerd(cni: Path) -> str:
    """The settings of containerd (its man page containerd-config.toml, and those of its plugin cri)."""
    return f"""
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
address = "{SOCKET}"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE}"
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{programs.CNI}"
conf_dir = "{cni}"
[plugins."io.containerd.internal.v1.opt"]
path = "/var/lib/containerd/opt"
"""
