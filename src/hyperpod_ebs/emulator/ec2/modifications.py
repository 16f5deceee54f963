"""ModifyVolume and DescribeVolumesModifications.

A modification has the states modifying, optimizing and completed; the volume has its new size
and performance from optimizing on. A volume in use grows too: first its backing file, then
each device.
"""

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, Literal

from hyperpod_ebs.emulator.ec2 import filters, pages, request_checks, resource_ids, volume_limits
from hyperpod_ebs.emulator.records import Modification, Volume
from hyperpod_ebs.emulator.state.world import World, modification_subject, now, to_datetime
from hyperpod_ebs.emulator.wire.operations import Answer, AwsFault, Call, Operations, Parameters

PAGE_SIZES: Final = (1, 500)

Rate = Literal["four-a-day", "six-hours-apart", "off"]
"""How often a volume may be modified: AWS's rule since 2026, AWS's former rule, or as often as the caller wants."""

DAY: Final = 24 * 3600.0
MAX_A_DAY: Final = 4
INTERVAL: Final = 6 * 3600.0

_GP2_THROUGHPUT_MIB: Final = 250
"""Throughput of a volume that changes from gp2 to gp3."""

_MEMBERS: Final = ("Size", "VolumeType", "Iops", "Throughput", "MultiAttachEnabled")


class Modifications:
    """Modifications of volumes; EC2 returns the latest of each volume."""

    operations = Operations["Modifications"]()

    def __init__(self, world: World, *, rate: Rate) -> None:
        self._world = world
        self._store = world.store
        self._rate: Rate = rate
        world.clock.register("optimizing", self._apply)
        world.clock.register("modified", self._complete)

    @operations("ModifyVolume")
    async def modify(self, parameters: Parameters, _: Call) -> Answer:
        """Start to modify a volume; the modification is in state modifying."""
        request_checks.require(parameters, "VolumeId")
        volume = resource_ids.find_volume(self._world, parameters["VolumeId"])
        target = self._target(parameters, volume)
        before = self._store.modifications.get(volume.id)
        recent = self._recent_starts(before)
        request_checks.refuse_dry_run(parameters)
        modification = self._store.modifications.put(
            Modification(
                id=volume.id,
                started=now(),
                original=_members(_current_settings(volume)),
                target=_members(target),
                earlier=recent,
            )
        )
        self._store.record_state(modification_subject(volume.id), modification.state)
        self._world.clock.schedule(modification_subject(volume.id), "optimizing")
        return await self._world.acknowledge({"VolumeModification": _render(modification)})

    @operations("DescribeVolumesModifications")
    async def describe(self, parameters: Parameters, _: Call) -> Answer:
        """List modifications by volume id or by filter; the id of a volume that was never modified fails the call."""
        request_checks.refuse_dry_run(parameters)
        matching = filters.matching(self._candidates(parameters), parameters, _FIELDS, by_id="volume-id")
        this_page, token = pages.page(matching, parameters, PAGE_SIZES, key=lambda modification: modification.id)
        answer = {"VolumesModifications": [_render(modification) for modification in this_page], "NextToken": token}
        return await self._world.acknowledge(answer)

    def _candidates(self, parameters: Parameters) -> Mapping[str, Modification]:
        modifications = self._world.shown.modifications
        if not (ids := parameters.get("VolumeIds")):
            return modifications
        resource_ids.find_all(self._world.shown.volumes, ids, resource_ids.VOLUME)
        if missing := [id_ for id_ in ids if id_ not in modifications]:
            text = f"Modification for volume '{', '.join(missing)}' does not exist."
            raise AwsFault("InvalidVolumeModification.NotFound", text)
        return {id_: modifications[id_] for id_ in ids}

    def _target(self, parameters: Parameters, volume: Volume) -> volume_limits.Settings:
        """The settings that the volume gets."""
        if volume.state != "available":
            text = f"The volume '{volume.id}' is in the '{volume.state}' state."
            raise AwsFault("IncorrectState", text)
        if not any(name in parameters for name in _MEMBERS):
            raise AwsFault("InvalidParameterCombination", "The request must contain a parameter to modify.")
        if (size := parameters.get("Size", volume.size_gib)) < volume.size_gib:
            text = f"New size cannot be smaller than existing size: {size} GiB is less than {volume.size_gib} GiB."
            raise AwsFault("InvalidParameterValue", text)
        self._check_multi_attach(parameters, volume)
        kind = parameters.get("VolumeType", volume.kind)
        return volume_limits.valid_settings(
            kind=kind,
            size_gib=size,
            iops=_iops(parameters, volume, kind),
            throughput_mib=_throughput(parameters, volume, kind),
            multi_attach=parameters.get("MultiAttachEnabled", volume.multi_attach),
        )

    def _check_multi_attach(self, parameters: Parameters, volume: Volume) -> None:
        requested = parameters.get("MultiAttachEnabled", volume.multi_attach)
        if requested != volume.multi_attach and self._store.attachments.where("volume", volume.id):
            text = f"Multi-Attach of volume '{volume.id}' can be changed only while it is detached."
            raise AwsFault("IncorrectState", text)
        fixed = {"io1": ("VolumeType", "Size", "Iops"), "io2": ("VolumeType",)}.get(volume.kind, ())
        if volume.multi_attach and (given := [name for name in fixed if name in parameters]):
            text = f"{given[0]} of the Multi-Attach enabled {volume.kind} volume '{volume.id}' cannot be modified."
            raise AwsFault("InvalidParameterCombination", text)

    def _recent_starts(self, before: Modification | None) -> tuple[float, ...]:
        """The instants at which the modifications of the last 24 hours started.

        Raises:
            AwsFault: No modification is allowed now.
        """
        if before is None:
            return ()
        if before.state in {"modifying", "optimizing"} and self._rate != "off":
            text = f"The volume '{before.id}' is in the '{before.state}' state and cannot be modified until that ends."
            raise AwsFault("IncorrectModificationState", text)
        if before.state == "modifying":
            raise AwsFault("IncorrectModificationState", f"The volume '{before.id}' is being modified.")
        recent = tuple(start for start in (*before.earlier, before.started) if start > time.time() - DAY)
        if self._rate == "six-hours-apart" and before.started > time.time() - INTERVAL:
            raise _rate_exceeded(before.started + INTERVAL)
        if self._rate == "four-a-day" and len(recent) >= MAX_A_DAY:
            raise _rate_exceeded(recent[-MAX_A_DAY] + DAY)
        return recent

    async def _apply(self, subject: str) -> None:
        modification = self._store.modifications[_volume_id(subject)]
        target: Any = modification.target  # each member keeps the type that it was stored with
        await self._world.backing_files.grow(modification.id, size_gib=target["Size"])
        await self._world.bindings.update_sizes(self._store.attachments.where("volume", modification.id))
        self._store.volumes.put(
            replace(
                self._store.volumes[modification.id],
                size_gib=target["Size"],
                kind=target["VolumeType"],
                iops=target["Iops"],
                throughput_mib=target["Throughput"],
                multi_attach=target["MultiAttachEnabled"],
            )
        )
        self._store.modifications.put(replace(modification, state="optimizing"))
        self._store.record_state(subject, "optimizing")
        self._world.clock.schedule(subject, "modified")

    async def _complete(self, subject: str) -> None:
        modification = self._store.modifications[_volume_id(subject)]
        self._store.modifications.put(replace(modification, state="completed", ended=now()))
        self._store.record_state(subject, "completed")


