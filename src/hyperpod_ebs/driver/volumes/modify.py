"""Changes volumes in place: larger, faster, of another type.

What is so already is not asked for again, and a modification under way to what is
wanted is joined. An expansion never fails in a way that would stop the CO for good:
see `csi.status` for what each error makes of the claim.
"""

import re
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Final

from hyperpod_ebs.driver.model import errors, iops, sizes
from hyperpod_ebs.driver.model.sizes import GiB, SizeRange
from hyperpod_ebs.driver.model.tags import TagChanges
from hyperpod_ebs.driver.model.volume import Change, Modification, ModificationState, Volume
from hyperpod_ebs.driver.volumes.cloud import Cloud, get_volume
from hyperpod_ebs.driver.volumes.watch import Watcher

PATIENCE: Final = 180.0
"""Seconds that a modification may take to be usable before the caller is told to ask again."""

LAGS: Final = (0.5, 1.0)
"""Seconds before each further look for a volume that EC2 does not show: NOT_FOUND would end the expansion for good."""

OLD_RULE: Final = timedelta(hours=6)
"""What some accounts still have to leave between two modifications of a volume."""

_AS_THEY_ARE: Final = TagChanges()
_RUNNING: Final = frozenset({ModificationState.MODIFYING, ModificationState.OPTIMIZING})
_INSTANT: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")


async def expand(cloud: Cloud, watcher: Watcher, volume_id: str, size: SizeRange) -> GiB:
    """The volume's size, which answers `size` and can be used; never smaller than it was.

    Raises:
        VolumeNotFound: No such volume.
        OutOfRange: It is larger than the limit already, or EC2 or the account's quota does not allow the size.
        Busy: Another modification is under way.
        RateLimited: Too many of late; says when.
        Unavailable: Ask again.
    """
    volume = await get_volume(cloud, volume_id, look_again_after=LAGS)
    wanted = GiB(max(size.wanted, volume.size))
    if not size.allows(wanted):
        raise errors.OutOfRange(
            f"volume {volume_id} has {volume.size} GiB ({sizes.to_bytes(volume.size)} bytes), over the limit of "
            f"{size.limit} bytes; volumes do not shrink"
        )
    try:
        grown = iops.after_growth(volume.type, volume.tags, wanted) if wanted > volume.size else None
        return (await _changed(cloud, watcher, volume, Change(size=size.wanted, iops=grown))) or wanted
    except (errors.QuotaReached, errors.InvalidRequest) as refusal:
        raise errors.OutOfRange(f"volume {volume_id} cannot grow to {wanted} GiB: {refusal}") from refusal
    except (errors.Refused, errors.NoRoom, errors.Conflict) as refusal:
        # These stop the resizer while any pod uses the claim.
        raise errors.Unavailable(f"volume {volume_id} cannot grow to {wanted} GiB now: {refusal}") from refusal


async def modify(
    cloud: Cloud, watcher: Watcher, volume_id: str, change: Change, tags: TagChanges = _AS_THEY_ARE
) -> None:
    """Have the volume as `change` says, and its tags as `tags`.

    Raises:
        VolumeNotFound: No such volume.
        InvalidRequest: EC2 takes no such IOPS or throughput, or not with this type and size.
        QuotaReached: A limit of the account.
        Busy: Another modification is under way.
        RateLimited: Too many of late; says when.
        Unavailable: Ask again.
    """
    volume = await get_volume(cloud, volume_id, look_again_after=LAGS)
    if gone := sorted(key for key in tags.remove - tags.put.keys() if key in volume.tags):
        await cloud.untag_volume(volume_id, gone)
    if new := {key: value for key, value in tags.put.items() if volume.tags.get(key) != value}:
        await cloud.tag_volume(volume_id, new)
    await _changed(cloud, watcher, volume, change)


def missing(change: Change, volume: Volume) -> Change:
    """The part of `change` that `volume` does not show; a size is there when the volume is larger.

    A new type brings its own defaults with it: then all that is wanted of it is asked for.
    """
    ask = {one.name: getattr(change, one.name) for one in fields(Change)}
    size = ask.pop("size")
    moves = ask["type"] not in {None, volume.type}
    lacking = {
        name: have for name, have in ask.items() if have is not None and (moves or have != getattr(volume, name))
    }
    return Change(size=size if size is not None and size > volume.size else None, **lacking)


def brings(modification: Modification, change: Change) -> bool:
    """Whether a volume is as `change` says once `modification` is done."""
    for one in fields(Change):
        ask, have = getattr(change, one.name), getattr(modification.target, one.name)
        if ask is not None and (have is None or (have < ask if one.name == "size" else have != ask)):
            return False
    return True


def earliest(modification: Modification | None, refusal: str) -> datetime | None:
    """When EC2 takes the next modification, as far as its refusal and the latest modification tell."""
    if match := _INSTANT.search(refusal):
        return datetime.fromisoformat(match[0]).replace(tzinfo=UTC)
    if "6 hours" in refusal and modification is not None and modification.started is not None:
        return modification.started + OLD_RULE
    return None


async def _changed(cloud: Cloud, watcher: Watcher, volume: Volume, change: Change) -> GiB | None:
    """Have `volume` as `change` says; the size that it then has, where a modification told."""
    lacking = missing(change, volume)
    if lacking == Change():
        running = await _latest(cloud, volume.id)
        # EC2 may show the new values before they can be used.
        if running is None or running.state is not ModificationState.MODIFYING or not brings(running, change):
            return None
        return await _usable(watcher, running)
    try:
        return await _usable(watcher, await cloud.modify_volume(volume.id, lacking))
    except errors.Busy as busy:
        running = await _latest(cloud, volume.id)
        if running is None or running.state not in _RUNNING or not brings(running, lacking):
            raise errors.Busy(f"volume {volume.id} waits for another modification: {busy}") from busy
        return await _usable(watcher, running)
    except errors.RateLimited as limited:
        when = earliest(await _latest(cloud, volume.id), str(limited))
        raise errors.RateLimited(str(limited), earliest=when) from limited


async def _usable(watcher: Watcher, modification: Modification) -> GiB | None:
    """Wait until what `modification` brings can be used; the size that it brings."""

    def settled(seen: Modification | None) -> bool:
        # A later one in its place means that this one is over; an earlier one that EC2 has not caught up.
        return seen is not None and seen.state is not ModificationState.MODIFYING and not _before(seen, modification)

    last: Modification | None = modification
    if modification.state is ModificationState.MODIFYING:
        try:
            last = await watcher.modification(modification.volume_id, settled, patience=PATIENCE)
        except TimeoutError as late:
            raise errors.Unavailable(
                f"volume {modification.volume_id} is still being modified after {PATIENCE:g} s; ask again"
            ) from late
    if last is not None and last.state is ModificationState.FAILED:
        raise errors.Unavailable(
            f"the modification of volume {modification.volume_id} failed: {last.message or 'AWS gives no reason'}; "
            "ask again"
        )
    return modification.target.size


def _before(seen: Modification, modification: Modification) -> bool:
    return seen.started is not None and modification.started is not None and seen.started < modification.started


async def _latest(cloud: Cloud, volume_id: str) -> Modification | None:
    return (await cloud.modifications([volume_id])).get(volume_id)
