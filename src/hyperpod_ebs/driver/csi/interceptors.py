"""What stands before every call: a deadline, a request id, the error table, one line in the log.

The deadline passes a moment before the caller's own, so that the caller still
hears what is under way and that asking again joins it. Deadlines are also how
calls are handed back at the end: each is moved to now.
"""

import asyncio
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

from hyperpod_ebs.driver.csi import secrets, status
from hyperpod_ebs.driver.model import errors

DEADLINE: Final = 120.0
"""Seconds for a call that comes without a deadline: what kubelet gives its own."""

MARGIN: Final = 0.1
"""Seconds before the caller's deadline at which it is answered."""

OBJECTS: Final = (
    "name",
    "volume_id",
    "snapshot_id",
    "source_volume_id",
    "node_id",
    "staging_target_path",
    "target_path",
    "volume_path",
)
"""Fields that tell what a call is about."""

QUIET: Final = frozenset(
    {
        "Check",
        "ControllerGetCapabilities",
        "GetPluginCapabilities",
        "GetPluginInfo",
        "NodeGetCapabilities",
        "NodeGetVolumeStats",
        "Probe",
    }
)
"""Calls that come every few seconds and change nothing: told only in detail."""

log = structlog.get_logger()


class Measure(Protocol):
    """Counts calls."""

    def count_csi_call(self, method: str, code: str, seconds: float) -> None:
        """Count one, by gRPC's own word for its end."""


Method = Callable[[Any, Any], Any]  # a servicer's method: grpc's own types say no more
Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    """One call."""

    name: str
    method: Method
    id: str
    request: Message
    began: float

    def __call__(self, context: Context) -> Awaitable[Message]:
        """Answer it. What the generated base class answers is no coroutine, but raises at once."""
        answer: Awaitable[Message] = self.method(self.request, context)
        return answer

    @property
    def told(self) -> dict[str, object]:
        """What the log says of it."""
        objects = {name: value for name in OBJECTS if (value := getattr(self.request, name, ""))}
        return {"call": self.name, **objects, "took": round(time.monotonic() - self.began, 3)}


class Calls(grpc.aio.ServerInterceptor):
    """All calls of a server, and the door that they leave by."""

    def __init__(self, measure: Measure | None = None) -> None:
        """`measure` is told of each call that is answered."""
        self._bounds: set[asyncio.Timeout] = set()
        self._stopping = False
        self._measure = measure

    def hand_back(self) -> None:
        """Answer every call that still runs with UNAVAILABLE, now."""
        self._stopping = True
        for bound in self._bounds:
            if not bound.expired():
                bound.reschedule(asyncio.get_running_loop().time())

    async def intercept_service(
        self,
        continuation: "Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]]",
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:  # grpc allows None for an unknown method, its stubs do not
        """The handler of a call, with everything of this module around it; streams pass as they are."""
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
        call = _Call(name=name, method=method, id=os.urandom(4).hex(), request=request, began=time.monotonic())
        with structlog.contextvars.bound_contextvars(request=call.id):
            log.debug("call came", call=name, asked=_text(request))
            try:
                answer = await self._bounded(call, context)
            except asyncio.CancelledError:
                if _given_up():
                    log.info("call given up by its caller", **call.told)
                    self._count(call, StatusCode.CANCELLED)
                    raise
                error: Exception = errors.Unavailable(f"{name} was cut off: the driver is stopping; ask again")
            except Exception as raised:  # noqa: BLE001 - the one place where errors become answers
                error = raised
            else:
                (log.debug if name in QUIET else log.info)("call answered", **call.told)
                self._count(call, StatusCode.OK)
                return answer
            self._count(call, status.code_for(error, call.name))
            return await _refuse(call, error, context)

    def _count(self, call: _Call, code: StatusCode) -> None:
        if self._measure is not None:
            self._measure.count_csi_call(call.name, code.name, time.monotonic() - call.began)

    async def _bounded(self, call: _Call, context: Context) -> Message:
        """The answer, if it comes before the deadline.

        Raises:
            TimedOut: The deadline passed; what was begun goes on and can be joined.
            Unavailable: The driver is stopping.
        """
        remaining = context.time_remaining()
        seconds = DEADLINE if remaining is None else max(remaining - MARGIN, 0.0)
        bound = asyncio.timeout(seconds)
        try:
            async with bound:
                self._bounds.add(bound)
                return await call(context)
        except TimeoutError as error:
            if not bound.expired():
                raise
            took = time.monotonic() - call.began
            if self._stopping:
                raise errors.Unavailable(
                    f"{call.name} was cut off after {took:.1f} s: the driver is stopping; ask again"
                ) from error
            raise errors.TimedOut(
                f"{call.name} is not done after {took:.1f} s and goes on; ask again to join it"
            ) from error
        finally:
            self._bounds.discard(bound)


async def _refuse(call: _Call, error: Exception, context: Context) -> Message:
    """Tell the log once, and the caller."""
    code, message = status.code_for(error, call.name), status.message_for(error, call.name, call.id)
    if not status.known(error):
        log.error("call failed by a fault of ours", **call.told, code=code.name, exc_info=error)
    elif code is StatusCode.UNIMPLEMENTED:
        log.debug("call refused", **call.told, code=code.name)
    else:
        log.warning("call refused", **call.told, code=code.name, why=message)
    await context.abort(code, message)


def _given_up() -> bool:
    """Whether the call itself is cancelled, rather than an operation that it joined."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _text(request: Message) -> str:
    return text_format.MessageToString(secrets.stripped(request), as_one_line=True)
