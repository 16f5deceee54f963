"""HyperPod nodes deleted, replaced and rebooted, as boto3 sees it."""

from typing import Any

from tests.support.emulator_clients import GROUP, Aws, cloud, until

NOBODY = "i-0123456789abcdef0"


async def batch(aws: Aws, verb: str, *nodes: str, cluster: str = "hp") -> Any:
    """What one of the three calls answers, but for what the SDK adds."""
    answer = await aws("sagemaker", f"batch_{verb}_cluster_nodes", ClusterName=cluster, NodeIds=list(nodes))
    return {name: value for name, value in answer.items() if name != "ResponseMetadata"}


async def nodes_of(aws: Aws) -> dict[str, Any]:
    """The cluster's nodes by id."""
    listed = await aws("sagemaker", "list_cluster_nodes", ClusterName="hp")
    return {node["InstanceId"]: node for node in listed["ClusterNodeSummaries"]}


async def group_of(aws: Aws) -> tuple[int, int]:
    """How many nodes the group wants and has."""
    (group,) = (await aws("sagemaker", "describe_cluster", ClusterName="hp"))["InstanceGroups"]
    return group["TargetCount"], group["CurrentCount"]


async def on_a_node(aws: Aws, count: int = 2) -> tuple[str, list[str], dict[str, str]]:
    """A volume on the first of some nodes: the volume, the nodes, and the call's members."""
    volume = await aws.volume()
    arn, nodes = await aws.cluster(InstanceGroups=[GROUP | {"InstanceCount": count}])
    members = {"ClusterArn": arn, "NodeId": nodes[0], "VolumeId": volume}
    await aws("sagemaker", "attach_cluster_node_volume", **members)
    return volume, nodes, members


async def test_a_deleted_node_goes_and_its_group_wants_one_fewer(aws: Aws) -> None:
    """SageMaker: the group is scaled down by the nodes named; volumes attached since are free again."""
    volume, (gone, stays), members = await on_a_node(aws)

    answer = await batch(aws, "delete", gone)

    assert answer == {"Successful": [gone]}
    assert list(await nodes_of(aws)) == [stays]
    assert await group_of(aws) == (1, 1)
    assert await aws.state(volume) == "available"
    unknown = await aws.refused("sagemaker", "detach_cluster_node_volume", **members)
    assert unknown[0] == "ResourceNotFound"
    await aws("sagemaker", "attach_cluster_node_volume", **members | {"NodeId": stays})
    assert await aws.state(volume) == "in-use attached"


async def test_a_replaced_node_is_a_new_one_of_the_same_group_and_type(aws: Aws) -> None:
    """SageMaker: fresh hardware in the same configuration."""
    volume, (gone, stays), members = await on_a_node(aws)
    before = await nodes_of(aws)

    answer = await batch(aws, "replace", gone)

    assert answer == {"Successful": [gone]}
    after = await nodes_of(aws)
    (fresh,) = set(after) - set(before)
    assert set(after) == {stays, fresh}
    for member in ("InstanceGroupName", "InstanceType"):
        assert after[fresh][member] == before[gone][member]
    assert after[fresh]["InstanceStatus"]["Status"] == "Running"
    assert await group_of(aws) == (2, 2)
    assert await aws.state(volume) == "available"
    await aws("sagemaker", "attach_cluster_node_volume", **members | {"NodeId": fresh})
    assert await aws.state(volume) == "in-use attached"


async def test_a_rebooted_node_keeps_its_id_and_its_volumes(aws: Aws) -> None:
    """SageMaker: a graceful reboot."""
    volume, nodes, _ = await on_a_node(aws)

    answer = await batch(aws, "reboot", nodes[0])

    assert answer == {"Successful": [nodes[0]]}
    assert list(await nodes_of(aws)) == nodes
    assert await aws.state(volume) == "in-use attached"


async def test_a_batch_does_what_it_can_and_says_what_it_cannot(aws: Aws) -> None:
    """SageMaker: each node's own error beside those that are begun with; the codes are each operation's own."""
    _, nodes = await aws.cluster(InstanceGroups=[GROUP | {"InstanceCount": 3}])

    rebooted = await batch(aws, "reboot", nodes[0], NOBODY, nodes[0])
    replaced = await batch(aws, "replace", NOBODY, nodes[1])
    deleted = await batch(aws, "delete", nodes[2], NOBODY)

    words = f"Node {NOBODY} is not in cluster hp."
    assert rebooted["Successful"] == [nodes[0]]
    assert replaced["Successful"] == [nodes[1]]
    assert deleted["Successful"] == [nodes[2]]
    missing = {"NodeId": NOBODY, "ErrorCode": "InstanceIdNotFound", "Message": words}
    assert rebooted["Failed"] == replaced["Failed"] == [missing]
    assert deleted["Failed"] == [{"NodeId": NOBODY, "Code": "NodeIdNotFound", "Message": words}]


async def test_too_many_nodes_or_none_are_refused(aws: Aws) -> None:
    """SageMaker: 99 are deleted at once, 25 replaced or rebooted, and one has to be named."""
    await aws.cluster()
    ids = [f"i-{number:017x}" for number in range(100)]

    for verb, most in (("delete", 99), ("replace", 25), ("reboot", 25)):
        method = f"batch_{verb}_cluster_nodes"
        many = await aws.refused("sagemaker", method, ClusterName="hp", NodeIds=ids[: most + 1])
        none = await aws.refused("sagemaker", method, ClusterName="hp")
        just = await aws("sagemaker", method, ClusterName="hp", NodeIds=ids[:most])

        assert (many[0], none[0]) == ("ValidationException", "ValidationException")
        assert len(just["Failed"]) == most


async def test_a_node_on_its_way_is_left_alone_and_the_cluster_is_updating_meanwhile() -> None:
    """SageMaker: InvalidNodeStatus while it comes, NodeIdInUse while it goes; volumes want a cluster in service."""
    async with cloud(profile="aws", seed=5) as (_, aws):
        volume, (gone, stays), members = await on_a_node(aws)
        await batch(aws, "replace", gone)

        (fresh,) = set(await nodes_of(aws)) - {gone, stays}
        again = await batch(aws, "delete", gone, fresh)
        status = (await aws("sagemaker", "describe_cluster", ClusterName="hp"))["ClusterStatus"]
        attach = await aws.refused("sagemaker", "attach_cluster_node_volume", **members | {"NodeId": stays})

        async def in_service() -> str:
            return str((await aws("sagemaker", "describe_cluster", ClusterName="hp"))["ClusterStatus"])

        await until(in_service, "InService")
        assert [(one["NodeId"], one["Code"]) for one in again["Failed"]] == [
            (gone, "NodeIdInUse"),
            (fresh, "InvalidNodeStatus"),
        ]
        assert status == "Updating"
        assert attach[0] == "ValidationException"
        assert "Updating" in attach[1]
        assert set(await nodes_of(aws)) == {fresh, stays}
        assert await aws.state(volume) == "available"


async def test_a_cluster_of_continuous_provisioning_stays_in_service() -> None:
    """SageMaker: only such a cluster scales while it serves."""
    async with cloud(profile="aws", seed=5) as (_, aws):
        arn, (gone, stays) = await aws.cluster(
            NodeProvisioningMode="Continuous", InstanceGroups=[GROUP | {"InstanceCount": 2}]
        )
        volume = await aws.volume()

        await batch(aws, "delete", gone)
        made = await aws("sagemaker", "attach_cluster_node_volume", ClusterArn=arn, NodeId=stays, VolumeId=volume)

        assert made["Status"] == "attaching"
