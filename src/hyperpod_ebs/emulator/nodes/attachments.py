"""The way of an attachment, whichever API asked for it.

state       what brings it on          what it means here
----------  -------------------------  ------------------------------------------------
attaching   an attach                  the intent is stored, no device yet
attached    the clock                  the device is in the node's directory
detaching   a detach                   the intent is stored, the device still there
busy        the clock                  the node has it mounted or open; looked at again
(gone)      the clock                  no device; the volume is available
"""

from dataclasses import replace
from typing import Final

from hyperpod_ebs.emulator.nodes.instance_types import HYPERPOD_OWN, places
from hyperpod_ebs.emulator.records import Attachment, Instance, Volume
from hyperpod_ebs.emulator.state.world import World, now
from hyperpod_ebs.emulator.wire.operations import AwsFault

LOOK_AGAIN: Final = 0.05
"""Seconds until a busy device is looked at again."""

SHARERS: Final = 16
"""Instances that a multi-attach volume can be on."""


class Attachments:
    """Every attachment of the account."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._store = world.store
        world.clock.register("attached", self._attached)
        world.clock.register("detached", self._detached)

    def begin(self, volume: Volume, instance: Instance, device: str) -> Attachment:
        """Attach `volume` to `instance` as `device`; done when the clock has it.

        Raises:
            AwsFault: The volume or the instance is in no state for it, or the instance is full.
        """
        self._check(volume, instance)
        used = {one.unit for one in self._store.attachments.where("instance", instance.id)}
        unit = next(unit for unit in range(1, len(used) + 2) if unit not in used)
        attachment = self._store.attachments.put(
            Attachment(volume=volume.id, instance=instance.id, device=device, unit=unit, since=now())
        )
        self._store.record_state(volume.id, "in-use")
        self._store.record_state(attachment.id, attachment.state)
        self._world.clock.schedule(attachment.id, "attached")
        return attachment

    def end(self, attachment: Attachment) -> Attachment:
        """Detach it; done when the clock has it and nobody on the node holds the device."""
        detaching = self._store.attachments.put(replace(attachment, state="detaching"))
        self._store.record_state(attachment.id, detaching.state)
        self._world.clock.schedule(attachment.id, "detached")
        return detaching

    async def cut(self, attachment: Attachment) -> Attachment:
        """Detach it now, whoever holds the device: what is written from now on is lost.

        For a step of the clock, or while it is held still.
        """
        self._store.attachments.put(replace(attachment, state="detaching"))
        self._store.record_state(attachment.id, "detaching")
        self._world.clock.schedule_at(attachment.id, "detached", now())
        await self._store.commit()
        shared = len(self._store.attachments.where("volume", attachment.volume)) > 1
        await self._world.bindings.cut(attachment, shared=shared)
        self._gone(attachment)
        return replace(attachment, state="detached")

    def _check(self, volume: Volume, instance: Instance) -> None:
        present = self._store.attachments.where("volume", volume.id)
        if volume.state != "available":
            raise AwsFault("IncorrectState", f"{volume.id} is not 'available'.")
        if (present and not volume.multi_attach) or any(one.instance == instance.id for one in present):
            raise AwsFault("VolumeInUse", f"{volume.id} is already attached to an instance")
        if len(present) >= SHARERS:
            raise AwsFault("AttachmentLimitExceeded", f"{volume.id} is attached to {SHARERS} instances already")
        if volume.zone != instance.zone:
            text = f"The volume '{volume.id}' is not in the same availability zone as instance '{instance.id}'"
            raise AwsFault("InvalidVolume.ZoneMismatch", text)
        if instance.state not in {"running", "stopped"}:
            raise AwsFault("IncorrectState", f"Instance '{instance.id}' is not 'running'.")
        limit = places(instance.kind).most - (HYPERPOD_OWN if instance.cluster else 0)
        if len(self._store.attachments.where("instance", instance.id)) >= limit:
            text = f"Instance {instance.id} of type {instance.kind} has {limit} volumes attached, which is its limit."
            raise AwsFault("AttachmentLimitExceeded", text)

    async def _attached(self, id_: str) -> None:
        attachment = self._store.attachments[id_]
        await self._world.bindings.bind(attachment)
        self._store.attachments.put(replace(attachment, state="attached"))
        self._store.record_state(id_, "attached")

    async def _detached(self, id_: str) -> None:
        attachment = self._store.attachments[id_]
        if await self._world.bindings.release(attachment):
            self._gone(attachment)
            return
        if attachment.state != "busy":
            self._store.attachments.put(replace(attachment, state="busy"))
            self._store.record_state(id_, "busy")
        self._world.clock.schedule_at(id_, "detached", now() + LOOK_AGAIN)

    def _gone(self, attachment: Attachment) -> None:
        self._world.clock.cancel(attachment.id)
        self._store.attachments.drop(attachment.id)
        self._store.record_state(attachment.id, "detached")
        if not self._store.attachments.where("volume", attachment.volume):
            self._store.record_state(attachment.volume, "available")
