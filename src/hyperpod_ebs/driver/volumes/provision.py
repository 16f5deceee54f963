"""Create volumes and delete them.

After a create request is sent, `provision_volume` raises only retryable errors until it is certain that no volume
exists: a caller that receives a final error forgets the name and would leave an orphaned volume. A repeated call
adopts the volume that an earlier call created.
"""

import asyncio
import hashlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from hyperpod_ebs.driver.model import errors, sizes
from hyperpod_ebs.driver.model.volume import Volume, VolumeSpec, VolumeState
from hyperpod_ebs.driver.volumes.absence import PAUSES, find_snapshot, find_volume, look_repeatedly
from hyperpod_ebs.driver.volumes.cloud import Cloud, TokenSpent
from hyperpod_ebs.driver.volumes.matching import check_size, label, matching_volume
from hyperpod_ebs.driver.volumes.pace import Transition
from hyperpod_ebs.driver.volumes.watch import Watcher

PATIENCE: Final = 120.0
"""Seconds that a volume may be `creating` before the caller has to retry."""

APPEARS_WITHIN: Final = 15.0
"""Seconds to wait for a volume that EC2 has acknowledged and does not list; then its id is asked for."""

GONE_AFTER: Final = 3.0
"""Seconds without the volume after which its id is asked for, if EC2 has listed it before."""

TAG_LAG: Final = 2.5
"""Seconds until EC2 finds a new volume by its tags, with a margin."""

MAX_TOKENS: Final = 64
"""Client tokens that are tried for one name; a token of a volume that is gone cannot be used again."""

KEY_ACTIONS: Final = (
    "kms:CreateGrant, kms:Decrypt, kms:DescribeKey, kms:GenerateDataKeyWithoutPlaintext and kms:ReEncrypt*"
)
"""What EBS needs of the role for a volume under a customer-managed key, blank or restored (Amazon EBS User Guide,
"Requirements for Amazon EBS encryption"). AWS does not say which of them was missing."""

_USABLE: Final = frozenset({VolumeState.AVAILABLE, VolumeState.IN_USE})
_DELETED: Final = frozenset({VolumeState.DELETING, VolumeState.DELETED})
_LOST: Final = _DELETED | {VolumeState.ERROR}


@dataclass(frozen=True, slots=True)
class CreationSighting:
    """What EC2 has shown of a volume since it acknowledged the create request, in seconds since then."""

    age: float = 0.0
    volume: Volume | None = None
    has_appeared: bool = False
    absent_since: float | None = None
    """When EC2 first did not show the volume; None while it shows the volume."""

    @property
    def is_final(self) -> bool:
        """Whether it is certain what happened to the volume."""
        if self.volume is not None:
            return self.volume.state is not VolumeState.CREATING
        if self.has_appeared and self.absent_since is not None:
            return self.age - self.absent_since >= GONE_AFTER
        return self.age >= APPEARS_WITHIN


def sighting_after(previous: CreationSighting, volume: Volume | None, age: float) -> CreationSighting:
    """The sighting that follows when EC2 shows `volume`."""
    if volume is not None:
        return CreationSighting(age, volume, has_appeared=True)
    absent_since = age if previous.absent_since is None else previous.absent_since
    return replace(previous, age=age, volume=None, absent_since=absent_since)


async def provision_volume(cloud: Cloud, watcher: Watcher, spec: VolumeSpec) -> Volume:
    """Create the volume that `spec` describes, or adopt the one that an earlier call created, and wait for it.

    Raises:
        Conflict: A different volume has the name.
        OutOfRange: The volume is smaller than its source snapshot.
        KeyUnusable, NotReady: AWS removed the volume, and it no longer exists.
        OutcomeUnknown: The volume may exist; the caller has to retry.
    """
    if not spec.zone:
        spec = replace(spec, zone=await choose_zone(cloud, spec.name), zone_chosen_by_driver=True)
    created = await _create_or_adopt(cloud, spec)
    if created.state in _USABLE:
        return check_size(spec, created)
    try:
        volume = await _wait_until_final(watcher, created.id)
        if volume is None:
            volume = await find_volume(cloud, created.id)
    except TimeoutError as late:
        raise errors.OutcomeUnknown(
            f"{label(spec, created)} is not available after {PATIENCE:g} s: AWS has not finished; try again"
        ) from late
    except errors.Error as error:
        raise errors.OutcomeUnknown(
            f"{label(spec, created)} was requested, but its state is unknown: {error}"
        ) from error
    if volume is not None and volume.state is VolumeState.CREATING:
        raise errors.OutcomeUnknown(f"{label(spec, created)} is still creating, and EC2 does not list it; try again")
    if volume is not None and volume.state not in _LOST:
        return check_size(spec, volume)
    if volume is not None:
        await _delete_failed_volume(cloud, spec, volume)
    raise _creation_failure(spec, created, volume)


