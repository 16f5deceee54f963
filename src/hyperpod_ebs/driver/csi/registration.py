"""Register the driver with this node's kubelet, without a node-driver-registrar.

Kubelet finds the socket and asks for the plugin's name. Then it asks the driver's own socket for the node's identity,
writes that into the CSINode, and reports the result here. An attempt that must fail causes only an error event, so the
socket appears when the node's identity is known, and not before. After a failed attempt the driver removes the socket
and creates it again, which makes kubelet try again. It does the same when another program has removed the socket,
because kubelet has then unregistered the driver. When the process ends it removes the socket, and kubelet unregisters
the driver.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from hyperpod_ebs.driver.csi.endpoint import PublishedSocket, new_server, start_server
from hyperpod_ebs.driver.csi.interceptors import Context
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.kubernetes_node import DRIVER
from hyperpod_ebs.driver.observe.condition import Condition
from hyperpod_ebs.pb import pluginregistration_pb2, pluginregistration_pb2_grpc

PART: Final = "registration with kubelet"
TYPE: Final = "CSIPlugin"
VERSIONS: Final = ("1.0.0",)
"""Kubelet reads this as "any version 1.x"."""

PATIENCE: Final = 60.0
"""Seconds within which kubelet should report a result: it notices a new socket at once."""

_FIRST_PAUSE: Final = 0.5
_MAX_PAUSE: Final = 15.0
_BACKOFF_FACTOR: Final = 2.0
_GRACE: Final = 1.0
"""Seconds that a running answer has to reach kubelet."""

log = structlog.get_logger()

_Status = pluginregistration_pb2.RegistrationStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Plugin:
    """How kubelet finds the driver."""

    directory: Path
    """Kubelet's `plugins_registry`, as this process sees it."""
    endpoint: str
    """The path of the driver's own socket, as kubelet sees it."""

    @property
    def socket(self) -> Path:
        """The path of the registration socket; kubelet looks at every socket in its directory."""
        return self.directory / f"{DRIVER}-reg.sock"


class Registrar(pluginregistration_pb2_grpc.RegistrationServicer):
    """Answers kubelet, and keeps the results that kubelet reports."""

    def __init__(self, plugin: Plugin) -> None:
        self._plugin = plugin
        self.statuses: asyncio.Queue[_Status] = asyncio.Queue()

    async def GetInfo(  # noqa: N802 - kubelet's name
        self, request: pluginregistration_pb2.InfoRequest, context: Context
    ) -> pluginregistration_pb2.PluginInfo:
        """Name the plugin and its socket."""
        del request, context
        return pluginregistration_pb2.PluginInfo(
            type=TYPE, name=DRIVER, endpoint=self._plugin.endpoint, supported_versions=VERSIONS
        )

    async def NotifyRegistrationStatus(  # noqa: N802 - as above
        self, request: _Status, context: Context
    ) -> pluginregistration_pb2.RegistrationStatusResponse:
        """Keep the result of a registration."""
        del context
        self.statuses.put_nowait(request)
        return pluginregistration_pb2.RegistrationStatusResponse()


class Registration:
    """The driver's registration with kubelet, which holds while `run` runs."""

    def __init__(self, plugin: Plugin, condition: Condition, *, patience: float = PATIENCE) -> None:
        """`condition` receives the reason for which the driver is not registered."""
        self._plugin = plugin
        self._condition = condition
        self._patience = patience
        self._pause = _FIRST_PAUSE
        self.registered = asyncio.Event()
        """Set each time that kubelet has registered the driver; its reader clears it."""

    async def run(self, wait_until_known: Callable[[], Awaitable[object]]) -> None:
        """Register the driver, and register it again after each failure, until cancelled.

        Args:
            wait_until_known: Returns when the driver can answer NodeGetInfo.
        """
        while True:
            await wait_until_known()
            try:
                failure = await self._serve_until_failure()
            except errors.Error as error:
                failure = str(error)
            self._condition.report(PART, failure)
            await asyncio.sleep(self._pause)
            self._pause = min(self._pause * _BACKOFF_FACTOR, _MAX_PAUSE)

    async def _serve_until_failure(self) -> str:
        """Serve the socket until kubelet reports a failure, or does not report in time; return the reason."""
        registrar, server = Registrar(self._plugin), new_server()
        pluginregistration_pb2_grpc.add_RegistrationServicer_to_server(registrar, server)
        async with start_server(server, self._plugin.socket) as published, asyncio.TaskGroup() as tasks:
            log.info("registration offered", socket=str(self._plugin.socket), endpoint=self._plugin.endpoint)
            watching = tasks.create_task(_report_loss(published, registrar))
            reason = await self._follow(registrar)
            watching.cancel()
            await server.stop(_GRACE)
        return f"kubelet has not registered the driver: {reason}"

    async def _follow(self, registrar: Registrar) -> str:
        """Follow what kubelet reports, until it is a failure; return the reason."""
        try:
            async with asyncio.timeout(self._patience):
                status = await registrar.statuses.get()
        except TimeoutError:
            return (
                f"it did not use {self._plugin.socket} within {self._patience:g} s; "
                "set --plugin-registration-path to kubelet's directory plugins_registry"
            )
        while status.plugin_registered:
            log.info("registered with kubelet", endpoint=self._plugin.endpoint)
            self._pause = _FIRST_PAUSE
            self._condition.report(PART, None)
            self.registered.set()
            status = await registrar.statuses.get()
        return status.error or "it gave no reason"


async def _report_loss(published: PublishedSocket, registrar: Registrar) -> None:
    """Report a failure when the registration socket is no longer at its path."""
    await published.wait_until_lost()
    error = f"{published.path} was removed; the driver offers the registration again"
    registrar.statuses.put_nowait(_Status(plugin_registered=False, error=error))
