"""Deletion, replacement and reboot of HyperPod nodes, called through the AWS SDK."""

from typing import Any

from tests.support.emulator_clients import GROUP, Aws, cloud
from tests.support.waiting import wait_until_equal

UNKNOWN_NODE = "i-0123456789abcdef0"


async def call_batch(aws: Aws, verb: str, *nodes: str, cluster: str = "hp") -> Any:
    """Call one of the three operations; the response without the SDK's own members."""
    answer = await aws("sagemaker", f"batch_{verb}_cluster_nodes", ClusterName=cluster, NodeIds=list(nodes))
    return {name: value for name, value in answer.items() if name != "ResponseMetadata"}


async def nodes_by_id(aws: Aws) -> dict[str, Any]:
    """The cluster's nodes by id."""
    listed = await aws("sagemaker", "list_cluster_nodes", ClusterName="hp")
    return {node["InstanceId"]: node for node in listed["ClusterNodeSummaries"]}


async def group_counts(aws: Aws) -> tuple[int, int]:
    """The target and the current count of the instance group."""
    (group,) = (await aws("sagemaker", "describe_cluster", ClusterName="hp"))["InstanceGroups"]
    return group["TargetCount"], group["CurrentCount"]


async def attach_to_new_node(aws: Aws, count: int = 2) -> tuple[str, list[str], dict[str, str]]:
    """Create a cluster, and attach a volume to its first node; the volume, the nodes and the request."""
    volume = await aws.create_volume()
    arn, nodes = await aws.create_cluster(InstanceGroups=[GROUP | {"InstanceCount": count}])
    members = {"ClusterArn": arn, "NodeId": nodes[0], "VolumeId": volume}
    await aws("sagemaker", "attach_cluster_node_volume", **members)
    return volume, nodes, members


async def test_a_deleted_node_disappears_and_its_group_shrinks(aws: Aws) -> None:
    """SageMaker API reference, BatchDeleteClusterNodes; volumes attached later are available again."""
    volume, (old, other), members = await attach_to_new_node(aws)

    answer = await call_batch(aws, "delete", old)

    assert answer == {"Successful": [old]}
    assert list(await nodes_by_id(aws)) == [other]
    assert await group_counts(aws) == (1, 1)
    assert await aws.volume_state(volume) == "available"
    unknown = await aws.expect_error("sagemaker", "detach_cluster_node_volume", **members)
    assert unknown[0] == "ResourceNotFound"
    await aws("sagemaker", "attach_cluster_node_volume", **members | {"NodeId": other})
    assert await aws.volume_state(volume) == "in-use attached"


async def test_a_replacement_node_has_a_new_id_and_the_same_group_and_type(aws: Aws) -> None:
    """SageMaker API reference, BatchReplaceClusterNodes."""
    volume, (old, other), members = await attach_to_new_node(aws)
    before = await nodes_by_id(aws)

    answer = await call_batch(aws, "replace", old)

    assert answer == {"Successful": [old]}
    after = await nodes_by_id(aws)
    (replacement,) = set(after) - set(before)
    assert set(after) == {other, replacement}
    for member in ("InstanceGroupName", "InstanceType"):
        assert after[replacement][member] == before[old][member]
    assert after[replacement]["InstanceStatus"]["Status"] == "Running"
    assert await group_counts(aws) == (2, 2)
    assert await aws.volume_state(volume) == "available"
    await aws("sagemaker", "attach_cluster_node_volume", **members | {"NodeId": replacement})
    assert await aws.volume_state(volume) == "in-use attached"


async def test_a_rebooted_node_keeps_its_id_and_its_volumes(aws: Aws) -> None:
    """SageMaker API reference, BatchRebootClusterNodes."""
    volume, nodes, _ = await attach_to_new_node(aws)

    answer = await call_batch(aws, "reboot", nodes[0])

    assert answer == {"Successful": [nodes[0]]}
    assert list(await nodes_by_id(aws)) == nodes
    assert await aws.volume_state(volume) == "in-use attached"


