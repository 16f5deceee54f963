"""A Kubernetes node: a machine that runs containerd and kubelet."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hyperpod_ebs.kit import command, files
from localcluster import programs
from localcluster.cloud import Instance
from localcluster.images import PAUSE
from localcluster.kubernetes.certificates import NODES
from localcluster.kubernetes.control_plane import SERVER
from localcluster.kubernetes.infrastructure import Infrastructure
from localcluster.machines import network
from localcluster.machines.daemon import Daemon
from localcluster.machines.machine import Machine
from localcluster.machines.network import Namespaces

TAINT: Final = {"key": "ebs.csi.aws.com/agent-not-ready", "value": "", "effect": "NoExecute"}
"""The taint that a node has until the driver runs on it."""

SOCKET: Final = "/run/containerd/containerd.sock"

_READY_TIMEOUT: Final = 180.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A running node."""

    instance: Instance
    machine: Machine
    kubelet: Daemon

    @classmethod
    async def start(cls, infrastructure: Infrastructure, instance: Instance, images: Sequence[Path]) -> "Node":
        """Start the machine, its containerd and its kubelet, and import the images.

        The first archive has the pause image. It is imported before kubelet starts, the others while the node
        registers.

        Raises:
            CommandFailed, ProcessEnded, ProcessNotReady: The node did not start; its machine is stopped.
        """
        machine = await Machine.start(
            infrastructure.sandbox, infrastructure.hub, instance.id, instance.address, instance.devices
        )
        try:
            await _start_containerd(machine, instance.name)
            await import_images(machine.namespaces, images[0])
            kubelet = await _start_kubelet(infrastructure, instance, machine)
            for archive in images[1:]:
                await import_images(machine.namespaces, archive)
        except BaseException:
            machine.stop()
            raise
        return cls(instance=instance, machine=machine, kubelet=kubelet)


async def _start_containerd(machine: Machine, name: str) -> None:
    """Start containerd, and wait until it answers."""
    config = machine.home / "containerd.toml"
    cni = machine.home / "cni"
    await files.off_loop(cni.mkdir)
    await files.off_loop(config.write_text, _containerd_config(cni))
    await files.off_loop((cni / "10-pods.conflist").write_text, _cni_config(machine.address))
    containerd = await machine.start_daemon(f"{name}-containerd", "containerd", f"--config={config}")

    async def answers() -> bool:
        return not (await run_ctr(machine.namespaces, "version", ok=frozenset({0, 1}))).code

    await containerd.wait_until(answers, seconds=_READY_TIMEOUT)


async def _start_kubelet(infrastructure: Infrastructure, instance: Instance, machine: Machine) -> Daemon:
    """Start kubelet, which registers the node."""
    user = f"system:node:{instance.name}"
    kubeconfig = infrastructure.authority.write_kubeconfig(instance.id, SERVER, user=user, group=NODES)
    config = machine.home / "kubelet.json"
    document = json.dumps(_kubelet_config(infrastructure, instance, machine), indent=2)
    await files.off_loop(config.write_text, document)
    return await machine.start_daemon(
        f"{instance.name}-kubelet",
        infrastructure.programs["kubelet"],
        f"--config={config}",
        f"--kubeconfig={kubeconfig}",
        f"--hostname-override={instance.name}",
        f"--node-ip={machine.address}",
        f"--node-labels={','.join(f'{key}={value}' for key, value in instance.labels.items())}",
    )


def _kubelet_config(infrastructure: Infrastructure, instance: Instance, machine: Machine) -> dict[str, object]:
    """Kubelet's configuration (Kubernetes reference, KubeletConfiguration v1beta1)."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(infrastructure.authority.certificate)},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{machine.group}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "containerRuntimeEndpoint": f"unix://{SOCKET}",
        "evictionHard": {"memory.available": "50Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
        # Nothing answers there, so that a lookup fails at once. Without an address, kubelet warns about every pod.
        "clusterDNS": [network.GATEWAY],
        "podCIDR": network.pod_range(machine.address),
        "providerID": instance.provider_id,
        "registerWithTaints": [TAINT],
        "resolvConf": "",
        # Kubelet reports the volumes in use with its status, and waits for that before it mounts and unmounts. It
        # notices that a volume has grown when it next syncs the pod. The defaults are 10 s, 5 minutes and 1 minute.
        "nodeStatusUpdateFrequency": "1s",
        "nodeStatusReportFrequency": "10s",
        "nodeLeaseDurationSeconds": 8,  # renewed every 2 s, so that a late renewal does not make the node not ready
        "syncFrequency": "5s",
        "rotateCertificates": False,
        "serverTLSBootstrap": False,
        "volumePluginDir": "/var/lib/kubelet/volumeplugins",  # the default is below /usr
    }


async def import_images(node: Namespaces, archive: Path) -> None:
    """Import the images of an archive on the node with these namespaces."""
    await run_ctr(node, "images", "import", "--digests=false", str(archive))


async def run_ctr(node: Namespaces, *words: str, ok: frozenset[int] = frozenset({0})) -> command.Finished:
    """Run containerd's command on the node with these namespaces, for the containers of Kubernetes."""
    argv = ["ctr", "--namespace=k8s.io", f"--address={SOCKET}", *words]
    return await command.run(node.node_argv(*argv), ok=ok, deadline=300)


def _cni_config(address: str) -> str:
    """The network configuration of the pods on the node with this address (CNI specification 1.0.0)."""
    addresses = {"type": "host-local", "ranges": [[{"subnet": network.pod_range(address)}]]}
    bridge = {
        "type": "bridge",
        "bridge": "pods",
        "isDefaultGateway": True,
        "ipMasq": False,
        "hairpinMode": True,
        "ipam": {**addresses, "dataDir": "/run/cni"},
    }
    return json.dumps({"cniVersion": "1.0.0", "name": "pods", "plugins": [bridge]})


def _containerd_config(cni: Path) -> str:
    """The configuration of containerd (containerd-config.toml(5), and docs/cri/config.md of containerd)."""
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
