"""An emulator in this process, and real AWS clients that talk to it."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
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
    """boto3's clients, each call in a thread."""

    clients: Mapping[str, Any]  # boto3 makes their methods as it goes

    async def __call__(self, service: str, method: str, **members: Any) -> Any:
        """What the service answers."""
        return await asyncio.to_thread(getattr(self.clients[service], method), **members)

    async def ec2(self, method: str, **members: Any) -> Any:
        """What EC2 answers."""
        return await self("ec2", method, **members)

    async def refused(self, service: str, method: str, **members: Any) -> tuple[str, str]:
        """The code and message with which the service refuses."""
        with pytest.raises(ClientError) as refusal:
            await self(service, method, **members)
        return said(refusal.value)

    async def volume(self, **members: Any) -> str:
        """The id of a new volume that is available."""
        made = await self.ec2("create_volume", **{"AvailabilityZone": ZONE, "Size": 1, "VolumeType": "gp3"} | members)
        id_: str = made["VolumeId"]
        await until(lambda: self.state(id_), "available")
        return id_

    async def shown(self, volume: str) -> Any:
        """The volume as DescribeVolumes has it."""
        return (await self.ec2("describe_volumes", VolumeIds=[volume]))["Volumes"][0]

    async def state(self, volume: str) -> str:
        """The volume's state, with that of its attachment if it has one."""
        shown = await self.shown(volume)
        return " ".join([shown["State"], *(one["State"] for one in shown["Attachments"])])

    async def instance(self, **members: Any) -> str:
        """The id of a new EC2 instance that runs."""
        made = await self.ec2("run_instances", **{"MinCount": 1, "MaxCount": 1, "ImageId": "ami-1"} | members)
        id_: str = made["Instances"][0]["InstanceId"]

        async def state() -> str:
            found = await self.ec2("describe_instances", InstanceIds=[id_])
            return str(found["Reservations"][0]["Instances"][0]["State"]["Name"])

        await until(state, "running")
        return id_

    async def cluster(self, **members: Any) -> tuple[str, list[str]]:
        """The ARN of a new HyperPod cluster in service and the ids of its nodes."""
        eks = await self.eks()
        wanted = {"ClusterName": "hp", "InstanceGroups": [GROUP], "Orchestrator": {"Eks": {"ClusterArn": eks}}}
        wanted = {name: value for name, value in (wanted | members).items() if value is not None}
        arn = (await self("sagemaker", "create_cluster", **wanted))["ClusterArn"]

        async def state() -> str:
            return str((await self("sagemaker", "describe_cluster", ClusterName=arn))["ClusterStatus"])

        await until(state, "InService")
        nodes = await self("sagemaker", "list_cluster_nodes", ClusterName=arn)
        return arn, [node["InstanceId"] for node in nodes["ClusterNodeSummaries"]]

    async def eks(self, name: str = "eks") -> str:
        """The ARN of an EKS cluster of this name, made if need be."""
        try:
            found = await self("eks", "describe_cluster", name=name)
        except ClientError:
            found = await self("eks", "create_cluster", name=name, roleArn=ROLE, resourcesVpcConfig={"subnetIds": []})

        async def state() -> str:
            return str((await self("eks", "describe_cluster", name=name))["cluster"]["status"])

        await until(state, "ACTIVE")
        return str(found["cluster"]["arn"])


def said(refusal: ClientError) -> tuple[str, str]:
    """The code and message of a refusal."""
    error = refusal.response.get("Error", {})
    return error.get("Code", ""), error.get("Message", "")


def clients(env: Mapping[str, str]) -> Aws:
    """Clients for the emulator of this environment, which try everything once."""
    access = {
        "endpoint_url": env["AWS_ENDPOINT_URL"],
        "aws_access_key_id": env["AWS_ACCESS_KEY_ID"],
        "aws_secret_access_key": env["AWS_SECRET_ACCESS_KEY"],
        "region_name": env["AWS_REGION"],
        "config": Config(retries={"total_max_attempts": 1}),
    }
    return Aws({service: boto3.client(service, **access) for service in ("ec2", "sagemaker", "eks", "sts")})


@asynccontextmanager
async def cloud(state: Path | None = None, *, port: int = 0, **settings: Any) -> AsyncGenerator[tuple[Emulator, Aws]]:
    """An emulator and its clients."""
    async with Emulator.start(EmulatorSettings(state=state, port=port, **settings)) as emulator:
        aws = await asyncio.to_thread(clients, emulator.env)
        yield emulator, aws
        assert emulator.faults.remaining() == 0


async def until(look: Callable[[], Awaitable[str]], wanted: str, *, seconds: float = 20) -> None:
    """Come back as soon as `look` finds what is wanted; there is nobody to tell, so it looks again."""
    async with asyncio.timeout(seconds):
        while await look() != wanted:  # noqa: ASYNC110 - see above
            await asyncio.sleep(0.02)