async def test_a_batch_changes_valid_nodes_and_returns_an_error_for_each_other(aws: Aws) -> None:
    """SageMaker API reference, BatchDeleteClusterNodesError and BatchRebootClusterNodesError."""
    _, nodes = await aws.create_cluster(InstanceGroups=[GROUP | {"InstanceCount": 3}])

    rebooted = await call_batch(aws, "reboot", nodes[0], UNKNOWN_NODE, nodes[0])
    replaced = await call_batch(aws, "replace", UNKNOWN_NODE, nodes[1])
    deleted = await call_batch(aws, "delete", nodes[2], UNKNOWN_NODE)

    message = f"Node {UNKNOWN_NODE} is not in cluster hp."
    assert rebooted["Successful"] == [nodes[0]]
    assert replaced["Successful"] == [nodes[1]]
    assert deleted["Successful"] == [nodes[2]]
    error = {"NodeId": UNKNOWN_NODE, "ErrorCode": "InstanceIdNotFound", "Message": message}
    assert rebooted["Failed"] == replaced["Failed"] == [error]
    assert deleted["Failed"] == [{"NodeId": UNKNOWN_NODE, "Code": "NodeIdNotFound", "Message": message}]


async def test_a_batch_of_too_many_nodes_or_of_none_is_refused(aws: Aws) -> None:
    """SageMaker API reference: a call deletes 1 to 99 nodes, or replaces or reboots 1 to 25."""
    await aws.create_cluster()
    ids = [f"i-{number:017x}" for number in range(100)]

    for verb, most in (("delete", 99), ("replace", 25), ("reboot", 25)):
        method = f"batch_{verb}_cluster_nodes"
        many = await aws.expect_error("sagemaker", method, ClusterName="hp", NodeIds=ids[: most + 1])
        none = await aws.expect_error("sagemaker", method, ClusterName="hp")
        allowed = await aws("sagemaker", method, ClusterName="hp", NodeIds=ids[:most])

        assert (many[0], none[0]) == ("ValidationException", "ValidationException")
        assert len(allowed["Failed"]) == most


async def test_a_starting_or_terminating_node_is_not_changed_and_its_cluster_is_updating() -> None:
    """SageMaker API reference: InvalidNodeStatus and NodeIdInUse; AttachClusterNodeVolume needs InService."""
    async with cloud(profile="aws", seed=5) as (_, aws):
        volume, (old, other), members = await attach_to_new_node(aws)
        await call_batch(aws, "replace", old)

        (replacement,) = set(await nodes_by_id(aws)) - {old, other}
        again = await call_batch(aws, "delete", old, replacement)
        status = (await aws("sagemaker", "describe_cluster", ClusterName="hp"))["ClusterStatus"]
        attach = await aws.expect_error("sagemaker", "attach_cluster_node_volume", **members | {"NodeId": other})

        async def cluster_status() -> str:
            return str((await aws("sagemaker", "describe_cluster", ClusterName="hp"))["ClusterStatus"])

        await wait_until_equal(cluster_status, "InService")
        assert [(error["NodeId"], error["Code"]) for error in again["Failed"]] == [
            (old, "NodeIdInUse"),
            (replacement, "InvalidNodeStatus"),
        ]
        assert status == "Updating"
        assert attach[0] == "ValidationException"
        assert "Updating" in attach[1]
        assert set(await nodes_by_id(aws)) == {replacement, other}
        assert await aws.volume_state(volume) == "available"


async def test_a_cluster_with_continuous_provisioning_stays_in_service() -> None:
    """SageMaker developer guide, "Continuous provisioning for enhanced cluster operations on Amazon EKS"."""
    async with cloud(profile="aws", seed=5) as (_, aws):
        arn, (old, other) = await aws.create_cluster(
            NodeProvisioningMode="Continuous", InstanceGroups=[GROUP | {"InstanceCount": 2}]
        )
        volume = await aws.create_volume()

        await call_batch(aws, "delete", old)
        attached = await aws("sagemaker", "attach_cluster_node_volume", ClusterArn=arn, NodeId=other, VolumeId=volume)

        assert attached["Status"] == "attaching"
