"""ModifyVolume and DescribeVolumesModifications.

modifying, then optimizing, in which size and performance are already the new ones,
then completed. A volume grows under its users: the image first, then each device.
"""

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, Literal

from hyperpod_ebs.emulator.ec2 import limits, listing, naming
from hyperpod_ebs.emulator.records import Modification, Volume
from hyperpod_ebs.emulator.state.world import World, modification_subject, now, to_datetime
from hyperpod_ebs.emulator.wire.operations import Answer, Asked, AwsFault, Call, Operations

PAGES: Final = (1, 500)

Rate = Literal["four-a-day", "six-hours-apart", "off"]
"""How often a volume may be modified: AWS's rule since 2026, the one before, or none."""

DAY: Final = 24 * 3600.0
MOST: Final = 4
APART: Final = 6 * 3600.0

_MEMBERS: Final = ("Size", "VolumeType", "Iops", "Throughput", "MultiAttachEnabled")


class Modifications:
    """The latest modification of each volume."""

    name = "ec2"
    operations = Operations["Modifications"]()

    def __init__(self, world: World, *, rate: Rate) -> None:
        self._world = world
        self._store = world.store
        self._rate: Rate = rate
        world.clock.register("optimizing", self._optimizing)
        world.clock.register("modified", self._completed)

    @operations("ModifyVolume")
    async def modify(self, asked: Asked, _: Call) -> Answer:
        """The modification, modifying."""
        naming.needed(asked, "VolumeId")
        await self._world.clock.run_due_steps()
        volume = naming.found(self._store.volumes, asked["VolumeId"], naming.VOLUME)
        target = self._target(asked, volume)
        before = self._store.modifications.get(volume.id)
        recent = self._allowed(before)
        naming.dry_run(asked)
        wanted = Modification(
            id=volume.id, started=now(), original=_members(_shape(volume)), target=_members(target), earlier=recent
        )
        modification = self._store.modifications.put(wanted)
        self._store.record_state(modification_subject(volume.id), modification.state)
        self._world.clock.schedule(modification_subject(volume.id), "optimizing")
        return await self._world.acknowledge({"VolumeModification": _shown(modification)})

    @operations("DescribeVolumesModifications")
    async def describe(self, asked: Asked, _: Call) -> Answer:
        """The latest modifications of volumes by ids, of which one never modified fails the call, or by filters."""
        await self._world.clock.run_due_steps()
        naming.dry_run(asked)
        wanted = listing.selected(self._asked_for(asked), asked, _FIELDS, by_id="volume-id")
        this, token = listing.page(wanted, asked, PAGES, key=lambda one: one.id)
        answer = {"VolumesModifications": [_shown(one) for one in this], "NextToken": token}
        return await self._world.acknowledge(answer)

    def _asked_for(self, asked: Asked) -> Mapping[str, Modification]:
        modifications = self._store.modifications
        if not (ids := asked.get("VolumeIds")):
            return modifications
        naming.all_found(self._store.volumes, ids, naming.VOLUME)
        if missing := [id_ for id_ in ids if id_ not in modifications]:
            text = f"Modification for volume '{', '.join(missing)}' does not exist."
            raise AwsFault("InvalidVolumeModification.NotFound", text)
        return {id_: modifications[id_] for id_ in ids}

    def _target(self, asked: Asked, volume: Volume) -> limits.Shape:
        """What the volume is to become."""
        if volume.state != "available":
            text = f"The volume '{volume.id}' is in the '{volume.state}' state."
            raise AwsFault("IncorrectState", text)
        if not any(name in asked for name in _MEMBERS):
            raise AwsFault("InvalidParameterCombination", "The request must contain a parameter to modify.")
        if (size := asked.get("Size", volume.size_gib)) < volume.size_gib:
            text = f"New size cannot be smaller than existing size: {size} GiB is less than {volume.size_gib} GiB."
            raise AwsFault("InvalidParameterValue", text)
        self._check_multi_attach(asked, volume)
        kind = asked.get("VolumeType", volume.kind)
        return limits.shape(
            kind=kind,
            size_gib=size,
            iops=_iops(asked, volume, kind),
            throughput_mib=_throughput(asked, volume, kind),
            multi_attach=asked.get("MultiAttachEnabled", volume.multi_attach),
        )

    def _check_multi_attach(self, asked: Asked, volume: Volume) -> None:
        wanted = asked.get("MultiAttachEnabled", volume.multi_attach)
        if wanted != volume.multi_attach and self._store.attachments.where("volume", volume.id):
            text = f"Multi-Attach of volume '{volume.id}' can be changed only while it is detached."
            raise AwsFault("IncorrectState", text)
        fixed = {"io1": ("VolumeType", "Size", "Iops"), "io2": ("VolumeType",)}.get(volume.kind, ())
        if volume.multi_attach and (given := [name for name in fixed if name in asked]):
            text = f"{given[0]} of the Multi-Attach enabled {volume.kind} volume '{volume.id}' cannot be modified."
            raise AwsFault("InvalidParameterCombination", text)

    def _allowed(self, before: Modification | None) -> tuple[float, ...]:
        """When the modifications of the last day started, if one more may."""
        if before is None:
            return ()
        if before.state in {"modifying", "optimizing"} and self._rate != "off":
            text = f"The volume '{before.id}' is in the '{before.state}' state and cannot be modified until that ends."
            raise AwsFault("IncorrectModificationState", text)
        if before.state == "modifying":
            raise AwsFault("IncorrectModificationState", f"The volume '{before.id}' is being modified.")
        recent = tuple(start for start in (*before.earlier, before.started) if start > time.time() - DAY)
        if self._rate == "six-hours-apart" and before.started > time.time() - APART:
            self._refuse(before.started + APART)
        if self._rate == "four-a-day" and len(recent) >= MOST:
            self._refuse(recent[-MOST] + DAY)
        return recent

    def _refuse(self, instant: float) -> None:
        earliest = to_datetime(instant)
        text = (
            "You've reached the maximum modification rate per volume limit. "
            f"The volume can be modified again after {earliest:%Y-%m-%dT%H:%M:%SZ}."
        )
        raise AwsFault("VolumeModificationRateExceeded", text)

    async def _optimizing(self, subject: str) -> None:
        modification = self._store.modifications[_volume(subject)]
        wanted: Any = modification.target  # each member has the type that it was put in with
        await self._world.images.grow(modification.id, size_gib=wanted["Size"])
        await self._world.bindings.regrow(self._store.attachments.where("volume", modification.id))
        self._store.volumes.put(
            replace(
                self._store.volumes[modification.id],
                size_gib=wanted["Size"],
                kind=wanted["VolumeType"],
                iops=wanted["Iops"],
                throughput_mib=wanted["Throughput"],
                multi_attach=wanted["MultiAttachEnabled"],
            )
        )
        self._store.modifications.put(replace(modification, state="optimizing"))
        self._store.record_state(subject, "optimizing")
        self._world.clock.schedule(subject, "modified")

    async def _completed(self, subject: str) -> None:
        modification = self._store.modifications[_volume(subject)]
        self._store.modifications.put(replace(modification, state="completed", ended=now()))
        self._store.record_state(subject, "completed")


