"""A controller process that a test calls over CSI and over HTTP."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import aiohttp
import grpc
import pytest

from hyperpod_ebs.emulator.emulator import Emulator
from hyperpod_ebs.pb import csi_pb2, csi_pb2_grpc
from tests.support.driver_process import DriverProcess, start_driver
from tests.support.waiting import wait_until

NO_AWS_FILES: Final = {"AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null"}
FLAGS: Final = ("--health-endpoint=127.0.0.1:0", "--http-endpoint=127.0.0.1:0")
UNKNOWN_VOLUME: Final = csi_pb2.ControllerGetVolumeRequest(volume_id="vol-0123456789abcdef0")


def environment(emulator: Emulator, *without: str) -> dict[str, str]:
    """The environment of a client of the emulator: no variable in `without`, no AWS files of this machine."""
    return {**NO_AWS_FILES, **{name: "" if name in without else value for name, value in emulator.env.items()}}


class ControllerProcess:
    """A controller process and its clients."""

    def __init__(
        self, process: DriverProcess, channel: grpc.aio.Channel, http: aiohttp.ClientSession, ports: Sequence[str]
    ) -> None:
        self.process = process
        self.csi = csi_pb2_grpc.ControllerStub(channel)
        self._identity = csi_pb2_grpc.IdentityStub(channel)
        self._http = http
        self._ports = ports

    async def get_page(self, path: str, *, metrics: bool = False) -> tuple[int, str]:
        """Get a page of the health endpoint, or of the metrics endpoint; its status and text."""
        async with self._http.get(f"http://127.0.0.1:{self._ports[metrics]}{path}") as answer:
            return answer.status, await answer.text()

    async def is_ready(self) -> bool:
        """Whether Probe reports that the process is ready."""
        return (await self._identity.Probe(csi_pb2.ProbeRequest())).ready.value

    async def is_healthy(self) -> bool:
        """Whether both the health endpoint and Probe report no problem."""
        return (await self.get_page("/healthz"))[0] == 200 and await self.is_ready()

    async def has_checked_aws(self) -> bool:
        """Whether the first check of AWS is over."""
        return not await self.reports("the first check of AWS is still running")

    async def reports(self, words: str) -> bool:
        """Whether the health endpoint reports a problem with these words."""
        status, text = await self.get_page("/healthz")
        return status == 503 and words in text

    async def describe_unknown_volume(self) -> grpc.aio.AioRpcError:
        """Call ControllerGetVolume for a volume that does not exist; the error."""
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.csi.ControllerGetVolume(UNKNOWN_VOLUME)
        return caught.value


@asynccontextmanager
async def start_controller(
    path: Path, env: Mapping[str, str], *flags: str, wait_for_aws: bool = True
) -> AsyncGenerator[ControllerProcess]:
    """Start a controller process, and wait until it serves and, by default, until its first check of AWS is over."""
    async with (
        start_driver("controller", f"--endpoint=unix://{path / 'csi.sock'}", *FLAGS, *flags, **env) as process,
        grpc.aio.insecure_channel(f"unix://{path / 'csi.sock'}") as channel,
        aiohttp.ClientSession() as http,
    ):
        ports = [(await process.wait_for_log("pages served")).partition("port=")[2].split()[0] for _ in FLAGS]
        controller = ControllerProcess(process, channel, http, ports)
        if wait_for_aws:
            await wait_until(controller.has_checked_aws)
        yield controller
