"""Create the SDK's clients: one for each AWS service that the controller calls."""

import os
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession, get_session
from aiobotocore.utils import AioIMDSRegionProvider
from botocore.exceptions import BotoCoreError

from hyperpod_ebs import __version__
from hyperpod_ebs.driver.aws.account import Account
from hyperpod_ebs.driver.aws.call_observer import CallObserver
from hyperpod_ebs.driver.aws.errors import NO_CREDENTIALS
from hyperpod_ebs.driver.aws.sdk_components import register_components
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.aws_scope import AwsScope
from hyperpod_ebs.kit.files import off_loop

if TYPE_CHECKING:
    from types_aiobotocore_ec2 import EC2Client
    from types_aiobotocore_sagemaker import SageMakerClient
    from types_aiobotocore_sts import STSClient

MODELS: Final = Path(__file__).parent / "models"
"""The SDK's models, cut down to the operations that the driver calls. Without this directory, it loads whole models."""

CONNECT_TIMEOUT: Final = 5.0
"""Seconds until a connection is open."""

READ_TIMEOUT: Final = 15.0
"""Seconds until the answer, or the next part of it, arrives."""

MAX_CONNECTIONS: Final = 50
"""Simultaneous connections to one service."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How to reach AWS. The SDK finds a setting that is None in the environment, a profile or instance metadata."""

    scope: AwsScope = field(default_factory=AwsScope)
    """STS provides a missing account; a missing partition follows from the region."""
    ec2_endpoint: str | None = None
    sagemaker_endpoint: str | None = None
    sts_endpoint: str | None = None
    user_agent_extra: str = ""
    observer: CallObserver = field(default_factory=CallObserver)


@dataclass(frozen=True, slots=True, kw_only=True)
class Clients:
    """A client for each service, and the account that they work for."""

    ec2: "EC2Client"
    sagemaker: "SageMakerClient"
    sts: "STSClient"
    account: Account


async def create_clients(stack: AsyncExitStack, settings: Settings) -> Clients:
    """Create clients that live as long as the stack.

    The only requests that this sends are those that find the region and the credentials.

    Raises:
        Unavailable: The region or the credentials are missing, or a file that has them cannot be read.
    """
    config = AioConfig(
        connect_timeout=CONNECT_TIMEOUT,
        read_timeout=READ_TIMEOUT,
        max_pool_connections=MAX_CONNECTIONS,
        retries={"total_max_attempts": 1},  # `calls` retries instead
        user_agent_extra=f"hyperpod-ebs/{__version__} {settings.user_agent_extra}".rstrip(),
        warm_up_loader_caches=True,
    )
    try:
        session, region = await off_loop(_open_session, settings.scope.region)
        settings.observer.register(session)
        # A client that is created without credentials never gets any.
        if await session.get_credentials() is None:
            raise errors.Unavailable(NO_CREDENTIALS)
        region = region or await AioIMDSRegionProvider(session).provide()
        if not region:
            raise errors.Unavailable(
                "no AWS region is set, and instance metadata does not provide one; give --region or set AWS_REGION"
            )
        partition = settings.scope.partition or await off_loop(session.get_partition_for_region, region)
        ec2 = await stack.enter_async_context(
            session.create_client("ec2", region, endpoint_url=settings.ec2_endpoint, config=config)
        )
        sagemaker = await stack.enter_async_context(
            session.create_client("sagemaker", region, endpoint_url=settings.sagemaker_endpoint, config=config)
        )
        sts = await stack.enter_async_context(
            session.create_client("sts", region, endpoint_url=settings.sts_endpoint, config=config)
        )
    # A credentials file may not exist yet; a ValueError means that an endpoint is not a URL.
    except (BotoCoreError, OSError, ValueError) as error:
        raise errors.Unavailable(f"cannot set up the AWS SDK: {error}") from error
    account = Account(partition=partition or "aws", region=region, known_id=settings.scope.account)
    return Clients(ec2=ec2, sagemaker=sagemaker, sts=sts, account=account)


def _open_session(region: str | None) -> tuple[AioSession, str | None]:
    """Open a session and return it with its region, if one is set. Reads files: call it off the event loop."""
    session = get_session()
    if MODELS.is_dir():
        session.get_component("data_loader").search_paths.insert(0, str(MODELS))
    register_components(session)
    # The SDK for Python reads only AWS_DEFAULT_REGION; EKS sets AWS_REGION in pods.
    return session, region or os.environ.get("AWS_REGION") or session.get_config_variable("region")
