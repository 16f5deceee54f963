"""Makes volumes and removes them: ask once, wait until it is there, adopt what an earlier call made.

Once a create was sent, a caller that is told of anything final forgets the name and
would leave an orphan. So until it is proved that nothing exists, only errors that
make it ask again come out of here.
"""

import asyncio
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.volume import Volume, VolumeSpec, VolumeState
from hyperpod_ebs.driver.volumes.cloud import Cloud, TokenSpent
from hyperpod_ebs.driver.volumes.pace import Transition
from hyperpod_ebs.driver.volumes.tokens import MOST, tokens
from hyperpod_ebs.driver.volumes.watch import Watcher

PATIENCE: Final = 120.0
"""Seconds that a volume may be `creating` before the caller is told to ask again."""

APPEARS: Final = 15.0
"""Seconds in which EC2 shows a volume that it has acknowledged; afterwards it is taken to be gone."""

GONE: Final = 3.0
"""Seconds for which a volume that was seen has to be absent before that is believed: replicas lag."""

LAG: Final = 1.0
"""Seconds until a volume is found by its tags, with a margin."""

_USABLE: Final = frozenset({VolumeState.AVAILABLE, VolumeState.IN_USE})
_LOST: Final = frozenset({VolumeState.ERROR, VolumeState.DELETING, VolumeState.DELETED})


async def provision(cloud: Cloud, watcher: Watcher, spec: VolumeSpec) -> Volume:
    """The volume that `spec` describes, made now or by an earlier call.

    Raises:
        Conflict: The name belongs to a volume that differs.
        OutOfRange: It is smaller than the snapshot that it is made of.
        KeyUnusable, NotReady: AWS took the volume back; nothing is left.
        OutcomeUnknown: It may exist; ask again.
    """
    asked = await _asked(cloud, spec)
    if asked.state in _USABLE:
        return _sized(spec, asked)
    life = _Life(asyncio.get_running_loop().time())
    try:
        volume = await watcher.volume(asked.id, Transition.CREATE, life.settled, patience=PATIENCE)
    except TimeoutError as late:
        raise errors.OutcomeUnknown(
            f"{_called(asked, spec)} is not available after {PATIENCE:g} s; ask again"
        ) from late
    except errors.Unavailable as error:
        raise errors.OutcomeUnknown(f"{_called(asked, spec)} was asked for, then {error}") from error
    if volume is None or volume.state in _LOST:
        raise await _lost(cloud, asked, spec, volume)
    return _sized(spec, volume)


async def remove(cloud: Cloud, volume_id: str) -> None:
    """Have the volume deleted; one that is gone or going is no error.

    Raises:
        InUse: It is attached.
        NotReady: It is in a state that forbids it.
    """
    try:
        await cloud.delete_volume(volume_id)
    except errors.VolumeNotFound:
        return
    except errors.NotReady:
        volume = (await cloud.volumes([volume_id])).get(volume_id)
        if volume is not None and volume.state not in {VolumeState.DELETING, VolumeState.DELETED}:
            raise


async def zone(cloud: Cloud, name: str, asked: str | None) -> str:
    """The zone for the volume `name`: the one asked for, else one chosen by its name.

    A zone that comes or goes moves only the names that were its own, so that a repeat
    asks for the same zone as the first call did (rendezvous hashing).

    Raises:
        Unavailable: AWS shows no zone that can be used.
    """
    if asked:
        return asked
    usable = await cloud.zones()
    if not usable:
        raise errors.Unavailable(f"no zone for volume {name}: AWS shows none that can be used now; name one")
    return max(usable, key=lambda one: hashlib.sha256(f"{name} in {one}".encode()).digest())


def differences(wanted: VolumeSpec, existing: Volume) -> Iterator[str]:
    """Each property in which a volume of the same name is not the one wanted."""
    if not wanted.size.allows(existing.size):
        limit = "" if wanted.size.limit is None else f" to {wanted.size.limit} bytes"
        yield f"its size is {existing.size} GiB, not {wanted.size.wanted} GiB{limit or ' or more'}"
    pairs = {
        "zone": (None if wanted.zone_chosen_by_driver else wanted.zone, existing.zone),
        "type": (wanted.type, existing.type),
        "iops": (wanted.iops, existing.iops),
        "throughput": (wanted.throughput, existing.throughput),
        "source snapshot": (wanted.snapshot_id or "none", existing.snapshot_id or "none"),
        "encrypted": (wanted.encrypted or None, existing.encrypted),
    }
    for what, (ask, have) in pairs.items():
        if ask is not None and ask != have:
            yield f"its {what} is {have}, not {ask}"
    if not _same_key(wanted.kms_key_id, existing.kms_key_id):
        yield f"its key is {existing.kms_key_id}, not {wanted.kms_key_id}"


