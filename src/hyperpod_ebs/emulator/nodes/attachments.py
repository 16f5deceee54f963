"""The states of an attachment, for EC2's API and for SageMaker's.

state       entered by                 meaning
----------  -------------------------  ------------------------------------------------
attaching   an attach request          stored; the node has no device yet
attached    the clock                  the device is in the node's device directory
detaching   a detach request           stored; the node still has the device
busy        the clock                  mounted or open on the node; the clock tries again
(deleted)   the clock                  the node has no device; the volume is available
"""

from dataclasses import replace
from typing import Final

from hyperpod_ebs.emulator.kms.volume_keys import KeyUnusable, VolumeKeys
from hyperpod_ebs.emulator.nodes.attach_slots import HYPERPOD_VOLUMES, attach_slots
from hyperpod_ebs.emulator.records import Attachment, Instance, Volume
from hyperpod_ebs.emulator.state.world import World, now
from hyperpod_ebs.emulator.wire.operations import AwsFault, Call

BUSY_RETRY: Final = 0.05
"""Seconds until the detach of a busy device is tried again."""

MAX_INSTANCES: Final = 16
"""Instances that a multi-attach volume can be attached to."""


class Attachments:
    """All attachments of the account."""

    def __init__(self, world: World, volume_keys: VolumeKeys) -> None:
        self._world = world
        self._volume_keys = volume_keys
        self._store = world.store
        world.clock.register("attached", self._finish_attach)
        world.clock.register("detached", self._finish_detach)

    def attach(self, volume: Volume, instance: Instance, device: str, call: Call) -> Attachment:
        """Start to attach `volume` to `instance` as `device`; the clock finishes it.

        Raises:
            AwsFault: The volume or the instance is in the wrong state or zone, a limit is reached, or the caller of
                `call` may not use the volume's key.
        """
        self._check_attach(volume, instance)
        used = {other.unit for other in self._store.attachments.where("instance", instance.id)}
        unit = next(unit for unit in range(1, len(used) + 2) if unit not in used)
        attachment = Attachment(
            volume=volume.id,
            instance=instance.id,
            device=device,
            unit=unit,
            since=now(),
            is_xen=attach_slots(instance.kind).hypervisor == "xen",
        )
        try:
            self._volume_keys.open_for_instance(call, volume, instance, attachment.id)
        except KeyUnusable as cause:
            text = f"Volume {volume.id} cannot be attached. The encrypted volume was unable to access the KMS key."
            raise AwsFault("CustomerKeyHasBeenRevoked", text) from cause
        self._store.attachments.put(attachment)
        self._store.record_state(volume.id, "in-use")
        self._store.record_state(attachment.id, attachment.state)
        self._world.clock.schedule(attachment.id, "attached")
        return attachment

    def detach(self, attachment: Attachment) -> Attachment:
        """Start to detach the volume; the clock finishes it when no process on the node uses the device."""
        detaching = self._store.attachments.put(replace(attachment, state="detaching"))
        self._store.record_state(attachment.id, detaching.state)
        self._world.clock.schedule(attachment.id, "detached")
        return detaching

    async def force_detach(self, attachment: Attachment) -> Attachment:
        """Detach the volume now, even from a node that uses the device; all later I/O of that node fails.

        Call this only from a step of the clock, or while the clock is paused.
        """
        self._store.attachments.put(replace(attachment, state="detaching"))
        self._store.record_state(attachment.id, "detaching")
        self._world.clock.schedule_at(attachment.id, "detached", now())
        await self._store.commit()
        await self._world.bindings.force_release(attachment)
        self._remove(attachment)
        return replace(attachment, state="detached")

    def _check_attach(self, volume: Volume, instance: Instance) -> None:
        present = self._store.attachments.where("volume", volume.id)
        if volume.state != "available":
            raise AwsFault("IncorrectState", f"{volume.id} is not 'available'.")
        if (present and not volume.multi_attach) or any(attachment.instance == instance.id for attachment in present):
            raise AwsFault("VolumeInUse", f"{volume.id} is already attached to an instance")
        if len(present) >= MAX_INSTANCES:
            raise AwsFault("AttachmentLimitExceeded", f"{volume.id} is attached to {MAX_INSTANCES} instances already")
        if volume.zone != instance.zone:
            text = f"The volume '{volume.id}' is not in the same availability zone as instance '{instance.id}'"
            raise AwsFault("InvalidVolume.ZoneMismatch", text)
        if instance.state not in {"running", "stopped"}:
            raise AwsFault("IncorrectState", f"Instance '{instance.id}' is not 'running'.")
        limit = attach_slots(instance.kind).count - (HYPERPOD_VOLUMES if instance.cluster else 0)
        present = self._store.attachments.where("instance", instance.id)
        counted = [each for each in present if not self._store.volumes[each.volume].cluster]
        if len(counted) >= limit:
            text = f"Instance {instance.id} of type {instance.kind} has {limit} volumes attached, which is its limit."
            raise AwsFault("AttachmentLimitExceeded", text)

    async def show_device(self, attachment: Attachment) -> None:
        """Show the volume to its node, and finish the attachment if it is not yet finished."""
        await self._world.bindings.bind(attachment)
        if attachment.state == "attaching":
            self._store.attachments.put(replace(attachment, state="attached"))
            self._store.record_state(attachment.id, "attached")

    async def _finish_attach(self, id_: str) -> None:
        attachment = self._store.attachments[id_]
        if self._store.instances[attachment.instance].has_devices:
            await self.show_device(attachment)
        else:
            self._store.attachments.put(replace(attachment, state="attached"))
            self._store.record_state(id_, "attached")

    async def _finish_detach(self, id_: str) -> None:
        attachment = self._store.attachments[id_]
        if await self._world.bindings.release(attachment):
            self._remove(attachment)
            return
        if attachment.state != "busy":
            self._store.attachments.put(replace(attachment, state="busy"))
            self._store.record_state(id_, "busy")
        self._world.clock.schedule_at(id_, "detached", now() + BUSY_RETRY)

    def _remove(self, attachment: Attachment) -> None:
        self._world.clock.cancel(attachment.id)
        self._store.attachments.drop(attachment.id)
        self._volume_keys.close_for_instance(attachment.id)
        self._store.record_state(attachment.id, "detached")
        if not self._store.attachments.where("volume", attachment.volume):
            self._store.record_state(attachment.volume, "available")