async def delete_volume(cloud: Cloud, volume_id: str) -> None:
    """Delete the volume; succeed if it is gone or AWS is deleting it.

    Raises:
        InUse: The volume is attached.
        NotReady: The state of the volume forbids it.
        Unavailable: EC2 contradicts itself.
    """
    try:
        await cloud.delete_volume(volume_id)
    except errors.VolumeNotFound as refusal:
        await _delete_once_shown(cloud, volume_id, refusal)
    except errors.NotReady:
        async for volume in look_repeatedly(cloud, volume_id):  # EC2 may show the deletion late
            if volume is None or volume.state in _DELETED:
                return
        raise


async def choose_zone(cloud: Cloud, name: str) -> str:
    """Choose the zone for the volume `name`, the same for each call with this name (rendezvous hashing).

    When a zone is added or removed, only the names that hash to this zone move.

    Raises:
        Unavailable: AWS shows no usable zone.
    """
    usable = await cloud.list_zones()
    if not usable:
        raise errors.Unavailable(
            f"cannot choose a zone for volume {name}: AWS shows no zone that is available now; name one in the "
            "StorageClass's allowedTopologies"
        )
    return max(usable, key=lambda zone: hashlib.sha256(f"{name} in {zone}".encode()).digest())


def client_tokens(name: str) -> Iterator[str]:
    """The client tokens for `name`, in the order in which to try them; EC2 accepts at most 64 characters.

    They follow from the name alone, so that each process finds the same ones. The sequence is upstream's: a driver that
    replaces upstream's in the middle of a create finds the same volume.
    """
    for number in range(1, MAX_TOKENS + 1):
        text = name if number == 1 else f"{name}-{number}"
        yield hashlib.sha256(text.encode()).hexdigest()


async def _wait_until_final(watcher: Watcher, volume_id: str) -> Volume | None:
    """Wait until it is certain what happened to an acknowledged volume; return the volume, or None if it is gone."""
    loop = asyncio.get_running_loop()
    acknowledged_at = loop.time()
    sighting = CreationSighting()

    def observe(volume: Volume | None) -> bool:
        nonlocal sighting
        sighting = sighting_after(sighting, volume, loop.time() - acknowledged_at)
        return sighting.is_final

    return await watcher.wait_for_volume(volume_id, Transition.CREATE, observe, patience=PATIENCE)


async def _create_or_adopt(cloud: Cloud, spec: VolumeSpec) -> Volume:
    """Request the volume, unless it exists; return it as EC2 acknowledged it, or as an earlier call left it.

    EC2 accepts a client token once in each zone, so only a search finds the volume that an earlier call created in
    another zone. After a lost answer, the caller gets its error when EC2 finds the name: it may ask for another zone.
    """
    if existing := await _find_by_name(cloud, spec.name):
        return matching_volume(spec, existing)
    has_searched = False
    for token in client_tokens(spec.name):
        try:
            return await cloud.create_volume(spec, token)
        except TokenSpent:
            if not has_searched and (existing := await _find_by_name(cloud, spec.name, pauses=(0.0, *PAUSES))):
                return matching_volume(spec, existing)
            has_searched = True
        except errors.OutcomeUnknown:
            await asyncio.sleep(TAG_LAG)
            raise
        except errors.Unavailable:
            raise
        except errors.Error as refusal:
            # An earlier call may have created the volume without receiving the answer: at the account's quota, EC2
            # refuses even a request with the same token.
            pauses = (0.0, *PAUSES) if isinstance(refusal, errors.Refused | errors.NoRoom) else (0.0,)
            if existing := await _find_by_name(cloud, spec.name, pauses=pauses):
                return matching_volume(spec, existing)
            raise await _explain_refusal(cloud, spec, refusal) from refusal
    raise errors.NotReady(
        f"AWS removed volume {spec.name} after each of {MAX_TOKENS} attempts; check its KMS key and source snapshot, "
        "then recreate the claim"
    )


