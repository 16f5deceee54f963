"""The way to AWS: one client for each service, together playing `volumes.cloud.Cloud`."""

import os
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, assert_never

from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession, get_session
from aiobotocore.utils import AioIMDSRegionProvider
from botocore.exceptions import BotoCoreError

from hyperpod_ebs.driver.aws.ec2 import Ec2Volumes
from hyperpod_ebs.driver.aws.errors import NO_CREDENTIALS
from hyperpod_ebs.driver.aws.instances import Ec2Attachments
from hyperpod_ebs.driver.aws.observed import Observer
from hyperpod_ebs.driver.aws.sagemaker import HyperPodAttachments
from hyperpod_ebs.driver.aws.snapshots import Ec2Snapshots
from hyperpod_ebs.driver.aws.sts import Identity
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.aws_scope import AwsScope
from hyperpod_ebs.driver.model.nodes import Ec2Node, HyperPodNode, Node
from hyperpod_ebs.driver.model.volume import Attachment
from hyperpod_ebs.kit.files import off_loop

if TYPE_CHECKING:
    from types_aiobotocore_ec2 import EC2Client
    from types_aiobotocore_sagemaker import SageMakerClient

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

    where: AwsScope = field(default_factory=AwsScope)
    """Its account is asked of STS where it is None, its partition follows from the region."""
    ec2_endpoint: str | None = None
    sagemaker_endpoint: str | None = None
    sts_endpoint: str | None = None
    user_agent_extra: str = ""
    observer: Observer = field(default_factory=Observer)


@dataclass(frozen=True, slots=True, kw_only=True)
class Clients:
    """One for each service, and whose cloud it is."""

    ec2: "EC2Client"
    sagemaker: "SageMakerClient"
    identity: Identity


@dataclass(kw_only=True)
class Aws(Ec2Volumes, Ec2Snapshots, Ec2Attachments, HyperPodAttachments):
    """All of AWS that the controller needs. A node's kind decides which service attaches."""

    def take(self, clients: Clients) -> None:
        """Ask through these from now on."""
        self.ec2, self.sagemaker, self.identity = clients.ec2, clients.sagemaker, clients.identity

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


async def clients(stack: AsyncExitStack, settings: Settings) -> Clients:
    """Clients that live as long as the stack; AWS itself has not been asked anything yet.

    Raises:
        Unavailable: No region or no credentials are found, or a file of either cannot be read.
    """
    config = AioConfig(
        connect_timeout=CONNECT,
        read_timeout=READ,
        max_pool_connections=CONNECTIONS,
        retries={"total_max_attempts": 1},  # see `calls`
        user_agent_extra=settings.user_agent_extra or None,
        warm_up_loader_caches=True,
    )
    try:
        session, region, partition = await _session(settings)
        ec2 = await stack.enter_async_context(
            session.create_client("ec2", region, endpoint_url=settings.ec2_endpoint, config=config)
        )
        sagemaker = await stack.enter_async_context(
            session.create_client("sagemaker", region, endpoint_url=settings.sagemaker_endpoint, config=config)
        )
        sts = await stack.enter_async_context(
            session.create_client("sts", region, endpoint_url=settings.sts_endpoint, config=config)
        )
    # A file of credentials may not be there yet; ValueError is for an endpoint that is no URL.
    except (BotoCoreError, OSError, ValueError) as error:
        raise errors.Unavailable(f"the AWS SDK cannot be set up: {error}") from error
    account = settings.where.account
    identity = Identity(sts=sts, partition=partition, region=region, known_account=account)
    return Clients(ec2=ec2, sagemaker=sagemaker, identity=identity)


async def _session(settings: Settings) -> tuple[AioSession, str, str]:
    """A session that has credentials, its region and its partition.

    Raises:
        Unavailable: There are none.
    """
    session, region = await off_loop(_opened, settings.where.region)
    settings.observer.attend(session)
    # A client without credentials would stay without them: it is made when there are some.
    if await session.get_credentials() is None:
        raise errors.Unavailable(NO_CREDENTIALS)
    region = region or await AioIMDSRegionProvider(session).provide()
    if not region:
        raise errors.Unavailable(
            "no AWS region is known, and instance metadata does not tell it: give --region or set AWS_REGION"
        )
    partition = settings.where.partition or await off_loop(session.get_partition_for_region, region)
    return session, region, partition or "aws"


def _opened(asked: str | None) -> tuple[AioSession, str | None]:
    """A session, and its region if one is set; reads files."""
    session = get_session()
    if MODELS.is_dir():
        session.get_component("data_loader").search_paths.insert(0, str(MODELS))
    # The SDK for Python reads AWS_DEFAULT_REGION alone; EKS sets AWS_REGION in pods.
    return session, asked or os.environ.get("AWS_REGION") or session.get_config_variable("region")