def _rate_exceeded(allowed_again: float) -> AwsFault:
    text = (
        "You've reached the maximum modification rate per volume limit. "
        f"The volume can be modified again after {to_datetime(allowed_again):%Y-%m-%dT%H:%M:%SZ}."
    )
    return AwsFault("VolumeModificationRateExceeded", text)


def _volume_id(subject: str) -> str:
    """The volume's id in the clock's name for its modification."""
    return subject.partition("/")[2]


def _current_settings(volume: Volume) -> volume_limits.Settings:
    return volume_limits.Settings(
        kind=volume.kind,
        size_gib=volume.size_gib,
        iops=volume.iops,
        throughput_mib=volume.throughput_mib,
        multi_attach=volume.multi_attach,
    )


def _iops(parameters: Parameters, volume: Volume, kind: str) -> int | None:
    """The IOPS that the volume is to have: the requested IOPS, the current IOPS, or AWS's default for a new type."""
    if "Iops" in parameters or volume_limits.VOLUME_TYPES.get(kind, volume_limits.VOLUME_TYPES["gp2"]).iops is None:
        return parameters.get("Iops")
    if kind == volume.kind:
        return volume.iops
    # From gp2 to gp3, the volume gets the higher of its own IOPS and gp3's baseline.
    return max(3000, volume.iops or 0) if volume.kind == "gp2" else 3000


def _throughput(parameters: Parameters, volume: Volume, kind: str) -> int | None:
    if "Throughput" in parameters or kind != "gp3":
        return parameters.get("Throughput")
    return volume.throughput_mib if volume.kind == "gp3" else _GP2_THROUGHPUT_MIB if volume.kind == "gp2" else None


def _members(settings: volume_limits.Settings) -> dict[str, int | str | bool | None]:
    values = (settings.size_gib, settings.kind, settings.iops, settings.throughput_mib, settings.multi_attach)
    return dict(zip(_MEMBERS, values, strict=True))


def _render(modification: Modification) -> dict[str, Any]:  # the members of EC2's VolumeModification
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
    return filters.boolean(value) if isinstance(value, bool) else str(value)


_FIELDS: Final[dict[str, filters.Field[Modification]]] = {
    "modification-state": lambda modification: [modification.state],
    "original-iops": lambda modification: [_text(modification.original["Iops"])],
    "original-size": lambda modification: [_text(modification.original["Size"])],
    "original-volume-type": lambda modification: [_text(modification.original["VolumeType"])],
    "originalMultiAttachEnabled": lambda modification: [_text(modification.original["MultiAttachEnabled"])],
    "start-time": lambda modification: [filters.timestamp(modification.started)],
    "target-iops": lambda modification: [_text(modification.target["Iops"])],
    "target-size": lambda modification: [_text(modification.target["Size"])],
    "target-volume-type": lambda modification: [_text(modification.target["VolumeType"])],
    "targetMultiAttachEnabled": lambda modification: [_text(modification.target["MultiAttachEnabled"])],
    "volume-id": lambda modification: [modification.id],
}
