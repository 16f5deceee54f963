"""What every driver process does around its services: check the flags, set up the log, serve, stop on a signal."""

import asyncio
import signal
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import structlog

from hyperpod_ebs import __version__
from hyperpod_ebs.driver.app import monitoring, upstream_flags
from hyperpod_ebs.driver.app.options import ControllerOptions, ServingOptions
from hyperpod_ebs.driver.csi import endpoint, server
from hyperpod_ebs.driver.csi.server import Services
from hyperpod_ebs.driver.observe import log
from hyperpod_ebs.driver.observe.condition import Condition

if TYPE_CHECKING:  # only a process that serves metrics loads their client library
    from hyperpod_ebs.driver.observe.metrics import Metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """What the services of a process share, and the signal that stops it."""

    options: ServingOptions
    condition: Condition
    metrics: "Metrics | None"
    stop: asyncio.Event
    """Set by SIGTERM and SIGINT."""

    @classmethod
    def prepare(cls, options: ServingOptions, controller: ControllerOptions | None = None) -> Self:
        """Configure the log, check the flags, and handle signals from now on.

        Raises:
            InvalidRequest: A flag has an invalid value.
        """
        log.configure(options.v, options.logging_format)
        endpoint.parse(options.endpoint)  # before the services start, which may take a while
        monitoring.check_options(options)
        if controller:
            upstream_flags.check_options(controller)
        for warning in upstream_flags.warnings(options, controller):
            structlog.get_logger().warning("compatibility flag", why=warning)
        condition = Condition()
        deprecated_metrics = controller is not None and controller.deprecated_metrics
        metrics = monitoring.create_metrics(options, condition, deprecated=deprecated_metrics)
        return cls(options=options, condition=condition, metrics=metrics, stop=_stop_signal())

    async def serve(
        self,
        services: Services,
        *alongside: AbstractAsyncContextManager[None],
        state: Callable[[], Mapping[str, object]] = dict,
    ) -> None:
        """Serve the CSI services and the monitoring pages until a signal arrives.

        The contexts `alongside` are entered as soon as the services answer, and left before they stop. `state` returns
        what /debug/state shows besides the running operations.
        """
        serving = server.serve(
            self.options.endpoint,
            services,
            drain=self.options.drain_seconds,
            condition=self.condition,
            measure=self.metrics,
        )

        def whole_state() -> Mapping[str, object]:
            operations = [each for running in services.operations for each in running.states()]
            return {"version": __version__, "problem": str(self.condition), "operations": operations, **state()}

        pages = monitoring.serve_pages(self.options, self.condition, self.metrics, whole_state)
        async with serving as path, pages:
            structlog.get_logger().info("serving", socket=str(path), services=services.names, version=__version__)
            async with AsyncExitStack() as stack:
                for context in alongside:
                    await stack.enter_async_context(context)
                await self.stop.wait()
                structlog.get_logger().info("stopping", within=self.options.drain_seconds)


def _stop_signal() -> asyncio.Event:
    """Return an event that SIGTERM and SIGINT set."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop
