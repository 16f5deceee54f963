"""Surround each call with a deadline, a request id, the error table, and one line in the log.

The driver's deadline passes a moment before the caller's. So the caller still receives the message that the operation
is running and that a repeated call joins it. When the process stops, it moves all deadlines to now.
"""

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol

import grpc
import structlog
from google.protobuf import text_format
from google.protobuf.message import Message
from grpc import StatusCode

from hyperpod_ebs.driver.csi import parse, status
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.kit import operations

DEADLINE: Final = 120.0
"""Seconds for a call without a deadline; kubelet gives its calls as many."""

MARGIN: Final = 0.1
"""Seconds before the caller's deadline at which the driver answers."""

OBJECT_FIELDS: Final = (
    "name",
    "volume_id",
    "snapshot_id",
    "source_volume_id",
    "node_id",
    "staging_target_path",
    "target_path",
    "volume_path",
)
"""The fields of a request that say which object the call is about."""

FREQUENT_CALLS: Final = frozenset(
    {
        "Check",
        "ControllerGetCapabilities",
        "GetPluginCapabilities",
        "GetPluginInfo",
        "NodeGetCapabilities",
        "NodeGetVolumeStats",
        "NodeGetVolumeHealth",
        "Probe",
    }
)
"""Calls that come every few seconds and change nothing; their answers are logged at level debug only."""

log = structlog.get_logger()


class Measure(Protocol):
    """Counts calls."""

    def count_csi_call(self, method: str, code: str, seconds: float) -> None:
        """Count a call by its gRPC code's name."""


Method = Callable[[Any, Any], Any]  # a servicer's method; gRPC's own types do not say more
Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    name: str
    method: Method
    id: str
    request: Message
    started_at: float

    def __call__(self, context: Context) -> Awaitable[Message]:
        """Answer the call. A method of the generated base class raises at once instead of returning a coroutine."""
        answer: Awaitable[Message] = self.method(self.request, context)
        return answer

    @property
    def log_fields(self) -> dict[str, object]:
        """The call's name, objects and age, for the log."""
        objects = {name: value for name in OBJECT_FIELDS if (value := getattr(self.request, name, ""))}
        return {"call": self.name, **objects, "took": round(time.monotonic() - self.started_at, 3)}


class Calls(grpc.aio.ServerInterceptor):
    """All calls of a server."""

    def __init__(self, measure: Measure | None = None) -> None:
        """`measure` counts the calls that are answered."""
        self._timeouts: set[asyncio.Timeout] = set()
        self._is_stopping = False
        self._measure = measure

    def end_as_unavailable(self) -> None:
        """Answer every running call with UNAVAILABLE now."""
        self._is_stopping = True
        for timeout in self._timeouts:
            if not timeout.expired():
                timeout.reschedule(asyncio.get_running_loop().time())

    async def intercept_service(
        self,
        continuation: "Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]]",
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:  # gRPC allows None for an unknown method, its stubs do not
        """Wrap the handler of a call; streams stay as they are."""
        handler = await continuation(handler_call_details)
        if handler is None or handler.unary_unary is None:
            return handler
        name = handler_call_details.method.rpartition("/")[2]
        return grpc.unary_unary_rpc_method_handler(
            partial(self._answer, name, handler.unary_unary),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    async def _answer(self, name: str, method: Method, request: Message, context: Context) -> Message:
        call = _Call(name=name, method=method, id=os.urandom(4).hex(), request=request, started_at=time.monotonic())
        with structlog.contextvars.bound_contextvars(request=call.id):
            logs_details = log.is_enabled_for(logging.DEBUG)
            if logs_details:  # the text costs as much as the rest of a small call
                text = text_format.MessageToString(parse.without_secrets(request), as_one_line=True)
                log.debug("call received", call=name, fields=text)
            try:
                answer = await self._run_with_deadline(call, context)
            except asyncio.CancelledError:
                # The cancellation may be that of the call itself, or of an operation that the call joined.
                task = asyncio.current_task()
                if task is not None and task.cancelling() > 0:
                    log.info("call cancelled by its caller", **call.log_fields)
                    self._count(call, StatusCode.CANCELLED)
                    raise
                error: Exception = errors.Unavailable(f"{name} was interrupted: the driver is stopping; try again")
            except Exception as raised:  # noqa: BLE001 - the only place where errors become answers
                error = raised
            else:
                if name not in FREQUENT_CALLS:
                    log.info("call answered", **call.log_fields)
                elif logs_details:
                    log.debug("call answered", **call.log_fields)
                self._count(call, StatusCode.OK)
                return answer
            self._count(call, status.code_for(error, call.name))
            return await _fail(call, error, context)

    def _count(self, call: _Call, code: StatusCode) -> None:
        if self._measure is not None:
            self._measure.count_csi_call(call.name, code.name, time.monotonic() - call.started_at)

    async def _run_with_deadline(self, call: _Call, context: Context) -> Message:
        """Run the call until its deadline.

        Raises:
            TimedOut: The deadline has passed. If the call has an operation, it continues, and another call can join it.
            Unavailable: The driver is stopping, or the operation still waits for its turn to call AWS.
        """
        remaining = context.time_remaining()
        seconds = DEADLINE if remaining is None else max(remaining - MARGIN, 0.0)
        timeout = asyncio.timeout(seconds)
        try:
            async with timeout:
                self._timeouts.add(timeout)
                return await call(context)
        except TimeoutError as error:
            if not timeout.expired():
                raise
            took = time.monotonic() - call.started_at
            if self._is_stopping:
                raise errors.Unavailable(
                    f"{call.name} was interrupted after {took:.0f} s: the driver is stopping; try again"
                ) from error
            if not operations.has_joined():
                raise errors.TimedOut(
                    f"{call.name} was ended after {took:.0f} s, because its deadline has passed; try again"
                ) from error
            if wait := operations.joined_wait():
                raise errors.Unavailable(
                    f"{call.name} is still running after {took:.0f} s: {wait}; try again to join it"
                ) from error
            raise errors.TimedOut(f"{call.name} is still running after {took:.0f} s; try again to join it") from error
        finally:
            self._timeouts.discard(timeout)


async def _fail(call: _Call, error: Exception, context: Context) -> Message:
    """Log the error once, and answer the caller with it."""
    code, message = status.code_for(error, call.name), status.message_for(error, call.name)
    if not status.is_expected(error):
        log.error("call failed because of a bug in the driver", **call.log_fields, code=code.name, exc_info=error)
    elif code is StatusCode.UNIMPLEMENTED:
        log.debug("call failed", **call.log_fields, code=code.name)
    else:
        log.warning("call failed", **call.log_fields, code=code.name, why=message)
    await context.abort(code, message)
