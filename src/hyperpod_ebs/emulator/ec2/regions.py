"""DescribeRegions."""

from dataclasses import dataclass

from hyperpod_ebs.emulator.ec2 import filters, request_checks
from hyperpod_ebs.emulator.state import partitions
from hyperpod_ebs.emulator.state.world import World
from hyperpod_ebs.emulator.wire.operations import Answer, AwsFault, Call, Operations, Parameters


@dataclass(frozen=True, slots=True)
class Regions:
    """The regions of the partition: only the emulator's own is enabled for its account."""

    world: World

    operations = Operations["Regions"]()

    @operations("DescribeRegions")
    async def describe(self, parameters: Parameters, _: Call) -> Answer:
        """List the enabled region, or with AllRegions all regions of the partition."""
        request_checks.refuse_dry_run(parameters)
        partition, own = partitions.find(self.world.region.name), self.world.region.name
        names = sorted({*partition.region_names, own})
        wanted = parameters.get("RegionNames", [])
        if unknown := [name for name in wanted if name not in names]:
            raise AwsFault("InvalidParameterValue", f"Invalid region provided: [{', '.join(unknown)}]")
        shown = wanted or (names if parameters.get("AllRegions") else [own])
        statuses = {name: "opt-in-not-required" if name == own else "not-opted-in" for name in shown}
        endpoints = {name: f"ec2.{name}.{partition.dns_suffix}" for name in shown}
        fields: dict[str, filters.Field[str]] = {
            "endpoint": lambda name: [endpoints[name]],
            "opt-in-status": lambda name: [statuses[name]],
            "region-name": lambda name: [name],
        }
        matching = filters.matching(dict(zip(shown, shown, strict=True)), parameters, fields, by_id="region-name")
        members = [
            {"RegionName": name, "Endpoint": endpoints[name], "OptInStatus": statuses[name]} for name in matching
        ]
        return {"Regions": members}
