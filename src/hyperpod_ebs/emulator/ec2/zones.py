"""DescribeAvailabilityZones."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from hyperpod_ebs.emulator.ec2 import filters, filters_without_data, request_checks
from hyperpod_ebs.emulator.state.region import Zone
from hyperpod_ebs.emulator.state.world import World
from hyperpod_ebs.emulator.wire.operations import Answer, AwsFault, Call, Operations, Parameters

_FIXED: Final = {"state": "available", "opt-in-status": "opt-in-not-required", "zone-type": "availability-zone"}


@dataclass(frozen=True, slots=True)
class Zones:
    """The zones of the region."""

    world: World

    operations = Operations["Zones"]()

    @operations("DescribeAvailabilityZones")
    async def describe(self, parameters: Parameters, _: Call) -> Answer:
        """List zones by name, id or filter; drivers use a dry run to check that EC2 responds."""
        request_checks.refuse_dry_run(parameters)
        zones = {zone.name: zone for zone in self.world.region.zones}
        names_by_id = {zone.id: zone.name for zone in self.world.region.zones}
        names = [
            *parameters.get("ZoneNames", []),
            *(names_by_id.get(id_, id_) for id_ in parameters.get("ZoneIds", [])),
        ]
        if unknown := [name for name in names if name not in zones]:
            raise AwsFault("InvalidParameterValue", f"Invalid availability zone: [{unknown[0]}]")
        known = {name: zones[name] for name in names} if names else zones
        matching = filters.matching(known, parameters, self._fields(), by_id="zone-name")
        return {"AvailabilityZones": [self._render(zone) for zone in matching]}

    def _fields(self) -> dict[str, filters.Field[Zone]]:
        fixed: dict[str, filters.Field[Zone]] = {name: lambda _, value=value: [value] for name, value in _FIXED.items()}  # type: ignore[misc] # a default binds it
        return {
            **filters_without_data.AVAILABILITY_ZONES,
            **fixed,
            "zone-name": lambda zone: [zone.name],
            "zone-id": lambda zone: [zone.id],
            "region-name": lambda _: [self.world.region.name],
            "group-name": lambda _: [self._group()],
        }

    def _group(self) -> str:
        return f"{self.world.region.name}-zg-1"

    def _render(self, zone: Zone) -> Mapping[str, str]:
        return {
            "ZoneName": zone.name,
            "ZoneId": zone.id,
            "RegionName": self.world.region.name,
            "State": _FIXED["state"],
            "OptInStatus": _FIXED["opt-in-status"],
            "ZoneType": _FIXED["zone-type"],
            "GroupName": self._group(),
            "NetworkBorderGroup": self.world.region.name,
        }
