"""An emulator in this process, with boto3 clients that call it."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import boto3  # type: ignore[import-untyped] # it has no types of its own
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from hyperpod_ebs.emulator.emulator import Emulator
from hyperpod_ebs.emulator.settings import EmulatorSettings
from tests.support.waiting import wait_until_equal

ZONE: Final = "us-west-2a"
ROLE: Final = "arn:aws:iam::123456789012:role/node"
GROUP: Final = {
    "InstanceGroupName": "workers",
    "InstanceType": "ml.m5.large",
    "InstanceCount": 1,
    "ExecutionRole": ROLE,
    "LifeCycleConfig": {"SourceS3Uri": "s3://sagemaker-nothing", "OnCreate": "on_create.sh"},
}


@dataclass(frozen=True, slots=True)
class Aws:
    """boto3 clients of all services; each call runs in a thread."""

    clients: Mapping[str, Any]  # boto3 creates their methods at run time

    async def __call__(self, service: str, method: str, **members: Any) -> Any:
        """Call the service and return its answer."""
        return await asyncio.to_thread(getattr(self.clients[service], method), **members)

    async def ec2(self, method: str, **members: Any) -> Any:
        """Call EC2 and return its answer."""
        return await self("ec2", method, **members)

    async def expect_error(self, service: str, method: str, **members: Any) -> tuple[str, str]:
        """Call the service, which must answer an error; return the error's code and message."""
        with pytest.raises(ClientError) as raised:
            await self(service, method, **members)
        return error_of(raised.value)

    async def create_volume(self, **members: Any) -> str:
        """Create a volume and wait until it is available; return its id."""
        created = await self.ec2(
            "create_volume", **{"AvailabilityZone": ZONE, "Size": 1, "VolumeType": "gp3"} | members
        )
        id_: str = created["VolumeId"]
        await wait_until_equal(lambda: self.volume_state(id_), "available")
        return id_

    async def describe_volume(self, volume: str) -> Any:
        """The volume in the answer of DescribeVolumes."""
        return (await self.ec2("describe_volumes", VolumeIds=[volume]))["Volumes"][0]

    async def volume_state(self, volume: str) -> str:
        """The volume's state, followed by the states of its attachments."""
        description = await self.describe_volume(volume)
        return " ".join([description["State"], *(attachment["State"] for attachment in description["Attachments"])])

    async def run_instance(self, **members: Any) -> str:
        """Run an EC2 instance and wait until it is running; return its id."""
        answer = await self.ec2("run_instances", **{"MinCount": 1, "MaxCount": 1, "ImageId": "ami-1"} | members)
        id_: str = answer["Instances"][0]["InstanceId"]

        async def state() -> str:
            by_id = [{"Name": "instance-id", "Values": [id_]}]  # EC2 may show the instance later
            answer = await self.ec2("describe_instances", Filters=by_id)
            return next((str(entry["Instances"][0]["State"]["Name"]) for entry in answer["Reservations"]), "not shown")

        await wait_until_equal(state, "running")
        return id_

    async def create_cluster(self, **members: Any) -> tuple[str, list[str]]:
        """Create a HyperPod cluster and wait until it is in service; return its ARN and the ids of its nodes."""
        eks = await self.create_eks_cluster()
        request = {"ClusterName": "hp", "InstanceGroups": [GROUP], "Orchestrator": {"Eks": {"ClusterArn": eks}}}
        request = {name: value for name, value in (request | members).items() if value is not None}
        arn = (await self("sagemaker", "create_cluster", **request))["ClusterArn"]

        async def state() -> str:
            return str((await self("sagemaker", "describe_cluster", ClusterName=arn))["ClusterStatus"])

        await wait_until_equal(state, "InService")
        nodes = await self("sagemaker", "list_cluster_nodes", ClusterName=arn)
        return arn, [node["InstanceId"] for node in nodes["ClusterNodeSummaries"]]

    async def attach_to_node(self, cluster: str, node: str, volume: str) -> None:
        """Attach a volume to a node of the HyperPod cluster with this ARN."""
        await self("sagemaker", "attach_cluster_node_volume", ClusterArn=cluster, NodeId=node, VolumeId=volume)

    async def detach_from_node(self, cluster: str, node: str, volume: str) -> str:
        """Detach a volume from a node of the HyperPod cluster with this ARN; the status that SageMaker returns."""
        members = {"ClusterArn": cluster, "NodeId": node, "VolumeId": volume}
        return str((await self("sagemaker", "detach_cluster_node_volume", **members))["Status"])

    async def create_eks_cluster(self, name: str = "eks") -> str:
        """Create an EKS cluster, unless it exists; return its ARN once it is active."""
        try:
            answer = await self("eks", "describe_cluster", name=name)
        except ClientError:
            answer = await self("eks", "create_cluster", name=name, roleArn=ROLE, resourcesVpcConfig={"subnetIds": []})

        async def state() -> str:
            return str((await self("eks", "describe_cluster", name=name))["cluster"]["status"])

        await wait_until_equal(state, "ACTIVE")
        return str(answer["cluster"]["arn"])


def error_of(error: ClientError) -> tuple[str, str]:
    """The code and message of the error that a service answered."""
    answered = error.response.get("Error", {})
    return answered.get("Code", ""), answered.get("Message", "")


SERVICES: Final = ("cloudtrail", "ec2", "sagemaker", "eks", "eks-auth", "iam", "kms", "sts")
"""The emulated services."""


def clients(env: Mapping[str, str], services: Sequence[str] = SERVICES) -> Aws:
    """Clients of services that use these environment variables and never retry."""
    access = {
        "endpoint_url": env["AWS_ENDPOINT_URL"],
        "aws_access_key_id": env["AWS_ACCESS_KEY_ID"],
        "aws_secret_access_key": env["AWS_SECRET_ACCESS_KEY"],
        "aws_session_token": env.get("AWS_SESSION_TOKEN"),
        "region_name": env["AWS_REGION"],
        "config": Config(retries={"total_max_attempts": 1}),
    }
    return Aws({service: boto3.client(service, **access) for service in services})


@asynccontextmanager
async def cloud(state: Path | None = None, *, port: int = 0, **settings: Any) -> AsyncGenerator[tuple[Emulator, Aws]]:
    """Start an emulator and its clients; at the end every planned fault must have happened.

    Snapshots can be taken at any rate, and calls made, unless `settings` has another `snapshot_rate` or `throttle`:
    tests poll more often than AWS allows, and their clients do not retry.
    """
    unlimited: dict[str, Any] = {"snapshot_rate": "off", "throttle": "off"}
    async with Emulator.start(EmulatorSettings(state=state, port=port, **unlimited | settings)) as emulator:
        aws = await asyncio.to_thread(clients, emulator.env)
        yield emulator, aws
        assert emulator.faults.remaining() == 0
