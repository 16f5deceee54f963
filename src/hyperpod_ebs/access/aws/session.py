"""AWS with the caller's own credentials, found as the AWS CLI finds them: environment, profile, SSO cache, role."""

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

from botocore.exceptions import BotoCoreError
from cyclopts import Group, Parameter

from hyperpod_ebs import __version__
from hyperpod_ebs.access.console import note
from hyperpod_ebs.driver.aws.calls import translate_sdk_errors
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.kit.files import off_loop

if TYPE_CHECKING:
    from aiobotocore.session import AioSession
    from botocore.model import OperationModel
    from types_aiobotocore_ec2 import EC2Client
    from types_aiobotocore_eks import EKSClient
    from types_aiobotocore_iam import IAMClient
    from types_aiobotocore_kms import KMSClient
    from types_aiobotocore_sagemaker import SageMakerClient
    from types_aiobotocore_service_quotas import ServiceQuotasClient
    from types_aiobotocore_sts import STSClient

MODELS: Final = Path(__file__).parent / "models"
"""The SDK's models, cut down to the operations that the tools call. Without this directory, whole models are loaded."""

_NO_CREDENTIALS: Final = (
    "no AWS credentials; run `aws sso login` or `aws configure`, give --profile, or for the embedded cloud run "
    '`eval "$(hyperpod-ebs emulator env)"`'
)
_NO_REGION: Final = "no AWS region is set; give --region, or set AWS_REGION or a region in the profile"

_SLOW: Final = 5.0
"""Seconds without an answer after which that is reported; the SDK repeats a call that gets none."""

_ATTEMPTS: Final = 5

_TIMER: Final = "hyperpod_ebs_timer"

_GROUP: Final = Group("AWS", sort_key=90)


@Parameter(name="*", group=_GROUP)
@dataclass(frozen=True, slots=True, kw_only=True)
class AwsOptions:
    """Whose credentials a command uses, and where."""

    profile: Annotated[str | None, Parameter(env_var="AWS_PROFILE")] = None
    """A profile in the AWS configuration."""

    region: Annotated[str | None, Parameter(env_var=["AWS_REGION", "AWS_DEFAULT_REGION"])] = None
    """The AWS region; by default that of the profile."""


