"""UpdateCluster, BatchAddClusterNodes, ListClusterEvents and DescribeClusterEvent."""

from typing import Any

import pytest

from hyperpod_ebs.emulator.emulator import Emulator
from tests.support.callers import Caller, Grant
from tests.support.emulator_clients import GROUP, ROLE, Aws, cloud
from tests.support.every_sagemaker_operation import UNKNOWN_EVENT
from tests.support.waiting import wait_until_equal


async def nodes(aws: Aws, cluster: str) -> list[tuple[str, str]]:
    """The groups and statuses of the cluster's nodes."""
    listed = await aws("sagemaker", "list_cluster_nodes", ClusterName=cluster)
    return sorted(
        (node["InstanceGroupName"], node["InstanceStatus"]["Status"]) for node in listed["ClusterNodeSummaries"]
    )


async def test_groups_grow_shrink_appear_and_disappear(aws: Aws) -> None:
    """SageMaker API reference, UpdateCluster: the oldest nodes stay."""
    arn, (first,) = await aws.create_cluster()
    other = {**GROUP, "InstanceGroupName": "other", "InstanceCount": 2, "ThreadsPerCore": 1}

    await aws("sagemaker", "update_cluster", ClusterName=arn, InstanceGroups=[{**GROUP, "InstanceCount": 3}, other])
    await wait_until_equal(lambda: nodes(aws, arn), [("other", "Running")] * 2 + [("workers", "Running")] * 3)
    grown = await aws("sagemaker", "describe_cluster", ClusterName=arn)
    await aws("sagemaker", "update_cluster", ClusterName=arn, InstanceGroups=[GROUP], InstanceGroupsToDelete=["other"])
    await wait_until_equal(lambda: nodes(aws, arn), [("workers", "Running")])
    (left,) = (await aws("sagemaker", "list_cluster_nodes", ClusterName=arn))["ClusterNodeSummaries"]
    shrunk = await aws("sagemaker", "describe_cluster", ClusterName=arn)

    counts = {group["InstanceGroupName"]: group["TargetCount"] for group in grown["InstanceGroups"]}
    assert counts == {"workers": 3, "other": 2}
    assert left["InstanceId"] == first
    assert [group["InstanceGroupName"] for group in shrunk["InstanceGroups"]] == ["workers"]


async def test_a_cluster_is_updating_until_its_nodes_have_changed() -> None:
    """SageMaker Developer Guide, "Scaling a SageMaker HyperPod cluster"; another update has to wait."""
    async with cloud(profile="aws") as (_, aws):
        arn, _nodes = await aws.create_cluster()

        await aws("sagemaker", "update_cluster", ClusterName=arn, InstanceGroups=[{**GROUP, "InstanceCount": 2}])
        status = (await aws("sagemaker", "describe_cluster", ClusterName=arn))["ClusterStatus"]
        second = await aws.expect_error("sagemaker", "update_cluster", ClusterName=arn, NodeRecovery="None")

    assert status == "Updating"
    assert second[0] == "ConflictException"


@pytest.mark.parametrize(
    "members",
    [
        {"InstanceGroups": [{**GROUP, "InstanceType": "ml.g5.xlarge"}]},
        {"InstanceGroupsToDelete": ["nothing"]},
    ],
)
async def test_an_update_that_cannot_be_carried_out_is_refused(members: dict[str, Any], aws: Aws) -> None:
    """SageMaker API reference, UpdateCluster."""
    arn, _ = await aws.create_cluster()

    refused = await aws.expect_error("sagemaker", "update_cluster", ClusterName=arn, **members)

    assert refused[0] == "ValidationException"
    assert await nodes(aws, arn) == [("workers", "Running")]


