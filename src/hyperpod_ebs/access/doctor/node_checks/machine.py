"""The machine that the doctor runs on, if it is a node of the cluster: directories, disks and device mappers.

Everything is read from sysfs and the mount table. No disk is opened, and nothing is written.
"""

import os
import re
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

from hyperpod_ebs.access.doctor.context import Missing
from hyperpod_ebs.driver.linux import mountinfo
from hyperpod_ebs.driver.linux.devices import MODEL
from hyperpod_ebs.driver.model.path_state import MountEntry
from hyperpod_ebs.kit.files import Unresponsive, off_loop

T = TypeVar("T")

EBS: Final = MODEL
LOCAL: Final = "Amazon EC2 NVMe Instance Storage"
"""The model of the local disks of an instance (EC2 User Guide, Instance store volumes)."""

GROUP: Final = "vg.01"
"""The LVM volume group that the HyperPod AMI makes of all local disks."""

GROUP_MOUNT: Final = Path("/opt/sagemaker")

_PART: Final = "the machine"
_ELSEWHERE: Final = "this is not a node of the cluster; run the doctor on a node as root, or in a pod of ebs-csi-node"
_VERSION: Final = re.compile(r"(\d+)\.(\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Where the parts of a node are. The defaults are right on a node, and in the driver's pod on it."""

    kubelet: Path = Path("/var/lib/kubelet")
    devices: Path = Path("/dev")
    sysfs: Path = Path("/sys")
    group_mount: Path = GROUP_MOUNT
    release: str = field(default_factory=lambda: os.uname().release)
    """The kernel's version."""

    programs: str | None = None
    """The directories with programs; None for PATH."""

    @property
    def name(self) -> str:
        """The name of the Kubernetes node, as the chart gives it to the driver's pod; else the host's name."""
        return os.environ.get("CSI_NODE_NAME") or os.environ.get("NODE_NAME") or socket.gethostname()

    @property
    def kernel(self) -> tuple[int, int]:
        """The kernel's major and minor version."""
        found = _VERSION.match(self.release)
        return (int(found[1]), int(found[2])) if found else (0, 0)

    async def require_node(self) -> None:
        """Check that this is a node, and that the caller may look at it.

        Raises:
            Missing: It is another place, or the caller is not root.
        """
        if not await off_loop((self.kubelet / "plugins").is_dir):
            raise Missing(_PART, _ELSEWHERE, is_elsewhere=True)
        if os.geteuid() != 0:
            raise Missing(_PART, f"this is a node, and only root can look at it; {_ELSEWHERE.partition('; ')[2]}")


THIS_MACHINE: Final = Machine()


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """A disk, as sysfs shows it."""

    name: str
    """The kernel's name: `nvme1n1`."""

    number: str
    """The kernel's number: `259:1`."""

    model: str
    serial: str
    holders: tuple[str, ...] = ()
    """The block devices on top of it or of its partitions: `dm-0`."""

    partitions: tuple[str, ...] = ()
    partition_numbers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapper:
    """A device of the device mapper."""

    name: str
    """The kernel's name: `dm-0`."""

    title: str
    """Its own name: `vg.01-lv_ephemeral`."""

    uuid: str
    """Begins with the program that made it: `LVM-` or `mpath-`."""

    number: str
    suspended: bool

    @property
    def is_of_group(self) -> bool:
        """Whether it is a logical volume of the HyperPod AMI's volume group."""
        return self.uuid.startswith("LVM-") and self.title.startswith(f"{GROUP}-")


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """The machine's disks, device mappers and mounts."""

    disks: tuple[Disk, ...] = ()
    mappers: Mapping[str, Mapper] = field(default_factory=dict)
    """By the kernel's names."""

    mounts: tuple[MountEntry, ...] = ()

    def disks_of_model(self, model: str) -> list[Disk]:
        """The disks of a model."""
        return [disk for disk in self.disks if disk.model == model]


async def read_storage(machine: Machine) -> Storage:
    """Read what sysfs and the mount table say.

    Raises:
        Missing: This is not a node, or the machine does not answer.
    """
    await machine.require_node()
    return await call(_read_storage, machine.sysfs)


async def call(act: Callable[..., T], *args: object) -> T:
    """Call a function that reads the machine, off the loop.

    Raises:
        Missing: It fails, or does not return in time.
    """
    try:
        return await off_loop(act, *args, about=f"{getattr(act, '__name__', 'a read')} {args}")
    except (OSError, Unresponsive) as error:
        raise Missing(_PART, f"cannot read the machine's state: {error}") from error


def _read_storage(sysfs: Path) -> Storage:
    disks, mappers = list[Disk](), dict[str, Mapper]()
    for entry in sorted((sysfs / "block").iterdir()):
        if (entry / "dm").is_dir():
            mappers[entry.name] = _read_mapper(entry)
        elif model := read_line(entry / "device" / "model"):
            disks.append(_read_disk(entry, model))
    return Storage(disks=tuple(disks), mappers=mappers, mounts=mountinfo.read())


def _read_disk(entry: Path, model: str) -> Disk:
    partitions = sorted(child for child in entry.iterdir() if (child / "partition").exists())
    return Disk(
        name=entry.name,
        number=read_line(entry / "dev"),
        model=model,
        serial=read_line(entry / "device" / "serial"),
        holders=tuple(holder for device in (entry, *partitions) for holder in _names_in(device / "holders")),
        partitions=tuple(partition.name for partition in partitions),
        partition_numbers=tuple(read_line(partition / "dev") for partition in partitions),
    )


def _read_mapper(entry: Path) -> Mapper:
    return Mapper(
        name=entry.name,
        title=read_line(entry / "dm" / "name"),
        uuid=read_line(entry / "dm" / "uuid"),
        number=read_line(entry / "dev"),
        suspended=read_line(entry / "dm" / "suspended") == "1",
    )


def _names_in(directory: Path) -> Iterator[str]:
    if directory.is_dir():
        yield from sorted(entry.name for entry in directory.iterdir())


def read_line(path: Path) -> str:
    """Read the only line of a file of sysfs; empty if the file does not exist."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""
