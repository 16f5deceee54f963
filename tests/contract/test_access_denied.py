"""Planned access denials: boto3 gets the error that each service answers for a missing permission."""

import json
import zlib

import pytest

from hyperpod_ebs.emulator.emulator import Emulator
from hyperpod_ebs.kit import base64url
from tests.support.emulator_clients import GROUP, ROLE, Aws

ME = "arn:aws:iam::123456789012:user/emulator"


async def test_ec2_names_the_denied_action_and_its_resource(emulator: Emulator, aws: Aws) -> None:
    """EC2 API reference, "Error codes": UnauthorizedOperation. Only STS decodes the end of the message."""
    emulator.faults.plan("CreateVolume", deny=True)
    emulator.faults.plan("DeleteVolume", deny=True)
    volume = "vol-0123456789abcdef0"

    created = await aws.expect_error("ec2", "create_volume", AvailabilityZone="us-west-2a", Size=1)
    deleted = await aws.expect_error("ec2", "delete_volume", VolumeId=volume)

    assert (created[0], deleted[0]) == ("UnauthorizedOperation", "UnauthorizedOperation")
    assert created[1].startswith(
        f"You are not authorized to perform this operation. User: {ME} is not authorized to perform: ec2:CreateVolume "
        "on resource: arn:aws:ec2:us-west-2:123456789012:volume/* because no identity-based policy allows the "
        "ec2:CreateVolume action. Encoded authorization failure message: "
    )
    assert f"on resource: arn:aws:ec2:us-west-2:123456789012:volume/{volume} because" in deleted[1]


async def test_a_denied_describe_call_names_no_resource(emulator: Emulator, aws: Aws) -> None:
    """Service Authorization Reference, EC2: Describe actions have no resource-level permissions."""
    emulator.faults.plan("DescribeVolumes", deny=True)

    code, text = await aws.expect_error("ec2", "describe_volumes")

    assert code == "UnauthorizedOperation"
    assert text.endswith(
        "perform: ec2:DescribeVolumes because no identity-based policy allows the ec2:DescribeVolumes action"
    )


async def test_sagemaker_names_the_denied_action_and_the_cluster(emulator: Emulator, aws: Aws) -> None:
    """IAM User Guide, "Troubleshoot access denied error messages"; the denied call changes nothing."""
    volume = await aws.create_volume()
    arn, (node,) = await aws.create_cluster()
    emulator.faults.plan("AttachClusterNodeVolume", deny=True)

    code, text = await aws.expect_error(
        "sagemaker", "attach_cluster_node_volume", ClusterArn=arn, NodeId=node, VolumeId=volume
    )

    assert code == "AccessDeniedException"
    assert text == (
        f"User: {ME} is not authorized to perform: sagemaker:AttachClusterNodeVolume on resource: {arn} "
        "because no identity-based policy allows the sagemaker:AttachClusterNodeVolume action"
    )
    assert await aws.volume_state(volume) == "available"


async def test_eks_names_the_cluster_and_sts_answers_its_own_code(emulator: Emulator, aws: Aws) -> None:
    """IAM User Guide, "Troubleshoot access denied error messages"; real STS never denies GetCallerIdentity."""
    emulator.faults.plan("eks:CreateCluster", deny=True)
    emulator.faults.plan("sagemaker:CreateCluster", deny=True)
    emulator.faults.plan("GetCallerIdentity", deny=True)

    eks = await aws.expect_error("eks", "create_cluster", name="one", roleArn=ROLE, resourcesVpcConfig={})
    hyperpod = await aws.expect_error("sagemaker", "create_cluster", ClusterName="two", InstanceGroups=[GROUP])
    sts = await aws.expect_error("sts", "get_caller_identity")

    assert eks[0] == "AccessDeniedException"
    assert "eks:CreateCluster on resource: arn:aws:eks:us-west-2:123456789012:cluster/one because" in eks[1]
    assert "cluster/two because" in hyperpod[1]
    assert sts[0] == "AccessDenied"


async def test_only_sts_reads_an_encoded_message(emulator: Emulator, aws: Aws) -> None:
    """STS API Reference, DecodeAuthorizationMessage: encoded, because the details can be privileged information."""
    emulator.faults.plan("DeleteVolume", deny=True)
    _, text = await aws.expect_error("ec2", "delete_volume", VolumeId="vol-0123456789abcdef0")
    message = text.rpartition(" ")[2]
    content = base64url.decode(message)
    changed = base64url.encode(content[:-1] + bytes([content[-1] ^ 1]))

    decoded = await aws("sts", "decode_authorization_message", EncodedMessage=message)
    refused = [
        await aws.expect_error("sts", "decode_authorization_message", EncodedMessage=other)
        for other in (changed, f"{message} request=1", f"'{message}'", f"{message}==")
    ]

    assert json.loads(decoded["DecodedMessage"])["context"]["action"] == "ec2:DeleteVolume"
    assert [code for code, _ in refused] == ["InvalidAuthorizationMessageException"] * 4
    with pytest.raises(zlib.error):
        zlib.decompress(content)