def _volume(subject: str) -> str:
    """The id in a subject of the clock's."""
    return subject.partition("/")[2]


def _shape(volume: Volume) -> limits.Shape:
    return limits.Shape(
        kind=volume.kind,
        size_gib=volume.size_gib,
        iops=volume.iops,
        throughput_mib=volume.throughput_mib,
        multi_attach=volume.multi_attach,
    )


def _iops(asked: Asked, volume: Volume, kind: str) -> int | None:
    """The IOPS to check: those asked for, those that it has, or AWS's choice for a new type."""
    if "Iops" in asked or limits.KINDS.get(kind, limits.KINDS["gp2"]).iops is None:
        return asked.get("Iops")
    if kind == volume.kind:
        return volume.iops
    # gp2 to gp3 keeps the higher of the source's performance and gp3's baseline
    return max(3000, volume.iops or 0) if volume.kind == "gp2" else 3000


def _throughput(asked: Asked, volume: Volume, kind: str) -> int | None:
    if "Throughput" in asked or kind != "gp3":
        return asked.get("Throughput")
    return volume.throughput_mib if volume.kind == "gp3" else _GP2_THROUGHPUT if volume.kind == "gp2" else None


_GP2_THROUGHPUT: Final = 250


def _members(shape: limits.Shape) -> dict[str, int | str | bool | None]:
    values = (shape.size_gib, shape.kind, shape.iops, shape.throughput_mib, shape.multi_attach)
    return dict(zip(_MEMBERS, values, strict=True))


def _shown(modification: Modification) -> dict[str, Any]:  # the members of EC2's VolumeModification
    progress = {"modifying": 0, "optimizing": 50, "completed": 100}[modification.state]
    return {
        "VolumeId": modification.id,
        "ModificationState": modification.state,
        "Progress": progress,
        "StartTime": to_datetime(modification.started),
        "EndTime": to_datetime(modification.ended),
        **{f"Original{name}": value for name, value in modification.original.items()},
        **{f"Target{name}": value for name, value in modification.target.items()},
    }


def _text(value: object) -> str:
    return listing.yes_or_no(value) if isinstance(value, bool) else str(value)


_FIELDS: Final[dict[str, listing.Field[Modification]]] = {
    "modification-state": lambda one: [one.state],
    "original-iops": lambda one: [_text(one.original["Iops"])],
    "original-size": lambda one: [_text(one.original["Size"])],
    "original-volume-type": lambda one: [_text(one.original["VolumeType"])],
    "originalMultiAttachEnabled": lambda one: [_text(one.original["MultiAttachEnabled"])],
    "start-time": lambda one: [listing.instant(one.started)],
    "target-iops": lambda one: [_text(one.target["Iops"])],
    "target-size": lambda one: [_text(one.target["Size"])],
    "target-volume-type": lambda one: [_text(one.target["VolumeType"])],
    "targetMultiAttachEnabled": lambda one: [_text(one.target["MultiAttachEnabled"])],
    "volume-id": lambda one: [one.id],
}
