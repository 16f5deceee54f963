"""The operations of SageMaker that change or list an existing cluster, once with success and once with an error."""

from collections.abc import Mapping
from typing import Any, Final

from tests.support.emulator_clients import GROUP
from tests.support.every_ec2_operation import Client

UNKNOWN_CLUSTER: Final = "arn:aws:sagemaker:us-west-2:123456789012:cluster/aaaaaaaaaaaa"

UNKNOWN_EVENT: Final = "00000000-0000-4000-8000-000000000000"

FURTHER_SAGEMAKER_OPERATIONS: Final = frozenset(
    {
        *("AddTags", "BatchAddClusterNodes", "DeleteTags", "DescribeClusterEvent", "ListClusterEvents", "ListTags"),
        "UpdateCluster",
    }
)

FURTHER_SAGEMAKER_ERRORS: Final[Mapping[str, tuple[Mapping[str, Any], str]]] = {
    "AddTags": ({"ResourceArn": UNKNOWN_CLUSTER, "Tags": [{"Key": "a", "Value": "b"}]}, "ValidationException"),
    "BatchAddClusterNodes": (
        {"ClusterName": "hp", "NodesToAdd": [{"InstanceGroupName": "workers", "IncrementTargetCountBy": 1}]},
        "ValidationException",
    ),
    "DeleteTags": ({"ResourceArn": UNKNOWN_CLUSTER, "TagKeys": ["a"]}, "ValidationException"),
    "DescribeClusterEvent": ({"ClusterName": "nowhere", "EventId": UNKNOWN_EVENT}, "ResourceNotFound"),
    "ListClusterEvents": ({"ClusterName": "nowhere"}, "ResourceNotFound"),
    "ListTags": ({"ResourceArn": UNKNOWN_CLUSTER}, "ValidationException"),
    "UpdateCluster": ({"ClusterName": "hp", "InstanceGroupsToDelete": ["nothing"]}, "ValidationException"),
}
"""For each operation, members of a call that must fail, and the error's code."""


async def call_further_sagemaker_operations(aws: Client, cluster: str) -> None:
    """Call each of the operations for the cluster with this ARN, and check the answers."""
    added = await aws("sagemaker", "AddTags", ResourceArn=cluster, Tags=[{"Key": "a", "Value": "b"}])
    listed = await aws("sagemaker", "ListTags", ResourceArn=cluster)
    await aws("sagemaker", "DeleteTags", ResourceArn=cluster, TagKeys=["a"])
    assert added["Tags"] == listed["Tags"] == [{"Key": "a", "Value": "b"}]

    await aws("sagemaker", "UpdateCluster", ClusterName=cluster, NodeProvisioningMode="Continuous")
    added = await aws(
        "sagemaker",
        "BatchAddClusterNodes",
        ClusterName=cluster,
        NodesToAdd=[{"InstanceGroupName": GROUP["InstanceGroupName"], "IncrementTargetCountBy": 1}],
    )
    node = added["Successful"][0]["NodeLogicalId"]
    await aws("sagemaker", "UpdateCluster", ClusterName=cluster, InstanceGroups=[GROUP])
    events = await aws("sagemaker", "ListClusterEvents", ClusterName=cluster, NodeId=node)
    assert [event["ResourceType"] for event in events["Events"]] == ["Instance", "Instance"]
    first = events["Events"][0]["EventId"]
    described = await aws("sagemaker", "DescribeClusterEvent", ClusterName=cluster, EventId=first)
    assert described["EventDetails"]["Description"] == events["Events"][0]["Description"]
