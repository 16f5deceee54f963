"""A controller process of ours that is asked from all sides: by CSI, and over HTTP."""

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

NOWHERE: Final = {"AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null"}
FLAGS: Final = ("--health-endpoint=127.0.0.1:0", "--http-endpoint=127.0.0.1:0")
UNKNOWN: Final = csi_pb2.ControllerGetVolumeRequest(volume_id="vol-0123456789abcdef0")


def environment(emulator: Emulator, *without: str) -> dict[str, str]:
    """How to reach it, but for some variables; nothing of the machine's own."""
    return {**NOWHERE, **{name: "" if name in without else value for name, value in emulator.env.items()}}


class Controller:
    """A controller process that is asked from all sides."""

    def __init__(
        self, process: DriverProcess, channel: grpc.aio.Channel, http: aiohttp.ClientSession, ports: Sequence[str]
    ) -> None:
        self.process = process
        self.csi = csi_pb2_grpc.ControllerStub(channel)
        self._identity = csi_pb2_grpc.IdentityStub(channel)
        self._http = http
        self._ports = ports

    async def page(self, path: str, *, metrics: bool = False) -> tuple[int, str]:
        """A page of its health endpoint, or of the one with the metrics."""
        async with self._http.get(f"http://127.0.0.1:{self._ports[metrics]}{path}") as answer:
            return answer.status, await answer.text()

    async def ready(self) -> bool:
        """What Probe says."""
        return (await self._identity.Probe(csi_pb2.ProbeRequest())).ready.value

    async def well(self) -> bool:
        """Whether all is well, by both that tell it."""
        return (await self.page("/healthz"))[0] == 200 and await self.ready()

    async def looked(self) -> bool:
        """Whether it knows how it stands with AWS."""
        return not await self.tells("the first check of AWS is still running")

    async def tells(self, words: str) -> bool:
        """Whether something is wrong, and told with these words."""
        status, text = await self.page("/healthz")
        return status == 503 and words in text

    async def refusal(self) -> grpc.aio.AioRpcError:
        """The error that a question about an unknown volume ends with."""
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.csi.ControllerGetVolume(UNKNOWN)
        return caught.value


@asynccontextmanager
async def controller(
    path: Path, env: Mapping[str, str], *flags: str, looked: bool = True
) -> AsyncGenerator[Controller]:
    """A controller process, and clients of it, once it serves, and has looked for AWS unless that may be waited for."""
    async with (
        start_driver("controller", f"--endpoint=unix://{path / 'csi.sock'}", *FLAGS, *flags, **env) as process,
        grpc.aio.insecure_channel(f"unix://{path / 'csi.sock'}") as channel,
        aiohttp.ClientSession() as http,
    ):
        ports = [(await process.wait_for_log("pages served")).partition("port=")[2].split()[0] for _ in FLAGS]
        one = Controller(process, channel, http, ports)
        if looked:
            await wait_until(one.looked)
        yield one