async def test_more_nodes_than_an_account_can_have_are_refused(aws: Aws) -> None:
    """SageMaker API reference, CreateCluster, "Errors". Each machine takes time, so a caller could stop the server."""
    many = {**GROUP, "InstanceCount": 6000}
    arn, _ = await aws.create_cluster()
    members: dict[str, dict[str, Any]] = {
        "create_cluster": {"ClusterName": "other", "InstanceGroups": [many]},
        "update_cluster": {"InstanceGroups": [many]},
    }

    refused = {
        operation: (await aws.expect_error("sagemaker", operation, **{"ClusterName": arn, **each}))[0]
        for operation, each in members.items()
    }

    assert refused == dict.fromkeys(members, "ResourceLimitExceeded")
    assert await nodes(aws, arn) == [("workers", "Running")]


async def test_nodes_are_added_to_clusters_with_continuous_provisioning(aws: Aws) -> None:
    """SageMaker API reference, BatchAddClusterNodes."""
    arn, _ = await aws.create_cluster(NodeProvisioningMode="Continuous")
    wanted = [
        {"InstanceGroupName": "workers", "IncrementTargetCountBy": 2},
        {"InstanceGroupName": "unknown", "IncrementTargetCountBy": 1},
        {"InstanceGroupName": "workers", "IncrementTargetCountBy": 1, "AvailabilityZones": ["us-west-2c"]},
        {"InstanceGroupName": "workers", "IncrementTargetCountBy": 1, "InstanceTypes": ["ml.g5.xlarge"]},
    ]

    added = await aws("sagemaker", "batch_add_cluster_nodes", ClusterName=arn, NodesToAdd=wanted, ClientToken="token-1")
    again = await aws("sagemaker", "batch_add_cluster_nodes", ClusterName=arn, NodesToAdd=wanted, ClientToken="token-1")
    await wait_until_equal(lambda: nodes(aws, arn), [("workers", "Running")] * 3)
    shown = await aws("sagemaker", "describe_cluster", ClusterName=arn)
    one = added["Successful"][0]["NodeLogicalId"]
    node = await aws("sagemaker", "describe_cluster_node", ClusterName=arn, NodeLogicalId=one)

    assert [each["Status"] for each in added["Successful"]] == ["Pending"] * 2
    assert again["Successful"] == added["Successful"]
    assert [each["ErrorCode"] for each in added["Failed"]] == [
        "InstanceGroupNotFound",
        "IncompatibleAvailabilityZones",
        "IncompatibleInstanceTypes",
    ]
    assert shown["InstanceGroups"][0]["TargetCount"] == 3
    assert node["NodeDetails"]["InstanceStatus"]["Status"] == "Running"


async def test_only_nodes_with_continuous_provisioning_have_logical_ids(aws: Aws) -> None:
    """SageMaker API reference, ClusterNodeSummary and ClusterNodeDetails: NodeLogicalId."""
    arn, (node,) = await aws.create_cluster(NodeProvisioningMode="Continuous")
    other, (other_node,) = await aws.create_cluster(ClusterName="other")

    async def logical_ids(cluster: str, **members: bool) -> list[str | None]:
        nodes = await aws("sagemaker", "list_cluster_nodes", ClusterName=cluster, **members)
        return [each.get("NodeLogicalId") for each in nodes["ClusterNodeSummaries"]]

    described = await aws("sagemaker", "describe_cluster_node", ClusterName=arn, NodeLogicalId=node)
    without = await aws("sagemaker", "describe_cluster_node", ClusterName=other, NodeId=other_node)

    assert await logical_ids(arn, IncludeNodeLogicalIds=True) == [node]
    assert await logical_ids(arn) == await logical_ids(other, IncludeNodeLogicalIds=True) == [None]
    assert described["NodeDetails"]["NodeLogicalId"] == node
    assert "NodeLogicalId" not in without["NodeDetails"]


async def test_nodes_are_not_added_to_other_clusters(aws: Aws) -> None:
    """SageMaker API reference, BatchAddClusterNodes: only with NodeProvisioningMode Continuous."""
    arn, _ = await aws.create_cluster()
    wanted = [{"InstanceGroupName": "workers", "IncrementTargetCountBy": 1}]

    refused = await aws.expect_error("sagemaker", "batch_add_cluster_nodes", ClusterName=arn, NodesToAdd=wanted)

    assert refused[0] == "ValidationException"


