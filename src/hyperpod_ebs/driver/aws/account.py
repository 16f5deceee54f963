"""The AWS account that the driver works for, and the ARNs of its HyperPod clusters."""

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hyperpod_ebs.driver.aws.calls import retry

if TYPE_CHECKING:
    from types_aiobotocore_sts import STSClient


@dataclass(slots=True, kw_only=True)
class Account:
    """An account in one partition and region. Its id is looked up at STS once, when it is first needed."""

    sts: "STSClient"
    partition: str
    region: str
    known_id: str | None = None
    _lookup: asyncio.Lock = field(default_factory=asyncio.Lock, init=False, repr=False)

    async def resolve_id(self) -> str:
        """Return the account id, twelve digits."""
        async with self._lookup:  # hundreds of calls may need the id at start-up; the first looks it up for all
            if self.known_id is None:
                self.known_id = await retry("look up the AWS account id", self._get_caller_account)
            return self.known_id

    async def resolve_cluster_arn(self, cluster_id: str) -> str:
        """Return the ARN of a HyperPod cluster in this account and region."""
        return f"arn:{self.partition}:sagemaker:{self.region}:{await self.resolve_id()}:cluster/{cluster_id}"

    async def _get_caller_account(self) -> str:
        return (await self.sts.get_caller_identity())["Account"]
