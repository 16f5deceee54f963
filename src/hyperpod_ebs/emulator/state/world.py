"""The state that all services share: records, clock, disks, device directories, and the region they are in."""

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from hyperpod_ebs.emulator.disks.backing_files import BackingFiles
from hyperpod_ebs.emulator.disks.bindings import Bindings
from hyperpod_ebs.emulator.disks.device_directories import DeviceDirectories
from hyperpod_ebs.emulator.state.clock import Clock
from hyperpod_ebs.emulator.state.endpoint import Endpoint
from hyperpod_ebs.emulator.state.region import Region
from hyperpod_ebs.emulator.state.store import Store
from hyperpod_ebs.emulator.state.views import View

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """The state of one account in one region."""

    region: Region
    store: Store
    shown: View
    """What describing calls show of the store."""

    clock: Clock
    backing_files: BackingFiles
    directories: DeviceDirectories
    bindings: Bindings
    state: Path
    """The state directory."""

    endpoint: Endpoint
    root_key: bytes = field(repr=False)
    """The key under which the material of KMS keys is stored."""

    async def acknowledge(self, answer: T) -> T:
        """Write every change so far to disk, then return `answer`, which may report those changes."""
        await self.store.commit()
        return answer

    def delete_volume(self, volume: str) -> None:
        """Delete the volume's records and cancel its pending modification."""
        self.clock.cancel(modification_subject(volume))
        self.store.modifications.drop(volume)
        self.store.volumes.drop(volume)
        self.store.record_state(volume, "deleted")


def modification_subject(volume: str) -> str:
    """The clock's name for the modification of `volume`."""
    return f"modification/{volume}"


def new_id(prefix: str) -> str:
    """A new random id: the prefix, `-0` and 16 hex digits."""
    return f"{prefix}-0{secrets.token_hex(8)}"


def to_datetime(instant: float | None) -> datetime | None:
    """The time of an instant in seconds since the epoch, which every wire protocol can write; None stays None."""
    return None if instant is None else datetime.fromtimestamp(instant, UTC)


def now() -> float:
    """The current instant in seconds since the epoch, rounded to the milliseconds that AWS shows."""
    return round(time.time(), 3)


def tag_list(tags: Mapping[str, str]) -> list[dict[str, str]] | None:
    """Tags as EC2 and SageMaker write them; None if there are none."""
    return [{"Key": key, "Value": value} for key, value in tags.items()] or None
