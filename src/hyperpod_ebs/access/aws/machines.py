"""Whether the machines that hold volumes still run: EC2 instances and nodes of HyperPod clusters."""
# botocore marks every member of an answer as optional. A missing one is a KeyError, which `calls` reports:
# pyright: reportTypedDictNotRequiredAccess=false

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Literal

from hyperpod_ebs.access.aws import clusters
from hyperpod_ebs.access.aws.session import Aws
from hyperpod_ebs.access.aws.volumes import Holder
from hyperpod_ebs.driver.aws.calls import translate_sdk_errors
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.nodes import Ec2Node, HyperPodNode

if TYPE_CHECKING:
    from types_aiobotocore_ec2.type_defs import InstanceTypeDef

MachineState = Literal["up", "stopped", "gone"]

_IDS_PER_CALL: Final = 200
"""Values of one filter (EC2 API reference, DescribeInstances)."""


async def machine_states(aws: Aws, holders: Iterable[Holder]) -> dict[str, MachineState]:
    """The states of the machines that hold volumes, by instance id; a machine that AWS does not let us read is missing.

    A machine that is starting or stopping counts as up.
    """
    instances, hyperpod_clusters = set[str](), dict[str, set[str]]()
    for holder in holders:
        match holder.node:
            case Ec2Node(instance):
                instances.add(instance)
            case HyperPodNode(_, instance):
                hyperpod_clusters.setdefault(holder.resource.removesuffix(f"-{instance}"), set()).add(instance)
            case None:
                pass
    states = dict[str, MachineState]()
    ids = sorted(instances)
    with suppress(errors.Error):
        for begin in range(0, len(ids), _IDS_PER_CALL):
            states |= await _instance_states(aws, ids[begin : begin + _IDS_PER_CALL])
    for arn, members in hyperpod_clusters.items():
        with suppress(errors.Error):
            present = await _node_instances(aws, arn)
            states |= {instance: "up" if instance in present else "gone" for instance in members}
    return states


async def _instance_states(aws: Aws, ids: Sequence[str]) -> dict[str, MachineState]:
    ec2 = await aws.ec2()
    shown = dict[str, MachineState]()
    with translate_sdk_errors(f"describe instances {', '.join(ids)}"):
        pages = ec2.get_paginator("describe_instances").paginate(Filters=[{"Name": "instance-id", "Values": list(ids)}])
        async for page in pages:
            for reservation in page["Reservations"]:
                shown |= {each["InstanceId"]: _state(each) for each in reservation["Instances"]}
    return {instance: shown.get(instance, "gone") for instance in ids}


def _state(instance: "InstanceTypeDef") -> MachineState:
    """The instance's state; one that may be hibernated counts as up, because it wakes with its filesystems mounted."""
    match instance["State"]["Name"]:
        case "terminated":
            return "gone"
        case "stopped" if not instance.get("HibernationOptions", {}).get("Configured"):
            return "stopped"
        case _:
            return "up"


async def _node_instances(aws: Aws, cluster_arn: str) -> set[str]:
    """The instances of a HyperPod cluster; none if the cluster is gone."""
    try:
        cluster = await clusters.describe_cluster(aws, cluster_arn)
    except errors.NotFound:
        return set()
    return {node.instance for node in await clusters.list_nodes(aws, cluster)}
