"""The way to AWS: one client for each service, made at start, together playing `volumes.cloud.Cloud`."""

import os
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, assert_never

from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession, get_session
from botocore.exceptions import BotoCoreError

from hyperpod_ebs.aws.ec2 import Ec2Volumes
from hyperpod_ebs.aws.instances import Ec2Attachments
from hyperpod_ebs.aws.sagemaker import HyperPodAttachments
from hyperpod_ebs.aws.snapshots import Ec2Snapshots
from hyperpod_ebs.aws.sts import Identity
from hyperpod_ebs.kit.files import off_loop
from hyperpod_ebs.model import errors
from hyperpod_ebs.model.nodes import Ec2Node, HyperPodNode, Node
from hyperpod_ebs.model.volume import Attachment
from hyperpod_ebs.volumes.cloud import Cloud

MODELS: Final = Path(__file__).parent / "models"
"""The SDK's models cut down to what is called, where the package was built with them."""

CONNECT: Final = 5.0
"""Seconds that a connection may take."""

READ: Final = 15.0
"""Seconds that an answer may take."""

CONNECTIONS: Final = 50
"""Connections to one service at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How AWS is reached. What is None is the SDK's to find: environment, profile, container."""

    region: str | None = None
    account: str | None = None
    """Asked of STS where it is None."""
    ec2_endpoint: str | None = None
    sagemaker_endpoint: str | None = None
    sts_endpoint: str | None = None
    user_agent_extra: str = ""


@dataclass(kw_only=True)
class Aws(Ec2Volumes, Ec2Snapshots, Ec2Attachments, HyperPodAttachments):
    """All of AWS that the controller needs. A node's kind decides which service attaches."""

    async def attach(self, volume_id: str, node: Node) -> Attachment:
        """The attachment, in the state that the answer carries."""
        match node:
            case HyperPodNode():
                return await self.attach_to_cluster_node(volume_id, node)
            case Ec2Node():
                return await self.attach_to_instance(volume_id, node)
            case _:
                assert_never(node)

    async def detach(self, volume_id: str, node: Node) -> Attachment:
        """The detachment, in the state that the answer carries."""
        match node:
            case HyperPodNode():
                return await self.detach_from_cluster_node(volume_id, node)
            case Ec2Node():
                return await self.detach_from_instance(volume_id, node)
            case _:
                assert_never(node)


@asynccontextmanager
async def connected(settings: Settings) -> AsyncGenerator[Cloud]:
    """AWS, ready to be asked; nothing has been asked yet.

    Raises:
        InvalidRequest: No region is known.
        Unavailable: The SDK's own configuration cannot be read.
    """
    config = AioConfig(
        connect_timeout=CONNECT,
        read_timeout=READ,
        max_pool_connections=CONNECTIONS,
        retries={"total_max_attempts": 1},  # see `calls`
        user_agent_extra=settings.user_agent_extra or None,
        warm_up_loader_caches=True,
    )
    async with AsyncExitStack() as open_:
        try:
            session, region, partition = await off_loop(lambda: _session(settings.region))
            ec2 = await open_.enter_async_context(
                session.create_client("ec2", region, endpoint_url=settings.ec2_endpoint, config=config)
            )
            sagemaker = await open_.enter_async_context(
                session.create_client("sagemaker", region, endpoint_url=settings.sagemaker_endpoint, config=config)
            )
            sts = await open_.enter_async_context(
                session.create_client("sts", region, endpoint_url=settings.sts_endpoint, config=config)
            )
        except BotoCoreError as error:
            raise errors.Unavailable(f"the AWS SDK cannot be set up: {error}") from error
        identity = Identity(sts=sts, partition=partition, region=region, known_account=settings.account)
        yield Aws(ec2=ec2, sagemaker=sagemaker, identity=identity)


def _session(asked: str | None) -> tuple[AioSession, str, str]:
    """A session, its region and its partition; reads files."""
    session = get_session()
    if MODELS.is_dir():
        session.get_component("data_loader").search_paths.insert(0, str(MODELS))
    # The SDK for Python reads AWS_DEFAULT_REGION alone; EKS sets AWS_REGION in pods.
    region = asked or os.environ.get("AWS_REGION") or session.get_config_variable("region")
    if not region:
        raise errors.InvalidRequest("no AWS region is known: give --region or set AWS_REGION")
    return session, region, session.get_partition_for_region(region)
