"""The parts that every service works on: memory, clock, disks, devices, and where it all is."""

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from hyperpod_ebs.emulator.disks.bindings import Bindings
from hyperpod_ebs.emulator.disks.device_directories import DeviceDirectories
from hyperpod_ebs.emulator.disks.images import Images
from hyperpod_ebs.emulator.state.clock import Clock
from hyperpod_ebs.emulator.state.region import Place
from hyperpod_ebs.emulator.state.store import Store

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """One account in one region."""

    place: Place
    store: Store
    clock: Clock
    images: Images
    directories: DeviceDirectories
    bindings: Bindings

    async def acknowledged(self, answer: T) -> T:
        """`answer`, once all that it can tell of is on disk."""
        return await self.store.acknowledged(answer)

    def forget(self, volume: str) -> None:
        """Have no volume of this id; what it was to become, it does not."""
        self.clock.never(modifying(volume))
        self.store.modifications.drop(volume)
        self.store.volumes.drop(volume)
        self.store.note(volume, "deleted")


def modifying(volume: str) -> str:
    """The subject of what happens to the modification of `volume`."""
    return f"modification/{volume}"


def new_id(prefix: str) -> str:
    """An id that nothing has had: vol-0 and 16 hex digits."""
    return f"{prefix}-0{secrets.token_hex(8)}"


def when(instant: float | None) -> datetime | None:
    """An instant as the wire wants it."""
    return None if instant is None else datetime.fromtimestamp(instant, UTC)


def now() -> float:
    """The instant that it is, to the millisecond that AWS shows."""
    return round(time.time(), 3)


def tag_list(tags: Mapping[str, str]) -> list[dict[str, str]] | None:
    """Tags as EC2 and SageMaker write them."""
    return [{"Key": key, "Value": value} for key, value in tags.items()] or None
