"""ModifyInstanceMetadataOptions, and the metadata options as EC2 takes and returns them.

Sources: EC2 API reference, "InstanceMetadataOptionsRequest"; EC2 User Guide, "Configure the
Instance Metadata Service options".
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from hyperpod_ebs.emulator.ec2 import request_checks, resource_ids
from hyperpod_ebs.emulator.records import Instance
from hyperpod_ebs.emulator.state.world import World
from hyperpod_ebs.emulator.wire.operations import Answer, AwsFault, Call, Operations, Parameters

FIELDS: Final = {
    "HttpTokens": "metadata_tokens",
    "HttpPutResponseHopLimit": "metadata_hop_limit",
    "HttpEndpoint": "metadata_endpoint",
}
"""The options that have an effect, and the fields of `Instance` for them."""

_HOPS: Final = range(1, 65)

_ALWAYS_DISABLED: Final = ("HttpProtocolIpv6", "InstanceMetadataTags")


@dataclass(frozen=True, slots=True)
class MetadataOptions:
    """The operation ModifyInstanceMetadataOptions."""

    world: World

    operations = Operations["MetadataOptions"]()

    @operations("ModifyInstanceMetadataOptions")
    async def modify(self, parameters: Parameters, _: Call) -> Answer:
        """Change the options that the request names; the change has an effect at once."""
        (id_,) = request_checks.require(parameters, "InstanceId")
        (instance,) = resource_ids.find_instances(self.world, [id_])
        changes = requested_options(parameters)
        request_checks.refuse_dry_run(parameters)
        changed = self.world.store.instances.put(replace(instance, **changes))
        return await self.world.acknowledge({"InstanceId": id_, "InstanceMetadataOptions": render_options(changed)})


def requested_options(given: Mapping[str, Any]) -> dict[str, Any]:  # Any: the members of InstanceMetadataOptionsRequest
    """The requested options as fields of `Instance`.

    Raises:
        AwsFault: An option has a value that EC2 does not have, or one that the emulator does not support.
    """
    hops = given.get("HttpPutResponseHopLimit", 1)
    if hops not in _HOPS:
        text = f"Value ({hops}) for parameter HttpPutResponseHopLimit is invalid. Specify an integer from 1 to 64."
        raise AwsFault("InvalidParameterValue", text)
    for name, values in {"HttpTokens": {"optional", "required"}, "HttpEndpoint": {"disabled", "enabled"}}.items():
        if name in given and given[name] not in values:
            raise AwsFault("InvalidParameterValue", f"Value ({given[name]}) for parameter {name} is invalid.")
    for name in _ALWAYS_DISABLED:
        if given.get(name, "disabled") != "disabled":
            raise AwsFault("UnsupportedOperation", f"The emulator does not support the parameter {name}.")
    return {field: given[name] for name, field in FIELDS.items() if name in given}


def render_options(instance: Instance) -> dict[str, Any]:  # the members of InstanceMetadataOptionsResponse
    """The instance's options."""
    options = {name: getattr(instance, field) for name, field in FIELDS.items()}
    return {"State": "applied", **options, **dict.fromkeys(_ALWAYS_DISABLED, "disabled")}