async def _find_by_name(cloud: Cloud, name: str, *, pauses: Iterable[float] = (0.0,)) -> tuple[Volume, ...]:
    """Find the volumes with this name that are not lost; search after each of these pauses in seconds.

    Raises:
        OutcomeUnknown: AWS does not say whether such a volume exists.
    """
    for pause in pauses:
        await asyncio.sleep(pause)
        try:
            found = await cloud.find_volumes_named(name)
        except errors.Error as error:
            raise errors.OutcomeUnknown(f"cannot find out whether volume {name} exists: {error}") from error
        if living := tuple(volume for volume in found if volume.state not in _LOST):
            return living
    return ()


async def _explain_refusal(cloud: Cloud, spec: VolumeSpec, refusal: errors.Error) -> errors.Error:
    """Look for the reason of EC2's refusal: CSI has a code of its own for a size that cannot be."""
    if not isinstance(refusal, errors.InvalidRequest):
        return refusal
    least, most = sizes.BY_TYPE.get(spec.type, (spec.size.wanted, spec.size.wanted))
    if not least <= spec.size.wanted <= most:
        return errors.OutOfRange(f"{refusal}; ask for {least} to {most} GiB, or for another type")
    if spec.snapshot_id is None:
        return refusal
    snapshot = await find_snapshot(cloud, spec.snapshot_id)
    if snapshot is None or snapshot.size <= spec.size.wanted:
        return refusal
    return errors.OutOfRange(
        f"cannot create volume {spec.name} with {spec.size.wanted} GiB: its source {snapshot.id} has "
        f"{snapshot.size} GiB; ask for at least as much"
    )


async def _delete_once_shown(cloud: Cloud, volume_id: str, refusal: errors.VolumeNotFound) -> None:
    """Delete a volume that AWS does not know: it may be new, or gone and still shown."""
    volume: Volume | None = None
    async for volume in look_repeatedly(cloud, volume_id):
        if volume is None:
            continue
        if volume.state in _DELETED:
            return
        with suppress(errors.VolumeNotFound, errors.NotReady):
            await cloud.delete_volume(volume_id)
            return
    if volume is not None:
        raise errors.Unavailable(f"{refusal}, but EC2 still shows it; try again") from refusal


async def _delete_failed_volume(cloud: Cloud, spec: VolumeSpec, volume: Volume) -> None:
    """Delete a volume that AWS failed to create, so that a final error may follow.

    Raises:
        OutcomeUnknown: AWS does not delete it.
    """
    try:
        await delete_volume(cloud, volume.id)
    except errors.Error as error:
        raise errors.OutcomeUnknown(
            f"{label(spec, volume)} is in state {volume.state}, and the driver cannot delete it: {error}"
        ) from error


def _creation_failure(spec: VolumeSpec, created: Volume, volume: Volume | None) -> errors.Error:
    """The error for a volume that AWS removed or failed to create, and that no longer exists."""
    event = f"ended in state {volume.state}" if volume is not None else "vanished during creation"
    if created.encrypted or spec.encrypted:
        key = spec.kms_key_id or created.kms_key_id or "aws/ebs"
        return errors.KeyUnusable(
            f"{label(spec, created)} {event}: AWS removes an encrypted volume if it may not use the KMS key {key}; "
            f"check that the key is enabled, and allow the driver's role {KEY_ACTIONS}"
        )
    return errors.NotReady(f"{label(spec, created)} {event}, and no longer exists; try again")