async def test_events_are_listed_by_node_type_and_time(aws: Aws) -> None:
    """SageMaker API reference, ListClusterEvents."""
    arn, (node,) = await aws.create_cluster(NodeProvisioningMode="Continuous")
    await aws("sagemaker", "batch_reboot_cluster_nodes", ClusterName=arn, NodeIds=[node])

    async def descriptions(**members: Any) -> list[str]:
        listed = await aws("sagemaker", "list_cluster_events", ClusterName="hp", **members)
        return [event["Description"] for event in listed["Events"]]

    everything = await descriptions(SortOrder="Ascending")
    of_node = await descriptions(NodeId=node, SortOrder="Ascending")

    assert everything == [
        "The cluster is being created.",
        "The node is being added.",
        "The cluster is in service.",
        "The node is rebooted.",
    ]
    assert await descriptions() == everything[::-1]
    assert of_node == ["The node is being added.", "The node is rebooted."]
    assert await descriptions(ResourceType="Cluster", SortOrder="Ascending") == [everything[0], everything[2]]
    assert await descriptions(MaxResults=1) == everything[-1:]
    assert await descriptions(EventTimeBefore=0) == []


async def test_an_event_is_described_with_the_logical_id_of_its_node(aws: Aws) -> None:
    """SageMaker API reference, DescribeClusterEvent; EventDetails is optional."""
    arn, (node,) = await aws.create_cluster(NodeProvisioningMode="Continuous")
    listed = (await aws("sagemaker", "list_cluster_events", ClusterName=arn))["Events"]

    described = {
        event["ResourceType"]: await aws(
            "sagemaker", "describe_cluster_event", ClusterName="hp", EventId=event["EventId"]
        )
        for event in listed
    }

    details = described["Instance"]["EventDetails"].pop("EventDetails")
    assert details == {"EventMetadata": {"Instance": {"NodeLogicalId": node}}}
    assert all(answer["EventDetails"] in listed for answer in described.values())


@pytest.mark.parametrize("operation", ["list_cluster_events", "describe_cluster_event"])
async def test_events_need_continuous_provisioning(operation: str, aws: Aws) -> None:
    """SageMaker API reference, ListClusterEvents and DescribeClusterEvent."""
    arn, _ = await aws.create_cluster()
    event = {"EventId": UNKNOWN_EVENT} if operation.startswith("describe") else {}

    refused = await aws.expect_error("sagemaker", operation, ClusterName=arn, **event)

    assert refused[0] == "ValidationException"


async def test_an_event_is_found_only_in_its_own_cluster(aws: Aws) -> None:
    """SageMaker API reference, DescribeClusterEvent: ResourceNotFound."""
    arn, _ = await aws.create_cluster(NodeProvisioningMode="Continuous")
    other, _ = await aws.create_cluster(ClusterName="other", NodeProvisioningMode="Continuous")
    event = (await aws("sagemaker", "list_cluster_events", ClusterName=other))["Events"][0]["EventId"]

    for id_ in (event, UNKNOWN_EVENT):
        refused = await aws.expect_error("sagemaker", "describe_cluster_event", ClusterName=arn, EventId=id_)
        assert refused[0] == "ResourceNotFound"


