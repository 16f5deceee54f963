"""DescribeInstanceStatus, DescribeVolumeStatus and DescribeVolumeAttribute: everything is healthy."""

from dataclasses import dataclass
from typing import Any, Final

from hyperpod_ebs.emulator.ec2 import filters, filters_without_data, pages, request_checks, resource_ids
from hyperpod_ebs.emulator.ec2.describe_instances import CODES, render_state
from hyperpod_ebs.emulator.nodes.machines import customer_instances
from hyperpod_ebs.emulator.records import Instance, Volume
from hyperpod_ebs.emulator.state.world import World
from hyperpod_ebs.emulator.wire.operations import Answer, AwsFault, Call, Operations, Parameters

PAGE_SIZES: Final = (5, 1000)

_PROVISIONED: Final = frozenset({"io1", "io2", "gp3"})
"""Volume types with a check of their performance."""


@dataclass(frozen=True, slots=True)
class DescribeStatus:
    """The statuses of instances and volumes, and the attributes of volumes."""

    world: World

    operations = Operations["DescribeStatus"]()

    @operations("DescribeInstanceStatus")
    async def instances(self, parameters: Parameters, _: Call) -> Answer:
        """List the statuses of instances, by default only of those that are running."""
        request_checks.refuse_dry_run(parameters)
        pages.refuse_pages_of_ids(parameters, "InstanceIds", shown="instancesSet")
        own = customer_instances(self.world.shown.instances)
        known = resource_ids.named_or_all(own, parameters.get("InstanceIds"), resource_ids.INSTANCE)
        if not parameters.get("IncludeAllInstances"):
            known = {id_: instance for id_, instance in known.items() if instance.state == "running"}
        matching = filters.matching(known, parameters, self._instance_fields(), by_id="instance-id")
        this_page, token = pages.page(matching, parameters, PAGE_SIZES, key=lambda instance: instance.id)
        statuses = [self._instance_status(instance) for instance in this_page]
        return await self.world.acknowledge({"InstanceStatuses": statuses, "NextToken": token})

    @operations("DescribeVolumeStatus")
    async def volumes(self, parameters: Parameters, _: Call) -> Answer:
        """List the statuses of volumes by id or by filter."""
        request_checks.refuse_dry_run(parameters)
        pages.refuse_pages_of_ids(parameters, "VolumeIds", shown="volumeSet")
        shown = self.world.shown.volumes
        known = resource_ids.named_or_all(shown, parameters.get("VolumeIds"), resource_ids.VOLUME)
        matching = filters.matching(known, parameters, self._volume_fields(), by_id="volume-id")
        this_page, token = pages.page(matching, parameters, PAGE_SIZES, key=lambda volume: volume.id)
        statuses = [self._volume_status(volume) for volume in this_page]
        return await self.world.acknowledge({"VolumeStatuses": statuses, "NextToken": token})

    @operations("DescribeVolumeAttribute")
    async def volume_attribute(self, parameters: Parameters, _: Call) -> Answer:
        """Return an attribute of a volume."""
        attribute, id_ = request_checks.require(parameters, "Attribute", "VolumeId")
        volume = resource_ids.find_volume(self.world, id_)
        request_checks.refuse_dry_run(parameters)
        match attribute:
            case "autoEnableIO":
                return {"VolumeId": volume.id, "AutoEnableIO": {"Value": False}}
            case "productCodes":
                return {"VolumeId": volume.id, "ProductCodes": []}
            case _:
                text = f"Value ({attribute}) for parameter attribute is invalid. Unknown attribute."
                raise AwsFault("InvalidParameterValue", text)

    def _instance_status(self, instance: Instance) -> dict[str, Any]:  # the members of EC2's InstanceStatus
        status = _instance_health(instance)
        details = [{"Name": "reachability", "Status": "passed"}] if status == "ok" else []
        checks = {"Status": status, "Details": details}
        return {
            "InstanceId": instance.id,
            "AvailabilityZone": instance.zone,
            "AvailabilityZoneId": self.world.region.zone_id(instance.zone),
            "InstanceState": render_state(instance),
            "InstanceStatus": checks,
            "SystemStatus": checks,
            "AttachedEbsStatus": checks,
        }

    def _volume_status(self, volume: Volume) -> dict[str, Any]:  # the members of EC2's VolumeStatusItem
        return {
            "VolumeId": volume.id,
            "AvailabilityZone": volume.zone,
            "AvailabilityZoneId": self.world.region.zone_id(volume.zone),
            "VolumeStatus": {
                "Status": _volume_health(volume),
                "Details": [{"Name": name, "Status": status} for name, status in _volume_checks(volume).items()],
            },
            "Events": [],
            "Actions": [],
        }

    def _instance_fields(self) -> dict[str, filters.Field[Instance]]:
        return {
            **filters_without_data.INSTANCE_STATUS,
            "attached-ebs-status.status": lambda instance: [_instance_health(instance)],
            "availability-zone": lambda instance: [instance.zone],
            "availability-zone-id": lambda instance: [self.world.region.zone_id(instance.zone) or ""],
            "instance-state-code": lambda instance: [str(CODES[instance.state])],
            "instance-state-name": lambda instance: [instance.state],
            "instance-status.reachability": _reachability,
            "instance-status.status": lambda instance: [_instance_health(instance)],
            "operator.managed": lambda _: [filters.boolean(value=False)],
            "system-status.reachability": _reachability,
            "system-status.status": lambda instance: [_instance_health(instance)],
        }

    def _volume_fields(self) -> dict[str, filters.Field[Volume]]:
        return {
            **filters_without_data.VOLUME_STATUS,
            "availability-zone": lambda volume: [volume.zone],
            "volume-status.details-name": _volume_checks,
            "volume-status.details-status": lambda volume: _volume_checks(volume).values(),
            "volume-status.status": lambda volume: [_volume_health(volume)],
        }


def _instance_health(instance: Instance) -> str:
    """The result of the checks of an instance: ok, initializing or not-applicable."""
    return {"running": "ok", "pending": "initializing"}.get(instance.state, "not-applicable")


def _reachability(instance: Instance) -> list[str]:
    return ["passed"] if _instance_health(instance) == "ok" else []


def _volume_health(volume: Volume) -> str:
    """The status of a volume: ok or insufficient-data."""
    return "insufficient-data" if volume.state == "creating" else "ok"


def _volume_checks(volume: Volume) -> dict[str, str]:
    """The results of the checks of a volume by name."""
    is_enabled = "insufficient-data" if volume.state == "creating" else "passed"
    return {"io-enabled": is_enabled, "io-performance": "normal" if volume.kind in _PROVISIONED else "not-applicable"}
