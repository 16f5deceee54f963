"""Write protection of raw block volumes that are published read-only.

A read-only bind mount of a device node does not stop writes to the device; only the kernel's flag on the device does,
and it holds for all users of the device. So on one node a raw block volume has readers or writers, not both.

published already   wanted       device            next
------------------  -----------  ----------------  -------------------------
to a writer         read-only    any               refuse
not, or to readers  read-only    any               protect, then bind-mount
to a reader         for writing  any               refuse
not                 for writing  write-protected   refuse
not, or to writers  for writing  writable          bind-mount

A volume is a filesystem or a raw block volume on one node, never both: a writer of the device would destroy the
filesystem that is mounted.

The mount table remembers who reads and who writes: a reader's bind mount is read-only.
"""

from collections.abc import Sequence
from pathlib import Path

from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.disk import Device
from hyperpod_ebs.driver.mounts.host import Host


async def prepare_device(host: Host, volume_id: str, device: Device, target: Path, *, reading: bool) -> None:
    """Write-protect the device for a reader; check for a writer that it is not write-protected.

    Raises:
        InUse: A filesystem on the device is mounted, or the volume is published at another target path to a writer, or
            for a writer to a reader.
        NotReady: The device is write-protected, but not for a reader.
    """
    readers: list[Path] = []
    writers: list[Path] = []
    points = await host.find_bind_mounts(device.path)
    if mounts := sorted({*await host.find_mounts(volume_id)}.difference(points)):
        raise errors.InUse(
            f"cannot publish volume {volume_id} as a raw block volume: it is mounted as a filesystem at "
            f"{', '.join(map(str, mounts))}; end the pods that use it there"
        )
    for point in points:
        top = (await host.inspect_path(point)).top
        if top and point != target:
            (readers if "ro" in top.options else writers).append(point)
    refuse_mixed_use(volume_id, device, readers=readers, writers=writers, reading=reading)
    if reading and not device.write_protected:
        await host.set_write_protection(device, volume_id, on=True)


def refuse_mixed_use(
    volume_id: str, device: Device, *, readers: Sequence[Path], writers: Sequence[Path], reading: bool
) -> None:
    """Accept one more use of the device if the other users are of the same kind.

    Raises:
        InUse: The other users are of the other kind.
        NotReady: The device is write-protected, but not for a reader.
    """
    if others := writers if reading else readers:
        wanted, found = ("read-only", "for writing") if reading else ("for writing", "read-only")
        raise errors.InUse(
            f"cannot publish raw block volume {volume_id} {wanted}: it is published {found} at "
            f"{', '.join(map(str, others))}, and the kernel's write protection holds for all users of a device; use "
            "the same readOnly in all pods on this node, or end the pods that use it there"
        )
    if device.write_protected and not reading:
        raise errors.NotReady(write_protected(volume_id, device))


async def refuse_raw_use(host: Host, volume_id: str, device: Device) -> None:
    """Accept the device for a filesystem if it is not published as a raw block volume.

    Raises:
        InUse: It is.
    """
    if points := await host.find_bind_mounts(device.path):
        raise errors.InUse(
            f"cannot mount volume {volume_id}: it is published as a raw block volume at "
            f"{', '.join(map(str, points))}; end the pods that use it there"
        )


async def lift_protection(host: Host, volume_id: str) -> None:
    """Allow writes to the volume's device again, if it is not mounted or published on this node any more."""
    device = await host.find_attached_device(volume_id)
    if device and device.write_protected and not await host.find_mounts(volume_id):
        await host.set_write_protection(device, volume_id, on=False)


def write_protected(volume_id: str, device: Device) -> str:
    """The message about a write-protected device that is wanted for writing."""
    return (
        f"device {device.path} of volume {volume_id} is write-protected, but the volume is wanted for writing; end "
        "the pods that use it read-only as a raw block volume, or run `blockdev --setrw` on the node for device "
        f"{device.number}"
    )
