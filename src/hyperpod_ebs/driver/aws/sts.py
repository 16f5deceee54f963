"""Whose cloud it is: partition, region and account, of which ARNs are made."""

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hyperpod_ebs.driver.aws.calls import answer

if TYPE_CHECKING:
    from types_aiobotocore_sts import STSClient


@dataclass(slots=True, kw_only=True)
class Identity:
    """The account is asked for when it is first needed, and remembered."""

    sts: "STSClient"
    partition: str
    region: str
    known_account: str | None = None
    _asking: asyncio.Lock = field(default_factory=asyncio.Lock, init=False, repr=False)

    async def account(self) -> str:
        """The account's twelve digits."""
        async with self._asking:  # hundreds may come at once at the start: one asks for all
            if self.known_account is None:
                doing = "ask for the account's number"
                account: str = await answer(doing, self.sts.get_caller_identity, lambda said: said["Account"])
                self.known_account = account
            return self.known_account

    async def cluster_arn(self, cluster: str) -> str:
        """The ARN of a HyperPod cluster of this account and region."""
        return f"arn:{self.partition}:sagemaker:{self.region}:{await self.account()}:cluster/{cluster}"
