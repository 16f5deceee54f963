"""An emulator for each test that needs one, with the profile `instant`."""

from collections.abc import AsyncGenerator

import pytest

from hyperpod_ebs.emulator.emulator import Emulator
from tests.support.emulator_clients import Aws, cloud


@pytest.fixture
async def running() -> AsyncGenerator[tuple[Emulator, Aws]]:
    """A running emulator and its clients."""
    async with cloud() as both:
        yield both


@pytest.fixture
def emulator(running: tuple[Emulator, Aws]) -> Emulator:
    """The emulator that `aws` calls."""
    return running[0]


@pytest.fixture
def aws(running: tuple[Emulator, Aws]) -> Aws:
    """boto3 clients of the test's emulator."""
    return running[1]
