"""The check of `tests/conftest.py` that no product code blocks the event loop."""

import gc
import time
from collections.abc import Callable

import grpc.aio
import pytest
from blockbuster import BlockingError

from hyperpod_ebs.kit.operations import Operation, Operations


async def call_from_product_code(function: Callable[[], object]) -> None:
    """Call the function on the event loop, with the product's code above it on the stack."""

    async def nothing() -> None:
        pass

    async with Operations[str]() as operations:
        await operations.run("vol-1", Operation("attach", "node-1"), lambda: (function(), nothing())[1])


async def test_product_code_that_blocks_the_event_loop_fails_its_test() -> None:
    with pytest.raises(BlockingError, match=r"time\.sleep"):
        await call_from_product_code(lambda: time.sleep(0.001))


async def test_a_closed_channel_may_be_freed_in_another_test() -> None:
    """The last channel ends gRPC's poller thread when the garbage collector frees it, which may be at any time."""

    async def leave_closed_channel_to_the_collector() -> None:
        async with grpc.aio.insecure_channel("unix:///nonexistent") as channel:
            cycle: list[object] = [channel]
            cycle.append(cycle)

    await leave_closed_channel_to_the_collector()

    await call_from_product_code(gc.collect)
