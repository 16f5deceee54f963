"""The operations of EC2 about instances, attributes and statuses, each once with success and once with an error."""

from collections.abc import Mapping
from typing import Any, Final, Protocol


class Client(Protocol):
    """An AWS client: an SDK or the AWS CLI."""

    async def __call__(self, service: str, operation: str, **members: Any) -> Any:
        """Call the operation and return its answer."""
        ...


UNKNOWN_INSTANCE: Final = "i-0123456789abcdef0"

FURTHER_EC2_OPERATIONS: Final = frozenset({"StartInstances", "StopInstances"})

FURTHER_EC2_ERRORS: Final[Mapping[str, tuple[Mapping[str, Any], str]]] = {
    "StartInstances": ({"InstanceIds": [UNKNOWN_INSTANCE]}, "InvalidInstanceID.NotFound"),
    "StopInstances": ({"InstanceIds": [UNKNOWN_INSTANCE]}, "InvalidInstanceID.NotFound"),
}
"""For each operation, members of a call that must fail, and the error's code."""


async def call_further_ec2_operations(aws: Client) -> None:
    """Call each of the operations, and check the answers."""
    run = await aws("ec2", "RunInstances", ImageId="ami-1", MinCount=1, MaxCount=1)
    by_id = {"InstanceIds": [run["Instances"][0]["InstanceId"]]}
    await aws("ec2", "DescribeInstances", **by_id)
    stopped = await aws("ec2", "StopInstances", **by_id)
    await aws("ec2", "DescribeInstances", **by_id)
    started = await aws("ec2", "StartInstances", **by_id)
    await aws("ec2", "TerminateInstances", **by_id)
    assert stopped["StoppingInstances"][0]["PreviousState"]["Name"] == "running"
    assert started["StartingInstances"][0]["PreviousState"]["Name"] == "stopped"
