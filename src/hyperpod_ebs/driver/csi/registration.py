"""Makes the driver known to this node's kubelet, without a registrar beside it.

Kubelet finds the socket, asks who is there, then asks the driver's own socket who the
node is, writes that into the CSINode, and tells here what became of it. So the socket
appears when the node is known, and not before: an attempt that must fail is only an
error event. After an attempt that did fail the socket is taken away and made anew,
upon which kubelet tries again. At the end it goes, and kubelet forgets the driver.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc
import structlog

from hyperpod_ebs.driver.csi import listening
from hyperpod_ebs.driver.csi.interceptors import Context
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.kubernetes_node import DRIVER
from hyperpod_ebs.driver.observe.condition import Condition
from hyperpod_ebs.pb import pluginregistration_pb2, pluginregistration_pb2_grpc

PART: Final = "registration with kubelet"
TYPE: Final = "CSIPlugin"
VERSIONS: Final = ("1.0.0",)
"""Kubelet reads it as "any 1.x"."""

PATIENCE: Final = 60.0
"""Seconds in which kubelet should have said something: it looks at a new socket at once."""

_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 15.0
_SLOWER: Final = 2.0
_LAST_WORDS: Final = 1.0
"""Seconds that an answer under way has to reach kubelet."""

log = structlog.get_logger()

_Status = pluginregistration_pb2.RegistrationStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Plugin:
    """How kubelet is to know the driver."""

    directory: Path
    """Kubelet's `plugins_registry`, as this process sees it."""
    endpoint: str
    """The path of the driver's own socket, as kubelet sees it."""

    @property
    def socket(self) -> Path:
        """Where kubelet finds it; it looks at every socket in its directory."""
        return self.directory / f"{DRIVER}-reg.sock"


class Registrar(pluginregistration_pb2_grpc.RegistrationServicer):
    """Answers kubelet, and keeps what it says."""

    def __init__(self, plugin: Plugin) -> None:
        self._plugin = plugin
        self.statuses: asyncio.Queue[_Status] = asyncio.Queue()

    async def GetInfo(  # noqa: N802 - kubelet's name
        self, request: pluginregistration_pb2.InfoRequest, context: Context
    ) -> pluginregistration_pb2.PluginInfo:
        """Who is there."""
        del request, context
        return pluginregistration_pb2.PluginInfo(
            type=TYPE, name=DRIVER, endpoint=self._plugin.endpoint, supported_versions=VERSIONS
        )

    async def NotifyRegistrationStatus(  # noqa: N802 - as above
        self, request: _Status, context: Context
    ) -> pluginregistration_pb2.RegistrationStatusResponse:
        """What became of an attempt."""
        del context
        self.statuses.put_nowait(request)
        return pluginregistration_pb2.RegistrationStatusResponse()


class Registration:
    """The driver, known to kubelet for as long as `keep` runs."""

    def __init__(self, plugin: Plugin, condition: Condition, *, patience: float = PATIENCE) -> None:
        """`condition` is told what keeps the driver from being known."""
        self._plugin = plugin
        self._condition = condition
        self._patience = patience
        self._pause = _FIRST_PAUSE
        self.taken = asyncio.Event()
        """Set each time that kubelet has taken the driver; for its reader to clear."""

    async def keep(self, known: Callable[[], Awaitable[object]]) -> None:
        """Stay known to kubelet, until cancelled.

        Args:
            known: Comes back once NodeGetInfo can answer.
        """
        while True:
            await known()
            try:
                trouble = await self._attempt()
            except errors.Error as error:
                trouble = str(error)
            self._condition.report(PART, trouble)
            await asyncio.sleep(self._pause)
            self._pause = min(self._pause * _SLOWER, _LONGEST_PAUSE)

    async def _attempt(self) -> str:
        """Serve the socket until an attempt of kubelet's fails, or it makes none; why."""
        registrar, server = Registrar(self._plugin), grpc.aio.server()
        pluginregistration_pb2_grpc.add_RegistrationServicer_to_server(registrar, server)
        async with listening.listening(server, self._plugin.socket):
            log.info("registration offered", socket=str(self._plugin.socket), endpoint=self._plugin.endpoint)
            try:
                async with asyncio.timeout(self._patience):
                    status = await registrar.statuses.get()
            except TimeoutError:
                return (
                    f"kubelet has not taken the driver: it did not ask at {self._plugin.socket} within "
                    f"{self._patience:g} s; --plugin-registration-path has to be its directory plugins_registry"
                )
            while status.plugin_registered:
                self._succeeded()
                status = await registrar.statuses.get()
            await server.stop(_LAST_WORDS)
            return f"kubelet has not taken the driver: {status.error or 'it did not say why'}"

    def _succeeded(self) -> None:
        log.info("registered with kubelet", endpoint=self._plugin.endpoint)
        self._pause = _FIRST_PAUSE
        self._condition.report(PART, None)
        self.taken.set()
