"""A node: a machine of the cloud with namespaces, a /dev and a root for its state of its own; containerd and kubelet.

The order matters. The node's mounts are cut off from the machine's before they are
shared among themselves, which kubelet wants: shared first, they would come to lie on
the machine's own /dev and /run.
"""

import asyncio
import json
import os
import stat
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hyperpod_ebs.demo import cgroups
from hyperpod_ebs.demo.sandbox import Sandbox
from hyperpod_ebs.kit import command, files
from hyperpod_ebs.linux import mountinfo
from localcluster import network, programs
from localcluster.cloud import Machine
from localcluster.control_plane import SERVER
from localcluster.images import PAUSE
from localcluster.keys import NODES
from localcluster.network import Namespace
from localcluster.site import Site

TAINT: Final = {"key": "ebs.csi.aws.com/agent-not-ready", "value": "", "effect": "NoExecute"}
"""What a node has until the driver runs on it."""

SOCKET: Final = "/run/containerd/containerd.sock"

_DEVICES: Final = {
    "full": (1, 7),
    "kmsg": (1, 11),
    "loop-control": (10, 237),
    "null": (1, 3),
    "ptmx": (5, 2),
    "random": (1, 8),
    "tty": (5, 0),
    "urandom": (1, 9),
    "zero": (1, 5),
}
"""Each device that every machine has, with its numbers (Linux's admin-guide/devices.txt)."""

_LOOP: Final = 7  # the same list: the major number of loop devices
_LOOPS: Final = 256
"""Loop devices that a node knows by name: kubelet holds the device of each raw block volume through one of its own."""

_LINKS: Final = {"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"}

_READY: Final = 30.0
_LOOK: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A machine that runs."""

    machine: Machine
    number: int
    """From 1; its address and its pods' follow from it."""
    namespace: Namespace
    home: Path
    site: Site

    @classmethod
    async def start(cls, site: Site, machine: Machine, number: int, images: Sequence[Path]) -> "Node":
        """Start the machine, its containerd, which gets the images, and its kubelet, which then finds them there."""
        home = site.sandbox.path / "nodes" / machine.instance
        await files.off_loop(lambda: _furnish(home, machine.devices))
        holder = await _holder(site.sandbox, machine)
        node = cls(machine=machine, number=number, namespace=holder, home=home, site=site)
        await network.join(site.hub, holder, number)
        await node._mount()
        await node.start_containerd()
        await node.load(images)
        await node.start_kubelet()
        return node

    async def start_containerd(self) -> None:
        """Start containerd; done when it answers."""
        config = self.home / "containerd.toml"
        cni = self.home / "cni"
        await files.off_loop(lambda: config.write_text(_containerd(cni)))
        await files.off_loop(lambda: (cni / "10-pods.conflist").write_text(_pod_network(self.number)))
        await self._run("containerd", "containerd", f"--config={config}")
        async with asyncio.timeout(_READY):
            while (await self.ctr("version", ok=frozenset({0, 1}))).code:  # noqa: ASYNC110 - a poll
                await asyncio.sleep(_LOOK)

    async def start_kubelet(self) -> None:
        """Start kubelet, which makes itself known as the node."""
        name = self.machine.name
        kubeconfig = self.site.keys.kubeconfig(self.machine.instance, SERVER, user=f"system:node:{name}", group=NODES)
        config = self.home / "kubelet.json"
        document = json.dumps(self._kubelet(), indent=2)
        await files.off_loop(lambda: config.write_text(document))
        await self._run(
            "kubelet",
            self.site.programs["kubelet"],
            f"--config={config}",
            f"--kubeconfig={kubeconfig}",
            f"--hostname-override={name}",
            f"--node-ip={network.node_address(self.number)}",
            f"--node-labels={','.join(f'{key}={value}' for key, value in self.machine.labels.items())}",
        )

    async def ctr(self, *words: str, ok: frozenset[int] = frozenset({0})) -> command.Finished:
        """What containerd's own command answers, in Kubernetes' namespace."""
        return await _ctr(self.namespace, *words, ok=ok)

    async def load(self, archives: Sequence[Path]) -> None:
        """Take images in."""
        for archive in archives:
            await take_in(self.namespace, archive)

    async def _mount(self) -> None:
        """Give the node what is its own: first cut off (unshare did), then shared for kubelet."""
        dev = self.machine.devices
        steps = (
            *([["umount", "--lazy", *others]] if (others := await self._on_loop_devices()) else []),
            ["mount", "--make-rshared", "/"],
            ["mount", "--bind", str(dev), "/dev"],
            ["mount", "-t", "devpts", "-o", "newinstance,ptmxmode=0666,mode=620", "devpts", "/dev/pts"],
            ["mount", "-t", "tmpfs", "-o", "mode=1777", "tmpfs", "/dev/shm"],  # noqa: S108 - as on every machine
            ["mount", "-t", "mqueue", "mqueue", "/dev/mqueue"],
            ["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run"],
            ["mount", "--bind", str(self.home / "lib"), "/var/lib"],
            ["mount", "--bind", str(self.home / "log"), "/var/log"],
        )
        for argv in steps:
            await command.run(self.namespace.wholly(*argv))

    async def _on_loop_devices(self) -> list[str]:
        """What else on the machine is mounted from a loop device, which our copy of the mount would keep busy."""
        table = await files.off_loop(Path(f"/proc/{self.namespace.holder}/mountinfo").read_bytes)
        return [str(mount.point) for mount in mountinfo.parse(table) if mount.number.major == _LOOP]

    async def _run(self, name: str, *argv: str) -> None:
        await self.site.sandbox.start(self.namespace.wholly(*argv), log=f"{self.machine.name}-{name}.log")

    def _kubelet(self) -> dict[str, object]:
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(self.site.keys.ca)},
            },
            "authorization": {"mode": "Webhook"},
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{_group(self.site.sandbox, self.machine)}",
            "failCgroupV1": False,
            "failSwapOn": False,
            "containerRuntimeEndpoint": f"unix://{SOCKET}",
            "evictionHard": {"memory.available": "50Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
            "imageGCHighThresholdPercent": 100,
            "podCIDR": network.pods_of(self.number),
            "providerID": self.machine.provider_id,
            "registerWithTaints": [TAINT],
            "resolvConf": "",
            # Kubelet tells which volumes it uses with its status, and neither mounts nor lets go before it has. That a
            # volume has grown, it sees when it next looks at the pod. Its own are 10 s, 5 minutes and one minute.
            "nodeStatusUpdateFrequency": "1s",
            "nodeStatusReportFrequency": "10s",
            "syncFrequency": "5s",
            "rotateCertificates": False,
            "serverTLSBootstrap": False,
        }


