"""From a request to its reply: who asks, for what, what was planned to go wrong, and the answer."""

import asyncio
import functools
import logging
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from hyperpod_ebs.emulator.http import auth
from hyperpod_ebs.emulator.http.access_denied import denied
from hyperpod_ebs.emulator.http.auth import Keys
from hyperpod_ebs.emulator.http.faults import Faults, When
from hyperpod_ebs.emulator.http.journal import Dropped, Journal
from hyperpod_ebs.emulator.wire import models
from hyperpod_ebs.emulator.wire.messages import Reply, Request
from hyperpod_ebs.emulator.wire.operations import Answer, Asked, AwsFault, Call, Operations
from hyperpod_ebs.emulator.wire.protocols import Wire, wire_of
from hyperpod_ebs.kit.files import off_loop

LOADING: Final = 60.0
"""Seconds that the services' models may take to load: about 0.3 on an idle machine."""

log: Final = logging.getLogger(__name__)

Bound = Callable[[Asked, Call], Awaitable[Answer]]
"""A handler with its object."""


class Service(Protocol):
    """An object whose table says which operations it answers; several may make one service."""

    @property
    def operations(self) -> Operations[Any]:  # Any: the object's own class
        """The table."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Endpoint:
    """A service as it is spoken to."""

    name: str
    wire: Wire
    handlers: Mapping[str, Bound]


def handlers_of(service: str, objects: Sequence[Service]) -> Mapping[str, Bound]:
    """What answers each operation of `service`.

    Raises:
        ValueError: Two of the objects claim an operation.
    """
    handlers: dict[str, Bound] = {}
    for one in objects:
        for name in one.operations:
            if name in handlers:
                raise ValueError(f"operation {name} of {service} is claimed by two objects: take it from one of them")
            handlers[name] = functools.partial(one.operations[name], one)
    return handlers


class Dispatcher:
    """The services of one cloud behind one door."""

    def __init__(self, *, services: Mapping[str, Sequence[Service]], keys: Keys, faults: Faults) -> None:
        self.journal = Journal()
        self._handlers = {name: handlers_of(name, objects) for name, objects in services.items()}
        self._keys = keys
        self._faults = faults
        self._endpoints: dict[str, _Endpoint] = {}
        self._closing = asyncio.Event()

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[None]:
        """Have the services' models ready; delays that are planned end with the block.

        Raises:
            ValueError: An operation is not in its service's model.
        """
        await off_loop(self._load, deadline=LOADING)
        self._closing.clear()
        try:
            yield
        finally:
            self._closing.set()

    def _load(self) -> None:
        for name, handlers in self._handlers.items():
            model = models.load(name)
            if strange := sorted(set(handlers) - set(model.operation_names)):
                raise ValueError(f"service {name} has no operation {strange[0]}: correct its name in the table")
            self._endpoints[name] = _Endpoint(name=name, wire=wire_of(model), handlers=handlers)

    async def answer(self, request: Request) -> Reply:
        """The reply to `request`, whatever it is.

        Raises:
            Dropped: It is planned that there be none.
        """
        request_id = str(uuid.uuid4())
        service = auth.service_of(request) or self._likely(request)
        if (endpoint := self._endpoints.get(service)) is None:
            return _stray(service, sorted(self._endpoints), request_id)
        try:
            return await self._answer(endpoint, request, request_id)
        except AwsFault as fault:
            return endpoint.wire.refuse(fault, request_id)
        except Dropped:
            raise
        except Exception:
            log.exception("call failed", extra={"service": service, "request_id": request_id})
            return endpoint.wire.refuse(endpoint.wire.broken(), request_id)

    async def _answer(self, endpoint: _Endpoint, request: Request, request_id: str) -> Reply:
        caller = auth.authenticate(request, service=endpoint.name, keys=self._keys, now=datetime.now(UTC))
        operation = endpoint.wire.operation(request)
        if (handler := endpoint.handlers.get(operation)) is None:
            raise endpoint.wire.unknown(operation)
        call = Call(
            service=endpoint.name,
            operation=operation,
            account=caller.key.account,
            arn=caller.key.arn,
            user_id=caller.key.user_id,
            region=caller.region,
            request_id=request_id,
        )
        with self.journal.entry(f"{endpoint.name}:{operation}", request.headers.get("user-agent", "")) as entry:
            asked = endpoint.wire.parse(operation, request)
            entry.concerns(asked)
            await self._meet(call, asked, "before")
            answer = await handler(asked, call)
            entry.concerns(answer)
            reply = endpoint.wire.write(operation, answer, request_id)
            await self._meet(call, asked, "after")
        return reply

    async def _meet(self, call: Call, asked: Asked, when: When) -> None:
        """Do what is planned for this call.

        Raises:
            AwsFault: The planned one.
            Dropped: Silence is planned, or the door closes during a planned delay.
        """
        if (plan := self._faults.take(f"{call.service}:{call.operation}", when)) is None:
            return
        closing = plan.delay and await self._closes_within(plan.delay)
        if plan.drop or closing:
            raise Dropped
        if plan.deny:
            raise denied(call, asked)
        if plan.fault is not None:
            raise plan.fault

    async def _closes_within(self, seconds: float) -> bool:
        """Wait; whether the door was closed meanwhile."""
        try:
            async with asyncio.timeout(seconds):
                return await self._closing.wait()
        except TimeoutError:
            return False

    def _likely(self, request: Request) -> str:
        """The service that an unsigned request looks like one for."""
        return next((name for name, endpoint in self._endpoints.items() if endpoint.wire.claims(request)), "")


def _stray(service: str, services: Sequence[str], request_id: str) -> Reply:
    """The reply to a request that is for no service here."""
    message = f"service {service or 'of this request'} is not here: there are {', '.join(services)}"
    return Reply(
        status=404,
        headers={"content-type": "text/plain;charset=UTF-8", "x-amzn-requestid": request_id},
        body=message.encode(),
    )
