"""The node on which `use` and `release` run: its devices and its kubelet, through the driver's own code."""

import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Self

from cyclopts import Group, Parameter

from hyperpod_ebs.access.volume.node import kubelet_records
from hyperpod_ebs.driver.linux.devices import Devices
from hyperpod_ebs.driver.linux.host import LinuxHost
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.disk import Device
from hyperpod_ebs.kit.files import off_loop

_GROUP: Final = Group("Node", sort_key=80)


@Parameter(name="*", group=_GROUP)
@dataclass(frozen=True, slots=True, kw_only=True)
class NodeOptions:
    """How a command finds the volume on the node."""

    device_name: str = ""
    """Name of the attachment, such as /dev/sdf. Needed only on Xen instances, whose disks have no serial number."""

    device_directory: Annotated[Path, Parameter(env_var="DEVICE_DIRECTORY")] = Path("/dev")
    """Directory of the node's block devices."""

    kubelet_root: Annotated[Path, Parameter(env_var="KUBELET_ROOT")] = Path("/var/lib/kubelet")
    """Root directory of kubelet, where Kubernetes mounts its volumes."""

    even_though_kubernetes_manages_it: Annotated[bool, Parameter(negative="")] = False
    """Act on a volume that Kubernetes manages on this node. Pods that use it may lose data."""


THIS_NODE: Final = NodeOptions()


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The devices and paths of the node."""

    host: LinuxHost
    devices: Devices
    kubelet: Path
    """Kubelet's root directory, with symbolic links resolved."""
    options: NodeOptions

    @classmethod
    def create(cls, options: NodeOptions, *, patience: float = 0) -> Self:
        """Describe this node; `patience` is how long to wait for a device, in seconds."""
        directory = Path(os.path.realpath(options.device_directory))
        return cls(
            host=LinuxHost(devices=directory, root=Path("/"), patience=patience),
            devices=Devices(directory, Path("/sys")),
            kubelet=Path(os.path.realpath(options.kubelet_root)),
            options=options,
        )

    async def find_device(self, volume_id: str) -> Device | None:
        """Find the volume's device without waiting for it."""
        return await self.host.find_attached_device(volume_id, self.options.device_name)

    def has_xen_disks(self) -> bool:
        """Whether the node is a Xen instance; on others, udev may give disks such names by links. Blocks."""
        return any(not path.is_symlink() for path in self.devices.directory.glob("xvd*"))

    async def refuse_kubernetes_volume(self, volume_id: str, device: Device | None) -> None:
        """Accept the volume if Kubernetes does not manage it on this node, or if the caller wants it nevertheless.

        Raises:
            InUse: Kubernetes manages it.
        """
        if self.options.even_though_kubernetes_manages_it:
            return
        root = self.kubelet
        evidence = [
            f"kubelet has it as persistent volume {name}"
            for name in await off_loop(kubelet_records.persistent_volumes, root, volume_id, about=root)
        ]
        points = await self.host.find_mounts(volume_id) if device else ()
        evidence += [f"it is mounted at {point}" for point in points if point.is_relative_to(root)]
        if evidence:
            raise errors.InUse(
                f"Kubernetes manages volume {volume_id} on this node: {', '.join(evidence)}; delete the pods that use "
                "it and let Kubernetes unmount it, or repeat the command with --even-though-kubernetes-manages-it"
            )


class PreconditionFails(errors.Refused):
    """Something forbids what the command is to do, and nothing was changed."""


@contextmanager
def before_any_change() -> Generator[None]:
    """Say of each refusal in the block that nothing was changed.

    Raises:
        PreconditionFails: The block refuses.
    """
    try:
        yield
    except (errors.Refused, errors.Conflict) as error:
        raise PreconditionFails(str(error)) from error


def check_root() -> None:
    """Check that this process may mount.

    Raises:
        Refused: It runs as another user than root.
    """
    if user := os.geteuid():
        raise errors.Refused(f"this command mounts and must run as root, not as user {user}; repeat it with sudo")