@dataclass(slots=True)
class _Life:
    """What has been seen of a volume that was asked for."""

    asked: float
    seen: bool = False
    absent_since: float | None = field(default=None)

    def settled(self, volume: Volume | None) -> bool:
        """Whether it is known what has become of it."""
        now = asyncio.get_running_loop().time()
        if volume is not None:
            self.seen, self.absent_since = True, None
            return volume.state is not VolumeState.CREATING
        if self.absent_since is None:
            self.absent_since = now
        return now - self.absent_since >= GONE if self.seen else now - self.asked >= APPEARS


async def _asked(cloud: Cloud, spec: VolumeSpec) -> Volume:
    """The volume as EC2 acknowledged it, or as an earlier call left it."""
    looked = False
    for token in tokens(spec.name):
        try:
            return await cloud.create_volume(spec, token)
        except TokenSpent:
            if not looked and (existing := await _named(cloud, spec.name, waits=(0.0, LAG))):
                return _accepted(spec, existing)
            looked = True
        except errors.Unavailable:
            raise
        except errors.Error as refusal:
            # An earlier call may have made it, and lost the answer: at its quota EC2 refuses even the same token.
            if existing := await _named(cloud, spec.name):
                return _accepted(spec, existing)
            raise await _explained(cloud, spec, refusal) from refusal
    raise errors.NotReady(
        f"volume {spec.name} was made {MOST} times and AWS took it back each time; look at its key and source, "
        "then ask under another name"
    )


async def _named(cloud: Cloud, name: str, *, waits: Iterable[float] = (0.0,)) -> tuple[Volume, ...]:
    """The volumes of this name that live; looked for after each of `waits`, for EC2 finds a new one late.

    Raises:
        OutcomeUnknown: Nobody can tell.
    """
    for wait in waits:
        await asyncio.sleep(wait)
        try:
            found = await cloud.volumes_named(name)
        except errors.Error as error:
            raise errors.OutcomeUnknown(f"whether volume {name} exists is not known: {error}") from error
        if living := tuple(volume for volume in found if volume.state not in _LOST):
            return living
    return ()


def _sized(spec: VolumeSpec, volume: Volume) -> Volume:
    """`volume`, which was asked for in the same words, if it has not grown too large since.

    Raises:
        Conflict: It has.
    """
    if not spec.size.allows(volume.size):
        raise errors.Conflict(f"{_called(volume, spec)} exists already: {next(differences(spec, volume))}")
    return volume


def _accepted(spec: VolumeSpec, existing: Iterable[Volume]) -> Volume:
    """The one of `existing` that is wanted.

    Raises:
        Conflict: None of them is.
    """
    refusals = []
    for volume in sorted(existing, key=lambda one: one.id):
        if not (different := list(differences(spec, volume))):
            return volume
        refusals.append(f"{volume.id}: {', '.join(different)}")
    raise errors.Conflict(f"volume {spec.name} exists already on other terms ({'; '.join(refusals)})")


async def _explained(cloud: Cloud, spec: VolumeSpec, refusal: errors.Error) -> errors.Error:
    """Why EC2 refused the terms: CSI has a code of its own for a size below the snapshot's."""
    if spec.snapshot_id is None or not isinstance(refusal, errors.InvalidRequest):
        return refusal
    snapshot = await cloud.snapshot(spec.snapshot_id)
    if snapshot is None or snapshot.size <= spec.size.wanted:
        return refusal
    return errors.OutOfRange(
        f"volume {spec.name} cannot be {spec.size.wanted} GiB: its source {snapshot.id} has {snapshot.size} GiB"
    )


async def _lost(cloud: Cloud, asked: Volume, spec: VolumeSpec, volume: Volume | None) -> errors.Error:
    """What to say of a volume that AWS took back; one that is left in error is deleted first."""
    fate = "vanished while it was being created"
    if volume is not None:
        fate = f"went to state {volume.state}"
        try:
            await remove(cloud, asked.id)
        except errors.Error as error:
            return errors.OutcomeUnknown(f"{_called(asked, spec)} {fate} and cannot be removed: {error}")
    if asked.encrypted or spec.encrypted:
        key = spec.kms_key_id or asked.kms_key_id or "aws/ebs"
        return errors.KeyUnusable(
            f"{_called(asked, spec)} {fate}: AWS does so with an encrypted volume whose key {key} it may not use; "
            "see that the key is enabled and that its policy lets the driver's role use it"
        )
    return errors.NotReady(f"{_called(asked, spec)} {fate}; nothing is left of it")


def _called(volume: Volume, spec: VolumeSpec) -> str:
    return f"volume {spec.name} ({volume.id})"


def _same_key(wanted: str | None, existing: str | None) -> bool:
    """Whether a key as the user names it can be the one that EC2 shows, an ARN."""
    if wanted is None or "alias/" in wanted:  # which key an alias means is not ours to know
        return True
    return existing is not None and wanted.rpartition("/")[2] == existing.rpartition("/")[2]
