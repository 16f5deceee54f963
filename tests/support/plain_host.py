"""A node in memory: devices and mounts as values, for the decisions of `driver/mounts/`."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.disk import Amount, Device, DeviceNumber, Usage
from hyperpod_ebs.driver.model.path_state import MountEntry, PathKind, PathState


@dataclass
class PlainHost:
    """The part of `mounts.host.Host` that all calls but staging use."""

    devices: dict[str, Device] = field(default_factory=dict)
    states: dict[Path, PathState] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)
    """What was changed, in order."""

    def attach(self, volume_id: str, minor: int) -> Device:
        """Attach a volume under a device number."""
        device = Device(path=Path(f"/dev/nvme{minor}n1"), number=DeviceNumber(259, minor), size=2**30)
        self.devices[volume_id] = device
        return device

    def add_mount(
        self, path: Path, number: DeviceNumber, *, root: str = "/", options: Iterable[str] = ("rw",), broken: str = ""
    ) -> None:
        """Mount a device's ext4 at a path, above what is mounted there."""
        state = self.states.get(path, PathState(path=path, kind=PathKind.DIRECTORY))
        entry = MountEntry(
            id=100 + len(self.states),
            parent=1,
            number=number,
            root=root,
            mount_point=path,
            options=frozenset(options),
            filesystem="ext4",
            source=f"/dev/nvme{number.minor}n1",
            super_options=frozenset({"rw"}),
        )
        self.states[path] = replace(state, mounts=(*state.mounts, entry), broken=broken)

    async def inspect_path(self, path: Path, *, cached: bool = False) -> PathState:
        """The state of the path."""
        del cached
        return self.states.get(path, PathState(path=path))

    async def find_device(self, volume_id: str, published: str = "", *, size: int = 0) -> Device:
        """The attached device."""
        del published
        if volume_id not in self.devices or self.devices[volume_id].size < size:
            raise errors.DeviceNotReady(f"no device of volume {volume_id}")
        return self.devices[volume_id]

    async def find_attached_device(self, volume_id: str, published: str = "") -> Device | None:
        """The attached device."""
        del published
        return self.devices.get(volume_id)

    async def is_device_of(self, volume_id: str, number: DeviceNumber) -> bool | None:
        """Whether it is the attached device; None for a number that no attached device has."""
        owner = next((id_ for id_, device in self.devices.items() if device.number == number), None)
        return owner == volume_id if owner else None

    async def bind_mount(self, source: Path, number: DeviceNumber, target: Path, options: Iterable[str]) -> None:
        """Add a mount."""
        self.done.append(f"bind {source} at {target}")
        self.add_mount(target, number, options=["rw", *options] if "ro" not in set(options) else options)

    async def find_bind_mounts(self, source: Path) -> tuple[Path, ...]:
        """All other paths at which the device that is mounted at `source` is mounted."""
        numbers = {state.number for path, state in self.states.items() if path == source}
        return tuple(path for path, state in self.states.items() if state.number in numbers and path != source)

    async def find_mounts(self, volume_id: str) -> tuple[Path, ...]:
        """All paths at which the volume is mounted."""
        device = self.devices.get(volume_id)
        return tuple(path for path, state in self.states.items() if device and state.number == device.number)

    async def grow(self, device: Device, state: PathState) -> None:
        """Note the growth."""
        self.done.append(f"grow {state.path} to {device.size}")

    async def wait_until_free(self, volume_id: str, published: str = "") -> None:
        """Note the wait: a device without mounts is free."""
        del published
        self.done.append(f"wait for {volume_id}")

    async def unmount(self, target: Path) -> None:
        """Remove the top mount, and with it what was broken."""
        self.done.append(f"unmount {target}")
        state = self.states[target]
        self.states[target] = replace(state, mounts=state.mounts[:-1], broken="")

    async def set_write_protection(self, device: Device, volume_id: str, *, on: bool) -> None:
        """Set the kernel's write protection of the device."""
        self.done.append(f"protect {volume_id}" if on else f"allow writes to {volume_id}")
        self.devices[volume_id] = replace(device, write_protected=on)

    async def remove_empty(self, path: Path) -> None:
        """Remove a path without mounts."""
        self.done.append(f"remove {path}")
        self.states.pop(path, None)

    async def find_write_refusal(self, state: PathState) -> str:
        """No filesystem has failed."""
        del state
        return ""

    async def measure_usage(self, state: PathState) -> Usage:
        """The size that all volumes have."""
        del state
        return Usage(Amount(total=2**30))
