"""Waiting for other processes, for threads and for AWS, none of which notify a test."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import grpc

T = TypeVar("T")


async def wait_until(condition: Callable[[], Awaitable[T | None]], *, seconds: float = 60, interval: float = 0.01) -> T:
    """Poll until the condition's answer is true; that answer.

    Raises:
        TimeoutError: It was not within `seconds`.
    """
    async with asyncio.timeout(seconds):
        while not (answer := await condition()):  # noqa: ASYNC110 - see the module
            await asyncio.sleep(interval)
        return answer


async def wait_for_cluster(condition: Callable[[], Awaitable[T | None]], *, seconds: float = 120) -> T:
    """Poll a condition that calls kubectl, at a pace that does not occupy a processor; its first true answer."""
    return await wait_until(condition, seconds=seconds, interval=0.5)


async def wait_until_equal(query: Callable[[], Awaitable[T]], expected: T, *, seconds: float = 20) -> None:
    """Poll until the query's answer is the expected one."""

    async def is_equal() -> bool:
        return await query() == expected

    await wait_until(is_equal, seconds=seconds, interval=0.02)


async def retry_while_unavailable(call: Callable[[], Awaitable[T]]) -> T:
    """Repeat a CSI call as the sidecars do while the driver answers UNAVAILABLE or ABORTED; its response."""
    async with asyncio.timeout(90):
        while True:
            try:
                return await call()
            except grpc.aio.AioRpcError as error:
                if error.code() not in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.ABORTED}:
                    raise
                await asyncio.sleep(0.2)
