"""The connection to AWS. A process starts without one, reports what is wrong, and connects as soon as it can.

A call needs a region and credentials. While one of them is missing, the call waits for the first
check, which is already running, and then fails with the reason. Each check tests cheaply whether
AWS lets the driver work: it makes a dry run of DescribeVolumes, which every operation depends on.
Checks follow each other with growing pauses while something is wrong, and every ten minutes
otherwise. The check does not call STS: only attachments to HyperPod nodes need the account's id.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Final

from botocore.exceptions import ClientError

from hyperpod_ebs.driver.aws.attachments import Attachments
from hyperpod_ebs.driver.aws.calls import translate_sdk_errors
from hyperpod_ebs.driver.aws.clients import Clients, Settings, create_clients
from hyperpod_ebs.driver.aws.ec2_instance_types import Ec2InstanceTypes
from hyperpod_ebs.driver.aws.ec2_modifications import Ec2Modifications
from hyperpod_ebs.driver.aws.ec2_snapshots import Ec2Snapshots
from hyperpod_ebs.driver.aws.ec2_volumes import Ec2Volumes
from hyperpod_ebs.driver.aws.errors import THROTTLING, TRY_AGAIN
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.observe.condition import Condition
from hyperpod_ebs.driver.volumes.cloud import Cloud
from hyperpod_ebs.driver.volumes.governor import Governor

PART: Final = "AWS"
"""The connection's name in the process's condition."""

FIRST_CHECK_TIMEOUT: Final = 3.0
"""Seconds for which a call waits for the first check before there are clients."""

PAUSES_WHILE_UNHEALTHY: Final = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""Seconds between checks while something is wrong; the last one repeats."""

PAUSE_WHILE_HEALTHY: Final = 600.0
"""Seconds between checks while nothing is wrong."""

_DRY_RUN: Final = "DryRunOperation"
_NOT_CHECKED_YET: Final = "the first check of AWS is still running"


@dataclass(kw_only=True)
class Aws(Ec2Volumes, Ec2Modifications, Ec2Snapshots, Attachments, Ec2InstanceTypes):
    """All of AWS that the controller needs: implements `volumes.cloud.Cloud`."""


@asynccontextmanager
async def connect(
    settings: Settings, condition: Condition | None = None, governor: Governor | None = None
) -> AsyncGenerator[Cloud]:
    """Yield AWS at once, whether or not the connection works yet, and check the connection while the block runs.

    While the connection does not work, `condition` has the reason. Until its clients exist, every call raises
    `Unavailable`.
    """
    connection = Connection(settings, condition or Condition())
    failure: Exception | None = None
    async with connection.stack, asyncio.TaskGroup() as tasks:
        checks = tasks.create_task(connection.check_forever())
        try:
            yield Aws(clients=connection.clients, governor=governor or Governor())
        except Exception as error:  # noqa: BLE001 - raised again below, because a task group would wrap it
            failure = error
        finally:
            checks.cancel()
    if failure is not None:
        raise failure


class Connection:
    """The clients of one process, which exist as soon as there are a region and credentials."""

    def __init__(self, settings: Settings, condition: Condition) -> None:
        """`condition` receives what is wrong, and None once AWS works."""
        self.stack = AsyncExitStack()
        """Closes the clients."""
        self._settings = settings
        self._condition = condition
        self._clients: Clients | None = None
        self._first_check = asyncio.Event()
        self._problem = _NOT_CHECKED_YET
        condition.report_unknown(PART, _NOT_CHECKED_YET)

    async def clients(self) -> Clients:
        """Return the clients; wait for the first check if it is still running.

        Raises:
            Unavailable: The clients cannot be created yet; the message has the reason.
        """
        if self._clients is None:
            with suppress(TimeoutError):
                async with asyncio.timeout(FIRST_CHECK_TIMEOUT):
                    await self._first_check.wait()
        if self._clients is None:
            raise errors.Unavailable(f"{self._problem}; {TRY_AGAIN}")
        return self._clients

    async def check_forever(self) -> None:
        """Check AWS again and again, and report every change to the condition, until cancelled."""
        pauses = _pauses_while_unhealthy()
        while True:
            problem = await self._check()
            self._condition.report(PART, problem)
            self._first_check.set()
            if problem is None:
                pauses = _pauses_while_unhealthy()
            await asyncio.sleep(PAUSE_WHILE_HEALTHY if problem is None else next(pauses))

    async def _check(self) -> str | None:
        """Create the clients if there are none, try them, and return what is wrong; None if nothing is."""
        try:
            if self._clients is None:
                async with AsyncExitStack() as attempt:
                    self._clients = await create_clients(attempt, self._settings)
                    self.stack.push_async_exit(attempt.pop_all())
            await _check_access(self._clients)
        except errors.Error as error:
            self._problem = str(error).removesuffix(f"; {TRY_AGAIN}")
            return self._problem
        return None


async def _check_access(clients: Clients) -> None:
    """Check that AWS lets the driver describe volumes.

    Raises:
        Denied: AWS does not allow it; the message has the action and the IAM statement that allows it.
        Unavailable: AWS does not answer.
    """
    with translate_sdk_errors("check access to EC2"):
        try:
            await clients.ec2.describe_volumes(DryRun=True, MaxResults=5)
        except ClientError as answer:
            # AWS throttles a caller only if it accepts the credentials. The driver's other calls wait for their turn.
            if answer.response.get("Error", {}).get("Code") not in {_DRY_RUN, *THROTTLING}:
                raise


def _pauses_while_unhealthy() -> Iterator[float]:
    return chain(PAUSES_WHILE_UNHEALTHY, repeat(PAUSES_WHILE_UNHEALTHY[-1]))
