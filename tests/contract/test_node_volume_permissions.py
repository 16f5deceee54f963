"""Who may attach volumes to HyperPod nodes by hand: exactly the callers with the guide's documents."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import pytest

from hyperpod_ebs.emulator.emulator import Emulator
from tests.support.callers import Caller, Grant, resources
from tests.support.emulator_clients import Aws
from tests.support.key_users import GUIDE, MANAGE, create_key, grant_to
from tests.support.key_users import document as key_policy

CLUSTERS: Final = "arn:aws:sagemaker:us-west-2:123456789012:cluster/*"
EKS_CLUSTER: Final = "arn:aws:eks:us-west-2:123456789012:cluster/eks"
VOLUMES: Final = "arn:aws:ec2:us-west-2:123456789012:volume/*"

DESCRIBE_LINES: Final = ("ec2:DescribeVolume", "ec2:DescribeVolumes")
"""The line of the guide's documents that grants nothing, as the guide's two forms print it."""


def document(verb: str, describe: str) -> list[Grant]:
    """AWS's policy for those who attach or detach volumes by hand."""
    return [
        Grant(actions=[f"sagemaker:{verb}ClusterNodeVolume"], resource=CLUSTERS),
        Grant(actions=["eks:DescribeCluster"], resource=EKS_CLUSTER),
        Grant(actions=[f"ec2:{verb}Volume", describe], resource=VOLUMES),
    ]


async def prepare(verb: str, aws: Aws) -> Mapping[str, str]:
    """Create a cluster, and a volume that is ready for the operation; the operation's parameters."""
    volume = await aws.create_volume(
        TagSpecifications=[{"ResourceType": "volume", "Tags": [{"Key": "a", "Value": "b"}]}]
    )
    cluster, (node,) = await aws.create_cluster()
    if verb == "Detach":
        await aws.attach_to_node(cluster, node, volume)
    return {"ClusterArn": cluster, "NodeId": node, "VolumeId": volume}


@pytest.mark.parametrize("describe", DESCRIBE_LINES)
@pytest.mark.parametrize(("verb", "status"), [("Attach", "attached"), ("Detach", "detached")])
async def test_the_documents_of_the_guide_suffice_and_each_of_their_lines_is_needed(
    verb: str, status: str, describe: str, emulator: Emulator, aws: Aws
) -> None:
    """SageMaker Developer Guide, "Using the Amazon EBS CSI driver on SageMaker HyperPod EKS clusters"."""
    members, caller = await prepare(verb, aws), await Caller.create(emulator)
    operation, grants = f"{verb.lower()}_cluster_node_volume", document(verb, describe)
    before = resources(emulator)
    without = [grants[:number] + grants[number + 1 :] for number in range(len(grants))]
    elsewhere = [
        [
            replace(each, resource=f"{each.resource.rpartition('/')[0]}/another") if each is wrong else each
            for each in grants
        ]
        for wrong in grants
    ]
    no_action = [*grants[:2], replace(grants[2], actions=[describe])]

    refusals = []
    for policy in (*without, *elsewhere, no_action):
        caller.allow([grant.statement for grant in policy])
        code, text = await caller.aws.expect_error("sagemaker", operation, **members)
        refusals.append((code, text.partition(" Encoded authorization failure message")[0]))  # no two are the same
    unchanged = resources(emulator) == before
    caller.allow([grant.statement for grant in (*grants[:2], replace(grants[2], actions=[f"ec2:{verb}Volume"]))])
    answer = await caller.aws("sagemaker", operation, **members)

    cluster, eks, volume = refusals[:3]
    assert (cluster[0], eks[0], volume[0]) == ("AccessDeniedException", "AccessDeniedException", "ValidationException")
    assert f"perform: sagemaker:{verb}ClusterNodeVolume on resource: {members['ClusterArn']} because" in cluster[1]
    assert f"perform: eks:DescribeCluster on resource: {EKS_CLUSTER} because" in eks[1]
    assert "Ec2ErrCode: UnauthorizedOperation" in volume[1]
    assert f"perform: ec2:{verb}Volume on resource: {VOLUMES[:-1]}{members['VolumeId']} because" in volume[1]
    assert refusals[3:6] == refusals[:3]
    assert refusals[6] == volume
    assert unchanged
    assert answer["Status"] == status


@pytest.mark.parametrize("describe", DESCRIBE_LINES)
async def test_the_documents_can_be_copied_word_for_word(describe: str, emulator: Emulator, aws: Aws) -> None:
    """SageMaker Developer Guide, as above: its line about describing grants nothing, and no line is about nodes."""
    members, caller = await prepare("Attach", aws), await Caller.create(emulator)

    caller.allow([grant.statement for grant in document("Attach", describe)])
    attached = await caller.aws("sagemaker", "attach_cluster_node_volume", **members)
    described = await caller.aws.expect_error("ec2", "describe_volumes", VolumeIds=[members["VolumeId"]])
    caller.allow([grant.statement for grant in document("Detach", describe)])
    detached = await caller.aws("sagemaker", "detach_cluster_node_volume", **members)

    assert (attached["Status"], detached["Status"]) == ("attached", "detached")
    assert described[0] == "UnauthorizedOperation"


async def test_the_documents_and_the_key_policy_of_the_guide_suffice_together(emulator: Emulator, aws: Aws) -> None:
    """The same page: the volume is under a customer managed key, and detaching it needs no permission in KMS."""
    caller = await Caller.create(emulator)
    lines = [grant_to("caller", ["DescribeKey"]), grant_to("caller", ["CreateGrant"], Condition=GUIDE)]
    key = await create_key(aws, *lines)
    cluster, (node,) = await aws.create_cluster()
    volume = await aws.create_volume(Encrypted=True, KmsKeyId=key)
    members = {"ClusterArn": cluster, "NodeId": node, "VolumeId": volume}

    caller.allow([grant.statement for grant in document("Attach", DESCRIBE_LINES[0])])
    attached = await caller.aws("sagemaker", "attach_cluster_node_volume", **members)
    await aws("kms", "put_key_policy", KeyId=key, Policy=key_policy(MANAGE))
    caller.allow([grant.statement for grant in document("Detach", DESCRIBE_LINES[0])])
    detached = await caller.aws("sagemaker", "detach_cluster_node_volume", **members)

    assert (attached["Status"], detached["Status"]) == ("attached", "detached")


async def test_ec2s_call_on_behalf_of_the_caller_has_the_keys_of_forwarded_calls(emulator: Emulator, aws: Aws) -> None:
    """IAM User Guide, "AWS global condition context keys": aws:CalledVia and aws:ViaAWSService."""
    members, caller = await prepare("Attach", aws), await Caller.create(emulator)
    cluster, eks, volume = document("Attach", DESCRIBE_LINES[1])
    forwarded = {"aws:ViaAWSService": "true", "aws:CalledViaFirst": "sagemaker.amazonaws.com", "ec2:ResourceTag/a": "b"}
    direct = {"aws:ViaAWSService": "false"}

    caller.allow([cluster.statement, eks.statement, replace(volume, conditions=direct).statement])
    denied = await caller.aws.expect_error("sagemaker", "attach_cluster_node_volume", **members)
    caller.allow(
        [
            replace(cluster, conditions=direct).statement,
            eks.statement,
            replace(volume, conditions=forwarded).statement,
        ]
    )
    attached = await caller.aws("sagemaker", "attach_cluster_node_volume", **members)

    assert "UnauthorizedOperation" in denied[1]
    assert attached["Status"] == "attached"
