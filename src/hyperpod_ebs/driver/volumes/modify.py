"""Change volumes in place: their size, type, IOPS and throughput, and their tags.

EC2 runs one modification of a volume at a time and accepts four in 24 hours. So a growth and a change of attributes
that arrive together become one request (decision 0048). The driver requests only what differs, and joins a running
modification that leads to what is wanted. No expansion fails with an error after which the resizer stops for good:
`csi.status` says what each error does to a claim.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from hyperpod_ebs.driver.model import errors, sizes
from hyperpod_ebs.driver.model.modification import (
    earliest_retry,
    leads_elsewhere,
    leads_to,
    missing_change,
    overlaps,
    requested_change,
)
from hyperpod_ebs.driver.model.sizes import GiB, SizeRange
from hyperpod_ebs.driver.model.tags import TagChanges
from hyperpod_ebs.driver.model.volume import Change, Modification, ModificationState, Volume
from hyperpod_ebs.driver.volumes.absence import get_volume
from hyperpod_ebs.driver.volumes.cloud import Cloud
from hyperpod_ebs.driver.volumes.governor import latest_call_sent_at, take_over_call
from hyperpod_ebs.driver.volumes.watch import Watcher
from hyperpod_ebs.kit import operations
from hyperpod_ebs.kit.operations import Operation, Operations

PATIENCE: Final = 180.0
"""Seconds that a modification may take to be usable before the caller has to retry."""

MOST_SIZES: Final = 10_000
"""Number of volumes whose usable size the driver remembers."""

_NO_TAG_CHANGES: Final = TagChanges()
_RUNNING: Final = frozenset({ModificationState.MODIFYING, ModificationState.OPTIMIZING})

_REFUSALS: Final = (errors.InvalidRequest, errors.Refused, errors.NoRoom, errors.Denied, errors.CloudError)
"""EC2's refusals that only one part of a request may have caused. `CloudError` has the codes that the driver does not
know."""

_Outcomes = dict[Change, Modification | errors.Error]
"""What became of each part of a request."""


@dataclass(slots=True, eq=False)
class _Request:
    """A request to modify a volume that is not sent yet: a growth, a change of attributes, or both."""

    volume: Volume
    parts: list[Change] = field(default_factory=list[Change])
    is_complete: asyncio.Event = field(default_factory=asyncio.Event)
    sent_at: float | None = None
    """When the latest request was sent, on the clock of the event loop."""

    def add(self, part: Change) -> None:
        """Add a part.

        Raises:
            Busy: The request has a part of the same kind.
        """
        if any(overlaps(part, other) for other in self.parts):
            raise errors.Busy("another change of the same kind is about to be requested")
        self.parts.append(part)
        if len(self.parts) > 1:
            self.is_complete.set()


class Modifier:
    """Changes volumes in place."""

    def __init__(self, cloud: Cloud, watcher: Watcher, operations: Operations[str], *, window: float) -> None:
        """Each request to modify a volume is one of the `operations`, with the volume's id and "(modification)" as key.

        A request waits `window` seconds for the volume's other change.
        """
        self._cloud = cloud
        self._watcher = watcher
        self._operations = operations
        self._window = window
        self._unsent: dict[str, _Request] = {}
        self._usable_sizes: dict[str, GiB] = {}
        """Sizes that volumes have had, latest last. A volume does not shrink, so such a size stays usable."""

    async def expand_volume(self, volume_id: str, size: SizeRange) -> GiB:
        """Grow the volume to a size in `size` and wait until that size is usable; return the size, which never shrinks.

        Raises:
            VolumeNotFound: The volume does not exist.
            OutOfRange: The volume is larger than the limit, or EC2 or the account's quota does not allow the size.
            Busy: Another modification of the volume is running.
            RateLimited: The volume was modified too often; the message has the earliest time for a retry.
            Unavailable: The caller has to retry.
        """
        await self._cloud.wait_until_modification_shows(volume_id)
        volume = await get_volume(self._cloud, volume_id)
        wanted = GiB(max(size.wanted, volume.size))
        if not size.allows(wanted):
            raise errors.OutOfRange(
                f"volume {volume_id} has {volume.size} GiB ({sizes.to_bytes(volume.size)} bytes), more than the limit "
                f"of {size.limit} bytes, and volumes cannot shrink"
            )
        if self._usable_sizes.get(volume_id, 0) >= wanted:
            return wanted
        try:
            usable = await self._apply_change(volume, Change(size=size.wanted)) or wanted
        except (errors.QuotaReached, errors.InvalidRequest) as refusal:
            raise errors.OutOfRange(f"volume {volume_id} cannot grow to {wanted} GiB: {refusal}") from refusal
        except (errors.Refused, errors.NoRoom, errors.Conflict) as refusal:
            # The codes of these errors would stop the resizer for as long as a pod uses the claim.
            raise errors.Unavailable(f"volume {volume_id} cannot grow to {wanted} GiB now: {refusal}") from refusal
        self._remember_usable_size(volume_id, usable)
        return usable

    async def modify_volume(self, volume_id: str, change: Change, tags: TagChanges = _NO_TAG_CHANGES) -> None:
        """Change the volume's tags and its other attributes, and wait until the new attributes are usable.

        Raises:
            VolumeNotFound: The volume does not exist.
            InvalidRequest: EC2 does not allow the IOPS or the throughput, at least not with this type and size.
            QuotaReached: The account has reached a limit.
            Busy: Another modification of the volume is running.
            RateLimited: The volume was modified too often; the message has the earliest time for a retry.
            Unavailable: The caller has to retry.
        """
        await self._cloud.wait_until_modification_shows(volume_id)
        await self._cloud.wait_until_tags_show(volume_id)
        volume = await get_volume(self._cloud, volume_id)
        if removed := sorted(key for key in tags.remove - tags.put.keys() if key in volume.tags):
            await self._cloud.untag_volume(volume_id, removed)
        if new := {key: value for key, value in tags.put.items() if volume.tags.get(key) != value}:
            await self._cloud.tag_volume(volume_id, new)
        if change != Change():
            await self._apply_change(volume, change)

    async def _apply_change(self, volume: Volume, change: Change) -> GiB | None:
        """Change the volume and wait until the change is usable; return the modification's new size, if it has one."""
        missing = missing_change(change, volume)
        if missing == Change():
            running = await self._cloud.describe_modification(volume.id)
            if running is None or running.state is not ModificationState.MODIFYING:
                return None
            # EC2 may show the new values before they are usable, and the old values until then.
            if leads_elsewhere(running, change):
                raise errors.Busy(
                    f"volume {volume.id} waits for another modification: the running one sets other values"
                )
            return await self._wait_until_usable(running)
        try:
            return await self._wait_until_usable(await self._request(volume, change))
        except errors.Busy as busy:
            running = await self._cloud.describe_modification(volume.id)
            if running is None or running.state not in _RUNNING or not leads_to(running, missing):
                raise errors.Busy(f"volume {volume.id} waits for another modification: {busy}") from busy
            return await self._wait_until_usable(running)
        except errors.RateLimited as limited:
            earliest = earliest_retry(await self._cloud.describe_modification(volume.id), str(limited))
            raise errors.RateLimited(str(limited), earliest=earliest) from limited

    async def _request(self, volume: Volume, part: Change) -> Modification:
        """Request the change as a part of the volume's next request; return the modification that leads to it.

        Raises:
            operations.Busy: An earlier request is sent and not answered yet.
            Error: EC2 refuses this part.
        """
        request = self._unsent.setdefault(volume.id, _Request(volume))
        request.add(part)
        try:
            outcomes = await self._operations.run(
                f"{volume.id} (modification)", Operation("ModifyVolume", request), lambda: self._send(request)
            )
        except operations.Busy:
            self._close(request)
            raise
        take_over_call(request.sent_at)  # a modification is as old as its request
        outcome = outcomes[part]
        if isinstance(outcome, errors.Error):
            raise outcome
        return outcome

    async def _send(self, request: _Request) -> _Outcomes:
        """Wait for the volume's other change, then send the request. Send part by part if EC2 refuses it as a whole."""
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._window):
                    await request.is_complete.wait()
            outcome = await self._attempt(request, lambda: self._close(request))
        finally:
            self._close(request)
        if len(request.parts) == 1 or not isinstance(outcome, _REFUSALS):
            return dict.fromkeys(request.parts, outcome)
        outcomes: _Outcomes = {}
        latest: Modification | errors.Error = outcome
        for part in sorted(request.parts, key=lambda part: part.size is None):  # the size is more urgent
            if isinstance(latest, Modification):
                outcomes[part] = outcome  # EC2 accepts the request without this part
                continue
            if isinstance(latest, _REFUSALS):
                alone = partial(requested_change, [part], request.volume)
                latest = await self._attempt(request, alone)
            # After any other error, the class waits for the size, which it would block for hours.
            outcomes[part] = latest
        return outcomes

    def _close(self, request: _Request) -> Change:
        """Let no further part join the request; return what it asks of EC2."""
        if self._unsent.get(request.volume.id) is request:
            del self._unsent[request.volume.id]
        return requested_change(request.parts, request.volume)

    async def _attempt(self, request: _Request, change: Callable[[], Change]) -> Modification | errors.Error:
        """Ask EC2 for the change; return the modification or EC2's refusal."""
        try:
            return await self._cloud.modify_volume(request.volume.id, change)
        except errors.Error as error:
            return error
        finally:
            request.sent_at = latest_call_sent_at()

    async def _wait_until_usable(self, modification: Modification) -> GiB | None:
        """Wait until what `modification` changes is usable; return its new size, if it has one."""

        def is_over(seen: Modification | None) -> bool:
            # EC2 may still show an earlier modification; a later one means that this modification is over.
            return (
                seen is not None and seen.state is not ModificationState.MODIFYING and not _is_older(seen, modification)
            )

        last: Modification | None = modification
        if modification.state is ModificationState.MODIFYING:
            try:
                last = await self._watcher.wait_for_modification(modification.volume_id, is_over, patience=PATIENCE)
            except TimeoutError as late:
                raise errors.Unavailable(
                    f"the modification of volume {modification.volume_id} is not complete after {PATIENCE:g} s: "
                    "AWS has not finished; try again"
                ) from late
        if last is not None and last.state is ModificationState.FAILED:
            raise errors.Unavailable(
                f"the modification of volume {modification.volume_id} failed: "
                f"{last.message or 'AWS gives no reason'}; try again"
            )
        return modification.target.size

    def _remember_usable_size(self, volume_id: str, size: GiB) -> None:
        self._usable_sizes.pop(volume_id, None)
        self._usable_sizes[volume_id] = size
        if len(self._usable_sizes) > MOST_SIZES:
            del self._usable_sizes[next(iter(self._usable_sizes))]


def _is_older(seen: Modification, modification: Modification) -> bool:
    return seen.started is not None and modification.started is not None and seen.started < modification.started
