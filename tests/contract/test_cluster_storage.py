"""The volumes that HyperPod clusters create by their own storage configuration, and their KMS keys.

Sources: SageMaker Developer Guide, "Customer managed AWS KMS key encryption for SageMaker
HyperPod" and "Using the Amazon EBS CSI driver on SageMaker HyperPod EKS clusters", whose note
calls them Cluster Auto Volume Attachment (CAVA) volumes.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import pytest
from botocore.exceptions import ClientError

from hyperpod_ebs.emulator.emulator import Emulator
from tests.support.callers import resources
from tests.support.emulator_clients import GROUP, ROLE, Aws, error_of
from tests.support.key_users import (
    EVERYTHING_BUT_KMS,
    MANAGE,
    MANAGED,
    Statement,
    allow,
    create_caller,
    create_key,
    document,
)
from tests.support.waiting import wait_until_equal

VIA_SAGEMAKER: Final[Mapping[str, Mapping[str, Any]]] = {
    "StringEquals": {"kms:ViaService": "sagemaker.us-west-2.amazonaws.com"}
}
FOR_RESOURCE: Final[Mapping[str, Mapping[str, Any]]] = {**VIA_SAGEMAKER, "Bool": {"kms:GrantIsForAWSResource": "true"}}


def role_statements(*, grant: Mapping[str, Any] = FOR_RESOURCE) -> list[Statement]:
    """The two statements for the execution role in the key policy of AWS's page."""
    principal = {"AWS": ROLE}
    return [
        allow("kms:CreateGrant", Principal=principal, Condition=grant),
        allow("kms:DescribeKey", Principal=principal, Condition=VIA_SAGEMAKER),
    ]


async def create_role(aws: Aws) -> None:
    """Create the execution role of the instance group, without permissions in KMS."""
    trust = document(
        {"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:AssumeRole"}
    )
    await aws("iam", "create_role", RoleName=ROLE.rpartition("/")[2], AssumeRolePolicyDocument=trust)


def storage(*configs: Mapping[str, Any], **members: Any) -> dict[str, Any]:
    """The instance group with these volumes."""
    return {**GROUP, "InstanceStorageConfigs": [{"EbsVolumeConfig": config} for config in configs], **members}


async def create_cluster(aws: Aws, *statements: Statement, **members: Any) -> tuple[str, str, str]:
    """Create a cluster whose nodes have a volume under a key with this policy; ARN, a node's id, the key's ARN."""
    await create_role(aws)
    key = await create_key(aws, *statements)
    group = storage({"VolumeSizeInGB": 7, "VolumeKmsKeyId": key}, **members)
    cluster, nodes = await aws.create_cluster(InstanceGroups=[group], NodeProvisioningMode="Continuous")
    return cluster, nodes[0], key


async def volumes(aws: Aws) -> list[Any]:
    """All volumes of the account."""
    listed: list[Any] = (await aws.ec2("describe_volumes"))["Volumes"]
    return listed


async def test_each_node_has_a_volume_under_the_key_that_ends_with_it(emulator: Emulator, aws: Aws) -> None:
    """SageMaker API reference, ClusterEbsVolumeConfig: an additional volume for each instance."""
    cluster, node, key = await create_cluster(aws, *role_statements(), InstanceCount=2)
    before = await volumes(aws)
    (of_node,) = [each for each in before if each["Attachments"][0]["AssociatedResource"].endswith(node)]
    devices = {path.name for path in emulator.device_directory(node).iterdir()}
    grants = (await aws("kms", "list_grants", KeyId=key))["Grants"]

    await aws("sagemaker", "batch_replace_cluster_nodes", ClusterName=cluster, NodeIds=[node])
    replaced = await volumes(aws)
    await aws("sagemaker", "delete_cluster", ClusterName=cluster)
    await wait_until_equal(lambda: volumes(aws), [])

    assert [(each["Size"], each["Encrypted"], each["KmsKeyId"], each["State"]) for each in before] == [
        (7, True, key, "in-use")
    ] * 2
    assert of_node["Attachments"][0]["DeleteOnTermination"] is True
    assert "xvdb" in devices
    assert ["Constraints" in grant for grant in grants] == [False, False]
    assert of_node["VolumeId"] not in [each["VolumeId"] for each in replaced]
    assert (await aws("kms", "list_grants", KeyId=key))["Grants"] == []


