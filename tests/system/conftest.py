"""Fixtures that several files of this directory use: an emulator in this process, and an API server."""

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from hyperpod_ebs.emulator.emulator import Emulator
from tests.support.api_server import ApiServer
from tests.support.emulator_clients import Aws, cloud


@pytest.fixture
async def emulator_and_aws() -> AsyncGenerator[tuple[Emulator, Aws]]:
    """An emulator that keeps its state in memory, and its clients; a file overrides it for another emulator."""
    async with cloud() as both:
        yield both


@pytest.fixture
def emulator(emulator_and_aws: tuple[Emulator, Aws]) -> Emulator:
    """The emulator."""
    return emulator_and_aws[0]


@pytest.fixture
def aws(emulator_and_aws: tuple[Emulator, Aws]) -> Aws:
    """AWS clients of the emulator that are not the driver's."""
    return emulator_and_aws[1]


@pytest.fixture
async def api(tmp_path: Path) -> AsyncGenerator[ApiServer]:
    """The API server of a cluster with one HyperPod node."""
    async with ApiServer.start(tmp_path) as server:
        yield server
