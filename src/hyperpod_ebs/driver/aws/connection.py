"""AWS, reached as soon as it can be: the process starts without it, says what is wrong, and heals.

Until there are a region and credentials nothing can be asked: a question waits for the
first look, which is under way, and is then answered with why. From then on a cheap check
tells whether AWS lets us work: a dry run of the one call that everything here needs, and
the account's number. While something is wrong it is repeated at a growing pace, afterwards
now and then.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from itertools import chain, repeat
from typing import Any, Final, cast

from botocore.exceptions import ClientError

from hyperpod_ebs.driver.aws.errors import translated
from hyperpod_ebs.driver.aws.session import Aws, Settings, clients
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.observe.condition import Condition
from hyperpod_ebs.driver.volumes.cloud import Cloud

PART: Final = "AWS"
"""What the condition calls it."""

FIRST_LOOK: Final = 3.0
"""Seconds that a question waits for it, where there is nobody to ask yet."""

WHILE_WRONG: Final = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""Seconds between looks while something is wrong; the last one for ever."""

WHILE_WELL: Final = 600.0
"""Seconds between looks while nothing is."""

_DRY_RUN: Final = "DryRunOperation"
_REQUEST: Final = re.compile(r", request [^)\s]*(?=\))")
_AGAIN: Final = "; ask again"
_NOT_YET: Final = "AWS is not reached yet"
_SERVICES: Final = ("ec2", "sagemaker", "identity")
"""What `Aws` is made of."""


@asynccontextmanager
async def connected(settings: Settings, condition: Condition | None = None) -> AsyncGenerator[Cloud]:
    """AWS, at once; where it cannot be asked yet, `condition` says why and each question raises `Unavailable`."""
    connection = Connection(settings, condition or Condition())
    failed: Exception | None = None
    async with connection.stack, asyncio.TaskGroup() as tasks:
        keeping = tasks.create_task(connection.keep())
        try:
            yield connection.aws
        except Exception as error:  # noqa: BLE001 - the block's own error leaves as it is, in no group
            failed = error
        finally:
            keeping.cancel()
    if failed is not None:
        raise failed


class Connection:
    """The clients of one process, from when they can be had."""

    def __init__(self, settings: Settings, condition: Condition) -> None:
        """`condition` is told what keeps AWS from being asked, or from answering."""
        self._settings = settings
        self._condition = condition
        self._looked = asyncio.Event()
        self._why = _NOT_YET
        ec2, sagemaker, identity = (_Nobody(self, service) for service in _SERVICES)
        # Each plays one of the SDK's clients, or all of an identity.
        self.aws = Aws(ec2=cast("Any", ec2), sagemaker=cast("Any", sagemaker), identity=cast("Any", identity))
        self.stack = AsyncExitStack()
        condition.report_unknown(PART, _NOT_YET)

    async def keep(self) -> None:
        """Look whether AWS lets us work, again and again, until cancelled."""
        pauses = _pauses()
        while True:
            trouble = await self._look()
            self._condition.report(PART, trouble)
            self._looked.set()
            if trouble is None:
                pauses = _pauses()
            await asyncio.sleep(WHILE_WELL if trouble is None else next(pauses))

    @property
    def reached(self) -> bool:
        """Whether there are clients."""
        return not isinstance(self.aws.ec2, _Nobody)

    async def somebody(self, service: str) -> object:
        """Who answers for the service; the first look may be under way.

        Raises:
            Unavailable: There is nobody; the text says why.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(FIRST_LOOK):
                await self._looked.wait()
        if not self.reached:
            raise errors.Unavailable(self._why + _AGAIN)
        return getattr(self.aws, service)

    async def _look(self) -> str | None:
        """What is wrong."""
        try:
            if not self.reached:
                await self._reach()
            await self._check()
        except errors.Error as error:
            # Without what differs each time: the log hears of a change, and this is none.
            said = _REQUEST.sub("", str(error)).removesuffix(_AGAIN)
            self._why = said
            return said
        return None

    async def _reach(self) -> None:
        async with AsyncExitStack() as attempt:
            self.aws.take(await clients(attempt, self._settings))
            self.stack.push_async_exit(attempt.pop_all())

    async def _check(self) -> None:
        """Come back if AWS lets us describe volumes and tells whose they are.

        Raises:
            Denied: It does not; the text has the action and the statement that allows it.
            Unavailable: It does not answer.
        """
        with translated("see whether volumes may be described"):
            try:
                await self.aws.ec2.describe_volumes(DryRun=True, MaxResults=5)
            except ClientError as answer:
                if answer.response.get("Error", {}).get("Code") != _DRY_RUN:
                    raise
        await self.aws.identity.account()


class _Nobody:
    """A client before there is one."""

    def __init__(self, connection: Connection, service: str) -> None:
        self._connection = connection
        self._service = service

    def __getattr__(self, operation: str) -> Callable[..., Awaitable[Any]]:
        async def asked(*given: Any, **named: Any) -> Any:  # as the operation that it stands for
            client = await self._connection.somebody(self._service)
            return await getattr(client, operation)(*given, **named)

        return asked


def _pauses() -> Iterator[float]:
    return chain(WHILE_WRONG, repeat(WHILE_WRONG[-1]))