async def test_a_policy_decides_about_instance_types_and_subnets(emulator: Emulator, aws: Aws) -> None:
    """Service Authorization Reference, SageMaker: sagemaker:InstanceTypes and sagemaker:VpcSubnets."""
    caller = await Caller.create(emulator)
    only = {"ForAllValues:StringEquals": {"sagemaker:InstanceTypes": ["ml.m5.large"]}}
    subnet = {"ForAnyValue:StringEquals": {"sagemaker:VpcSubnets": ["subnet-0000000000000000a"]}}
    vpc = {"SecurityGroupIds": ["sg-1"], "Subnets": ["subnet-0000000000000000a"]}
    create = {**Grant(actions=["sagemaker:CreateCluster"]).statement, "Condition": {**only, **subnet}}
    caller.allow([create, Grant(actions=["iam:PassRole"]).statement])

    refusals = [
        await caller.aws.expect_error("sagemaker", "create_cluster", **{"ClusterName": "hp", **members})
        for members in (
            {"InstanceGroups": [GROUP]},
            {"InstanceGroups": [{**GROUP, "InstanceType": "ml.g5.xlarge"}], "VpcConfig": vpc},
        )
    ]
    await caller.aws("sagemaker", "create_cluster", ClusterName="hp", InstanceGroups=[GROUP], VpcConfig=vpc)

    assert [code for code, _ in refusals] == ["AccessDeniedException"] * 2
    assert len((await aws("sagemaker", "list_clusters"))["ClusterSummaries"]) == 1


async def test_a_caller_must_be_allowed_to_pass_the_roles_of_a_cluster(emulator: Emulator, aws: Aws) -> None:
    """Service Authorization Reference, SageMaker: CreateCluster and UpdateCluster depend on iam:PassRole."""
    caller = await Caller.create(emulator)
    both = Grant(actions=["sagemaker:CreateCluster", "sagemaker:UpdateCluster"])
    request = {"ClusterName": "hp", "InstanceGroups": [GROUP]}
    service = {"iam:PassedToService": "sagemaker.amazonaws.com"}

    caller.allow([both.statement])
    denied = await caller.aws.expect_error("sagemaker", "create_cluster", **request)
    assert (await aws("sagemaker", "list_clusters"))["ClusterSummaries"] == []
    caller.allow([both.statement, Grant(actions=["iam:PassRole"], resource=ROLE, conditions=service).statement])
    await caller.aws("sagemaker", "create_cluster", **request)
    other = {**request, "ClusterRole": f"{ROLE}-admin"}
    update = await caller.aws.expect_error("sagemaker", "update_cluster", **other)

    for (code, text), role in ((denied, ROLE), (update, f"{ROLE}-admin")):
        assert code == "AccessDeniedException"
        assert f"iam:PassRole on resource: {role} because" in text


async def test_a_name_that_is_the_id_of_another_cluster_is_no_way_around_a_policy(emulator: Emulator, aws: Aws) -> None:
    """CWE-863: the decision is about the cluster that the operation changes."""
    first = (await aws("sagemaker", "create_cluster", ClusterName="hp", InstanceGroups=[GROUP]))["ClusterArn"]
    named = first.rpartition("/")[2]
    await aws("sagemaker", "create_cluster", ClusterName=named, InstanceGroups=[GROUP])
    caller = await Caller.create(emulator)
    caller.allow([Grant(actions=["sagemaker:DeleteCluster"], resource=first).statement])

    code, _ = await caller.aws.expect_error("sagemaker", "delete_cluster", ClusterName=named)

    assert code == "AccessDeniedException"


async def test_tagging_a_new_cluster_is_a_permission_of_its_own(emulator: Emulator) -> None:
    """SageMaker Developer Guide, "Provide permissions for tagging SageMaker AI resources": sagemaker:AddTags."""
    caller = await Caller.create(emulator)
    create, tag = (
        Grant(actions=actions) for actions in (["sagemaker:CreateCluster", "iam:PassRole"], ["sagemaker:A*"])
    )
    request = {"ClusterName": "hp", "InstanceGroups": [GROUP], "Tags": [{"Key": "team", "Value": "a"}]}

    caller.allow([create.statement])
    code, text = await caller.aws.expect_error("sagemaker", "create_cluster", **request)
    caller.allow([create.statement, tag.statement])
    await caller.aws("sagemaker", "create_cluster", **request)

    assert code == "AccessDeniedException"
    assert "sagemaker:AddTags on resource: arn:aws:sagemaker:us-west-2:123456789012:cluster/hp because" in text