async def take_in(namespace: Namespace, archive: Path) -> None:
    """Let the node have the image in an archive."""
    await _ctr(namespace, "images", "import", "--digests=false", str(archive))


async def _ctr(namespace: Namespace, *words: str, ok: frozenset[int] = frozenset({0})) -> command.Finished:
    argv = ["ctr", "--namespace=k8s.io", f"--address={SOCKET}", *words]
    return await command.run(namespace.wholly(*argv), ok=ok, deadline=300)


async def _holder(sandbox: Sandbox, machine: Machine) -> Namespace:
    """The first process of the node, in namespaces of its own."""
    apart = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation=private"]
    outer = await sandbox.start([*apart, sys.executable, "-m", "localcluster.init"], log=f"{machine.name}-init.log")
    children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children")
    async with asyncio.timeout(_READY):
        while not (found := (await files.off_loop(children.read_text)).split()):  # noqa: ASYNC110 - a poll
            await asyncio.sleep(_LOOK)
    await files.off_loop(lambda: cgroups.make(_group(sandbox, machine)))
    return Namespace(int(found[0]))


def _group(sandbox: Sandbox, machine: Machine) -> Path:
    """The node's control group; the sandbox removes it."""
    return Path(sandbox.path.name) / machine.instance


def _furnish(home: Path, dev: Path) -> None:
    """Make the node's directories, and put into its /dev what every machine has."""
    for directory in ("lib", "log", "cni"):
        (home / directory).mkdir(parents=True)
    for directory in ("pts", "shm", "mqueue"):
        (dev / directory).mkdir(exist_ok=True)
    for name, (major, minor) in _DEVICES.items():
        os.mknod(dev / name, stat.S_IFCHR, os.makedev(major, minor))
        (dev / name).chmod(0o600 if name == "kmsg" else 0o666)
    for number in range(_LOOPS):
        os.mknod(dev / f"loop{number}", stat.S_IFBLK | 0o660, os.makedev(_LOOP, number))
    for name, target in _LINKS.items():
        (dev / name).symlink_to(target)


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
"""