async def test_a_volume_of_the_cluster_is_detached_without_any_permission_in_kms(emulator: Emulator, aws: Aws) -> None:
    """The note of AWS's page; attaching a volume under the same key needs the page's permissions."""
    caller = await create_caller(emulator, "one", EVERYTHING_BUT_KMS, services=("ec2", "sagemaker"))
    cluster, node, key = await create_cluster(aws, *role_statements())
    (own,) = [each["VolumeId"] for each in await volumes(aws)]
    ordinary = await aws.create_volume(Encrypted=True, KmsKeyId=key)
    await aws("kms", "disable_key", KeyId=key)

    refused = [await attach(caller, cluster, node, ordinary)]
    detached = await caller.detach_from_node(cluster, node, own)
    await aws("kms", "enable_key", KeyId=key)
    refused += [await attach(caller, cluster, node, each) for each in (ordinary, own)]

    assert detached == "detached"
    assert await aws.volume_state(own) == "available"
    assert refused == ["CustomerKeyHasBeenRevoked"] * 3
    assert emulator.world.store.volumes[own].cluster == cluster.rpartition("/")[2]
    assert emulator.world.store.volumes[ordinary].cluster == ""


async def attach(aws: Aws, cluster: str, node: str, volume: str) -> str:
    """Attach the volume, which must fail; EC2's code."""
    with pytest.raises(ClientError) as raised:
        await aws.attach_to_node(cluster, node, volume)
    return error_of(raised.value)[1].partition("Ec2ErrCode: ")[2].partition(" ")[0]


@pytest.mark.parametrize(
    "statements",
    [
        role_statements()[:1],
        role_statements()[1:],
        role_statements(grant={"StringEquals": {"kms:ViaService": "ec2.us-west-2.amazonaws.com"}}),
        role_statements(grant={**FOR_RESOURCE, "Bool": {"kms:GrantIsForAWSResource": "false"}}),
        role_statements(
            grant={**FOR_RESOURCE, "ForAnyValue:StringEquals": {"kms:EncryptionContextKeys": "aws:ebs:id"}}
        ),
    ],
    ids=["no DescribeKey", "no CreateGrant", "service", "no AWS resource", "encryption context"],
)
async def test_the_execution_role_needs_each_part_of_the_key_policy(
    statements: Sequence[Statement], emulator: Emulator, aws: Aws
) -> None:
    """AWS's page, "Permissions": the caller's own permissions in KMS do not count, and no context is given."""
    await create_role(aws)
    eks = await aws.create_eks_cluster()
    key = await create_key(aws, *statements)
    before = resources(emulator)

    code, text = await aws.expect_error(
        "sagemaker",
        "create_cluster",
        ClusterName="hp",
        InstanceGroups=[storage({"RootVolume": True, "VolumeKmsKeyId": key})],
        NodeProvisioningMode="Continuous",
        Orchestrator={"Eks": {"ClusterArn": eks}},
    )

    assert code == "ValidationException"
    assert f"{ROLE} lacks kms:CreateGrant or kms:DescribeKey" in text
    assert resources(emulator) == before


async def test_new_nodes_need_the_key_and_present_nodes_do_not(aws: Aws) -> None:
    """AWS's page: UpdateCluster and BatchAddClusterNodes use the key, too; disabling the key restricts them."""
    cluster, node, key = await create_cluster(aws, *role_statements())
    await aws("kms", "disable_key", KeyId=key)
    larger = storage({"VolumeSizeInGB": 7, "VolumeKmsKeyId": key}, InstanceCount=2)
    add = [{"InstanceGroupName": GROUP["InstanceGroupName"], "IncrementTargetCountBy": 1}]

    refused = [
        (await aws.expect_error("sagemaker", operation, ClusterName=cluster, **members))[0]
        for operation, members in (
            ("update_cluster", {"InstanceGroups": [larger]}),
            ("batch_add_cluster_nodes", {"NodesToAdd": add}),
            ("batch_replace_cluster_nodes", {"NodeIds": [node]}),
        )
    ]
    nodes = (await aws("sagemaker", "list_cluster_nodes", ClusterName=cluster))["ClusterNodeSummaries"]
    await aws("kms", "put_key_policy", KeyId=key, Policy=document(MANAGE, *role_statements()))
    await aws("kms", "enable_key", KeyId=key)
    await aws("sagemaker", "update_cluster", ClusterName=cluster, InstanceGroups=[{**GROUP, "InstanceCount": 2}])

    assert refused == ["ValidationException"] * 3
    assert [(each["InstanceId"], each["InstanceStatus"]["Status"]) for each in nodes] == [(node, "Running")]
    assert len(await volumes(aws)) == 2


