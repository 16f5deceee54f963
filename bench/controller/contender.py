"""A controller under measurement, ours or a peer's: started in the same way, and called over CSI."""

import asyncio
import os
import signal
import socket
import struct
import time
from asyncio.subprocess import Process
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

import aiohttp
import grpc

from bench.process_usage import cpu_seconds, memory_mib
from hyperpod_ebs.pb import csi_pb2, csi_pb2_grpc
from hyperpod_ebs.sandbox.failures import ProcessEnded, ProcessNotReady
from hyperpod_ebs.sandbox.processes import COMMAND, log_tail
from hyperpod_ebs.sandbox.sandbox import Sandbox

_ENV: Final = {"PYTHONDONTWRITEBYTECODE": ""}
"""Lets the first start keep the compiled modules, which an installed package has from the beginning."""

_START_TIMEOUT: Final = 60.0
_STOP_TIMEOUT: Final = 30.0
_START_POLL: Final = 0.002
_RESET_PEAK: Final = "5"
"""What resets VmHWM (proc_pid_clear_refs(5))."""

_CREDENTIALS: Final = struct.Struct("3i")
"""struct ucred: the ids of a process, a user and a group (unix(7), SO_PEERCRED)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """A program that takes the flags and the environment variables of the Go driver's controller."""

    name: str
    program: Sequence[str]


OUR_CONTROLLER: Final = Contender(name="ours", program=COMMAND)


@dataclass(frozen=True, slots=True, kw_only=True)
class Controller:
    """A running controller process, and its CSI clients."""

    pid: int
    """The process that serves CSI; a program that is a wrapper has another id."""
    start_seconds: float
    """From the start of the program to the answer to GetPluginInfo."""
    socket: Path
    csi: csi_pb2_grpc.ControllerStub
    page_url: str

    @property
    def cpu_seconds(self) -> float:
        """The CPU time so far."""
        return cpu_seconds(self.pid)

    @property
    def memory_mib(self) -> float:
        """The resident memory."""
        return memory_mib(self.pid, "VmRSS")

    @property
    def peak_memory_mib(self) -> float:
        """The most resident memory since the start or the last `reset_peak_memory`."""
        return memory_mib(self.pid, "VmHWM")

    def reset_peak_memory(self) -> None:
        """Let the peak begin with the memory that is resident now."""
        Path(f"/proc/{self.pid}/clear_refs").write_text(_RESET_PEAK)

    async def page(self, path: str) -> str | None:
        """A page of the HTTP endpoint, such as /metrics; None if the controller has none."""
        with suppress(aiohttp.ClientConnectionError):
            async with aiohttp.ClientSession() as http, http.get(f"{self.page_url}{path}") as answer:
                return await answer.text() if answer.ok else None
        return None


@asynccontextmanager
async def run_controller(
    sandbox: Sandbox, contender: Contender, environment: Mapping[str, str]
) -> AsyncGenerator[Controller]:
    """A controller in the sandbox, with the environment of the cloud's clients; it is stopped when the block ends.

    Raises:
        ExceptionGroup: Of `ProcessNotReady` and `ProcessEnded`, and of what the block raises.
    """
    path, page_address = sandbox.path / "controller.sock", f"127.0.0.1:{_free_port()}"
    words = ("controller", f"--endpoint=unix://{path}", "--batching=true", f"--http-endpoint={page_address}")
    began = time.monotonic()
    process = await sandbox.start([*contender.program, *words], log="controller.log", env={**environment, **_ENV})
    async with asyncio.TaskGroup() as group, _connect(path) as channel:
        watcher = group.create_task(_raise_when_ended(sandbox, contender, process))
        pid = await _wait_until_listening(path)
        identity = csi_pb2_grpc.IdentityStub(channel)
        await identity.GetPluginInfo(csi_pb2.GetPluginInfoRequest(), timeout=_START_TIMEOUT, wait_for_ready=True)
        yield Controller(
            pid=pid,
            start_seconds=time.monotonic() - began,
            socket=path,
            csi=csi_pb2_grpc.ControllerStub(channel),
            page_url=f"http://{page_address}",
        )
        watcher.cancel()
        os.kill(pid, signal.SIGTERM)
        with suppress(TimeoutError):  # the sandbox kills a process that does not stop
            async with asyncio.timeout(_STOP_TIMEOUT):
                await process.wait()


def target(path: Path) -> str:
    """What gRPC calls the unix socket at `path`."""
    return f"unix://{quote(str(path))}"


@asynccontextmanager
async def _connect(path: Path) -> AsyncGenerator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(target(path)) as channel:
        yield channel


async def _wait_until_listening(path: Path) -> int:
    """Wait until a process listens on the unix socket; its id.

    Raises:
        ProcessNotReady: None does in time.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(_START_TIMEOUT):
            while True:
                with suppress(FileNotFoundError, ConnectionRefusedError), socket.socket(socket.AF_UNIX) as client:
                    client.connect(str(path))
                    pid: int = _CREDENTIALS.unpack(
                        client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
                    )[0]
                    return pid
                await asyncio.sleep(_START_POLL)
    raise ProcessNotReady(f"no controller listens on {path} after {_START_TIMEOUT:g} s")


async def _raise_when_ended(sandbox: Sandbox, contender: Contender, process: Process) -> None:
    code = await process.wait()
    tail = await log_tail(sandbox, "controller")
    raise ProcessEnded(f"the controller ({contender.name}) ended with code {code}: {tail}")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