ANY_CALLER: Final = AwsOptions()


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The identity that signs the calls (STS API reference, GetCallerIdentity)."""

    account: str
    arn: str


@dataclass(slots=True, kw_only=True)
class Aws:
    """The clients of one caller in one region, each created when it is first needed."""

    session: "AioSession"
    region: str
    partition: str
    _stack: AsyncExitStack
    _clients: dict[tuple[str, int], Any] = field(default_factory=dict)  # by service and attempts
    _caller: Caller | None = None
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def ec2(self) -> "EC2Client":
        """EC2."""
        client: EC2Client = await self._client("ec2")
        return client

    async def ec2_without_retries(self) -> "EC2Client":
        """EC2, for requests without a client token: if the answer is lost, a repeated request acts twice."""
        client: EC2Client = await self._client("ec2", attempts=1)
        return client

    async def eks(self) -> "EKSClient":
        """EKS."""
        client: EKSClient = await self._client("eks")
        return client

    async def iam(self) -> "IAMClient":
        """IAM."""
        client: IAMClient = await self._client("iam")
        return client

    async def kms(self) -> "KMSClient":
        """KMS."""
        client: KMSClient = await self._client("kms")
        return client

    async def quotas(self) -> "ServiceQuotasClient":
        """Service Quotas."""
        client: ServiceQuotasClient = await self._client("service-quotas")
        return client

    async def sagemaker(self) -> "SageMakerClient":
        """SageMaker."""
        client: SageMakerClient = await self._client("sagemaker")
        return client

    async def sts(self) -> "STSClient":
        """STS."""
        client: STSClient = await self._client("sts")
        return client

    async def caller(self) -> Caller:
        """The identity that signs the calls; asked once.

        Raises:
            Error: The credentials are not valid, or STS does not answer.
        """
        sts = await self.sts()
        async with self._lock:
            if self._caller is None:
                with translate_sdk_errors("identify the caller"):
                    answer = await sts.get_caller_identity()
                    self._caller = Caller(account=answer["Account"], arn=answer["Arn"])
            return self._caller

    async def _client(self, service: str, attempts: int = _ATTEMPTS) -> Any:
        from aiobotocore.config import AioConfig  # noqa: PLC0415 - as in `_open_session`

        async with self._lock:
            if (service, attempts) not in self._clients:
                with translate_sdk_errors(f"set up the AWS SDK for {service}"):
                    config = AioConfig(retries={"mode": "standard", "total_max_attempts": attempts})
                    client = self.session.create_client(service, self.region, config=config)  # type: ignore[call-overload] # one of the above
                    entered = await self._stack.enter_async_context(client)
                    # Reads the file about the pages of listings, for all operations.
                    await off_loop(entered.can_paginate, min(entered.meta.method_to_api_mapping))
                    entered.meta.events.register("before-call", _begin_to_wait)
                    entered.meta.events.register("after-call", _end_to_wait)
                    entered.meta.events.register("after-call-error", _end_to_wait)
                    self._clients[service, attempts] = entered
            return self._clients[service, attempts]


@asynccontextmanager
async def open_aws(options: AwsOptions = ANY_CALLER) -> AsyncGenerator[Aws]:
    """Find credentials and region; the clients are closed with the block.

    Raises:
        Refused: There are no credentials or no region, or the profile does not exist.
    """
    try:
        session = await off_loop(_open_session, options.profile)
        has_credentials = await session.get_credentials() is not None
        region = options.region or os.environ.get("AWS_REGION") or session.get_config_variable("region")
    except (BotoCoreError, OSError, ValueError) as error:
        raise errors.Refused(f"cannot set up the AWS SDK: {error}") from error
    if not has_credentials:
        raise errors.Refused(_NO_CREDENTIALS)
    if not region:
        raise errors.Refused(_NO_REGION)
    partition = await off_loop(session.get_partition_for_region, region)
    async with AsyncExitStack() as stack:
        yield Aws(session=session, region=region, partition=partition, _stack=stack)


async def partition_of(region: str) -> str:
    """The partition that a region belongs to, which the SDK knows without a call of AWS.

    Raises:
        InvalidRequest: No partition has such a region.
    """
    from aiobotocore.session import AioSession  # noqa: PLC0415 - as in `_open_session`

    try:
        return await off_loop(AioSession().get_partition_for_region, region)
    except BotoCoreError as error:
        raise errors.InvalidRequest(f"region {region} is in no partition that the AWS SDK knows: {error}") from error


def _begin_to_wait(model: "OperationModel", context: dict[str, Any], **_: object) -> None:
    """Before a call: report later that AWS has not answered, unless it has."""
    text = f"AWS has not answered {model.name} for {_SLOW:g} s; waiting for it"
    context[_TIMER] = asyncio.get_running_loop().call_later(_SLOW, note, text)


def _end_to_wait(context: dict[str, Any], **_: object) -> None:
    """After a call."""
    if timer := context.pop(_TIMER, None):
        timer.cancel()


def _open_session(profile: str | None) -> "AioSession":
    """Open a session; reads files."""
    # Imported when a command runs: `--help` of the commands would take three times as long.
    from aiobotocore.config import AioConfig  # noqa: PLC0415
    from aiobotocore.session import AioSession  # noqa: PLC0415

    session = AioSession(profile=profile)
    session.set_default_client_config(
        AioConfig(
            connect_timeout=5,
            read_timeout=15,
            max_pool_connections=20,
            user_agent_extra=f"hyperpod-ebs/{__version__}",
            warm_up_loader_caches=True,
        )
    )
    if MODELS.is_dir():
        session.get_component("data_loader").search_paths.insert(0, str(MODELS))
    return session