async def test_the_key_of_a_group_cannot_be_changed(aws: Aws) -> None:
    """AWS's page: KMS key transition is not supported."""
    cluster, _, _ = await create_cluster(aws, *role_statements())
    other = storage({"VolumeSizeInGB": 7, "VolumeKmsKeyId": await create_key(aws, *role_statements())})

    refused = await aws.expect_error("sagemaker", "update_cluster", ClusterName=cluster, InstanceGroups=[other])

    assert refused[0] == "ValidationException"


KEY: Final = "1234abcd-12ab-34cd-56ef-1234567890ab"


@pytest.mark.parametrize(
    ("configs", "members"),
    [
        ([{"RootVolume": True}], {}),
        ([{"RootVolume": True, "VolumeKmsKeyId": KEY, "VolumeSizeInGB": 9}], {}),
        ([{"RootVolume": True, "VolumeKmsKeyId": KEY}] * 2, {}),
        ([{"VolumeKmsKeyId": KEY}], {}),
        ([{"VolumeSizeInGB": 9}] * 2, {}),
        ([{"VolumeSizeInGB": 9, "VolumeKmsKeyId": KEY}], {}),
        ([{"VolumeSizeInGB": 9, "VolumeKmsKeyId": KEY}], {"NodeProvisioningMode": None}),
    ],
    ids=[
        "root without key",
        "root with size",
        "two roots",
        "no size",
        "two secondary",
        "unknown key",
        "not continuous",
    ],
)
async def test_an_invalid_storage_configuration_is_refused(
    configs: Sequence[Mapping[str, Any]], members: Mapping[str, Any], emulator: Emulator, aws: Aws
) -> None:
    """AWS's page, "How to use your KMS key"."""
    before = resources(emulator)
    request = {"ClusterName": "hp", "NodeProvisioningMode": "Continuous", "InstanceGroups": [storage(*configs)]}
    request = {name: value for name, value in (request | dict(members)).items() if value is not None}

    assert (await aws.expect_error("sagemaker", "create_cluster", **request))[0] == "ValidationException"
    assert resources(emulator) == before


async def test_a_restricted_group_has_no_keys(aws: Aws) -> None:
    """AWS's page: Restricted Instance Groups do not support customer managed keys."""
    restricted = {
        "InstanceGroupName": "restricted",
        "InstanceType": "ml.m5.large",
        "InstanceCount": 1,
        "ExecutionRole": ROLE,
        "EnvironmentConfig": {},
        "InstanceStorageConfigs": storage({"VolumeSizeInGB": 9, "VolumeKmsKeyId": KEY})["InstanceStorageConfigs"],
    }
    request = {"ClusterName": "hp", "NodeProvisioningMode": "Continuous", "RestrictedInstanceGroups": [restricted]}

    assert (await aws.expect_error("sagemaker", "create_cluster", **request))[0] == "ValidationException"


async def test_the_secondary_volume_takes_no_slot_of_the_customers(aws: Aws) -> None:
    """HyperPod's own volumes have slots of their own; without a key of the customer's, AWS's is used."""
    group = storage({"VolumeSizeInGB": 7}, InstanceType="ml.g5.48xlarge")
    cluster, (node,) = await aws.create_cluster(InstanceGroups=[group])
    (own,) = await volumes(aws)

    for _number in range(7):
        await aws.attach_to_node(cluster, node, await aws.create_volume())

    assert await attach(aws, cluster, node, await aws.create_volume()) == "AttachmentLimitExceeded"
    assert own["KmsKeyId"] == MANAGED
