"""A cloud that takes no time, for each test that asks for it."""

from collections.abc import AsyncGenerator

import pytest

from hyperpod_ebs.emulator.emulator import Emulator
from tests.support.emulator_clients import Aws, cloud


@pytest.fixture
async def running() -> AsyncGenerator[tuple[Emulator, Aws]]:
    """The emulator and its clients."""
    async with cloud() as both:
        yield both


@pytest.fixture
def emulator(running: tuple[Emulator, Aws]) -> Emulator:
    """The emulator that `aws` talks to."""
    return running[0]


@pytest.fixture
def aws(running: tuple[Emulator, Aws]) -> Aws:
    """Real clients of an emulator of this test's own."""
    return running[1]
