"""From a request to its reply: authenticate, parse, throttle, apply planned faults, call the handler, write it."""

import asyncio
import functools
import logging
import re
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from hyperpod_ebs.emulator.call_log import CallLog, ConnectionDropped, Entry, Signer
from hyperpod_ebs.emulator.http import auth, unknown_service
from hyperpod_ebs.emulator.http.auth import Caller, SigningKeys
from hyperpod_ebs.emulator.http.faults import Faults, When
from hyperpod_ebs.emulator.http.latency import Latency, no_latency
from hyperpod_ebs.emulator.http.signature import Claim, Malformed
from hyperpod_ebs.emulator.http.throttle import Throttle
from hyperpod_ebs.emulator.identity.identities import Identity, UnknownKey
from hyperpod_ebs.emulator.wire import models
from hyperpod_ebs.emulator.wire.messages import Reply, Request
from hyperpod_ebs.emulator.wire.operations import Answer, AwsFault, Call, Operations, Parameters
from hyperpod_ebs.emulator.wire.protocols import Wire, wire_of
from hyperpod_ebs.kit.files import off_loop

LOADING: Final = 60.0
"""Maximum seconds to load the services' models; loading takes about 0.3 s on an idle machine."""

_SERVICE_NAME: Final = re.compile(r"[a-z0-9-]{1,40}", re.ASCII)
"""A name that can be that of a service; the log does not show anything else that a request contains."""

log: Final = logging.getLogger(__name__)

Pause = Callable[[], AbstractAsyncContextManager[None]]
"""A block in which nothing else changes the state."""

Bound = Callable[[Parameters, Call], Awaitable[Answer]]
"""A handler bound to its object."""


class Service(Protocol):
    """An object that answers some operations of a service; several objects together can be one service."""

    @property
    def operations(self) -> Operations[Any]:  # Any: the object's own class
        """The operations that the object answers, and its methods for them."""
        ...


class AccessControl(SigningKeys, Protocol):
    """Knows the owners of access keys, and what they may do."""

    def caller(self, key_id: str) -> Identity:
        """The owner of an access key, or the role session with it."""
        ...

    def check(self, call: Call, parameters: Parameters) -> None:
        """Check that the caller may make the call.

        Raises:
            AwsFault: No policy allows the call, or one denies it.
        """
        ...

    def planned_denial(self, call: Call, parameters: Parameters) -> AwsFault:
        """The error of the call if no policy allowed it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Endpoint:
    """A service: its wire protocol and its handlers."""

    name: str
    wire: Wire
    handlers: Mapping[str, Bound]
    unsigned: frozenset[str]
    """The operations that need no signature."""

    pausing: frozenset[str]
    """The operations during which nothing else changes the state."""


def handlers_of(service: str, objects: Sequence[Service]) -> Mapping[str, Bound]:
    """The handlers of `service` by operation.

    Raises:
        ValueError: Two of the objects answer the same operation.
    """
    handlers: dict[str, Bound] = {}
    for owner in objects:
        for name in owner.operations:
            if name in handlers:
                raise ValueError(f"operation {name} of {service} has two handlers: remove one of them")
            handlers[name] = functools.partial(owner.operations[name], owner)
    return handlers


class Dispatcher:
    """The services of one emulator behind one HTTP endpoint."""

    def __init__(  # noqa: PLR0913 - the parts of a dispatcher
        self,
        *,
        services: Mapping[str, Sequence[Service]],
        access: AccessControl,
        faults: Faults,
        throttle: Throttle,
        latency: Latency = no_latency,
        call_log: CallLog | None = None,
        pause: Pause = nullcontext,
    ) -> None:
        """Create the dispatcher.

        Args:
            services: The objects that serve each service, by signing name.
            access: The access keys to accept, and what their owners may do.
            faults: The planned faults.
            throttle: The account's token buckets.
            latency: How long each operation's answer takes.
            call_log: Records the calls; None for a log that only the dispatcher uses.
            pause: A block that begins with no state change pending, and in which nothing else changes the state.
        """
        self.call_log = call_log or CallLog()
        self._services = services
        self._handlers = {name: handlers_of(name, objects) for name, objects in services.items()}
        self._access = access
        self._faults = faults
        self._throttle = throttle
        self._latency = latency
        self._pause = pause
        self._endpoints: dict[str, _Endpoint] = {}
        self._closing = asyncio.Event()

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[None]:
        """Load the services' models, and end all delays at the end of the block.

        Raises:
            ValueError: A service's model lacks an operation that has a handler.
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
            if unknown := sorted(set(handlers) - set(model.operation_names)):
                raise ValueError(f"service {name} has no operation {unknown[0]}: correct the name at its handler")
            missing = {each for each in model.operation_names if each not in handlers}
            unsigned = {each for each in missing if model.operation_model(each).auth_type == "none"}
            tables = [each.operations for each in self._services[name]]
            self._endpoints[name] = _Endpoint(
                name=name,
                wire=wire_of(model),
                handlers=handlers,
                unsigned=frozenset(unsigned.union(*(table.unsigned for table in tables))),
                pausing=frozenset(operation for table in tables for operation in table.pausing),
            )

    async def answer(self, request: Request) -> Reply:
        """Answer any request.

        Raises:
            ConnectionDropped: A planned fault drops the connection.
        """
        request_id = str(uuid.uuid4())
        claim = auth.read_claim(request)
        service = self._service(request, claim)
        if (endpoint := self._endpoints.get(service)) is None:
            return self._refuse_service(request, service, request_id)
        try:
            return await self._answer(endpoint, request, claim, request_id)
        except AwsFault as fault:
            return endpoint.wire.write_error(fault, request_id)
        except UnknownKey:  # the key was deleted after its signature was verified
            return endpoint.wire.write_error(auth.unknown_key(endpoint.name), request_id)
        except ConnectionDropped:
            raise
        except Exception:
            log.exception("call failed", extra={"service": service, "request_id": request_id})
            return endpoint.wire.write_error(endpoint.wire.internal_error(), request_id)

    def refuse_body(self, request: Request, limit: int) -> Reply:
        """The reply to a request, here without its body, whose body has more than `limit` bytes."""
        request_id = str(uuid.uuid4())
        service = self._service(request, auth.read_claim(request))
        if (endpoint := self._endpoints.get(service)) is None:
            return self._refuse_service(request, service, request_id)
        fault = AwsFault("RequestEntityTooLargeException", f"The request has more than {limit} bytes", 413)
        with suppress(AwsFault), self._record(f"{service}:?", request, request_id):
            raise fault
        return endpoint.wire.write_error(fault, request_id)

    def _refuse_service(self, request: Request, service: str, request_id: str) -> Reply:
        """The reply to a request for a service that is not emulated."""
        name = service if _SERVICE_NAME.fullmatch(service) else "?"
        with suppress(AwsFault), self._record(f"{name}:?", request, request_id):
            raise AwsFault(unknown_service.CODE, "", unknown_service.STATUS)
        return unknown_service.reply(request, service, sorted(self._endpoints), request_id)

    async def _answer(
        self, endpoint: _Endpoint, request: Request, claim: Claim | Malformed | None, request_id: str
    ) -> Reply:
        operation = _requested_operation(endpoint, request)
        name = "?" if isinstance(operation, AwsFault) else operation
        with self._record(f"{endpoint.name}:{name}", request, request_id) as entry:
            is_signed = name not in endpoint.unsigned or isinstance(claim, Claim)
            caller = self._authenticate(endpoint, request, claim) if is_signed else None
            identity = self._access.caller(caller.key_id) if caller else None
            entry.signer = _signer(caller, identity) if caller and identity else None
            if isinstance(operation, AwsFault):
                raise operation
            if operation not in endpoint.handlers:
                raise _not_emulated(endpoint, operation)
            self.call_log.accept(entry)
            call = _call(endpoint, operation, caller, identity, request, request_id)
            entry.decisions = call.decisions
            parameters = endpoint.wire.parse(operation, request)
            entry.add_resources(parameters)
            if (refusal := self._throttle.take(call, parameters)) is not None:
                self.call_log.count_throttled(entry)
                raise refusal
            await self._apply_fault(call, parameters, "before")
            try:
                answer = await self._call_handler(endpoint, parameters, call)
            except AwsFault:
                await self._delay_answer(call)
                raise
            entry.add_resources(answer)
            reply = endpoint.wire.write(operation, answer, request_id)
            if not await self._apply_fault(call, parameters, "after"):
                await self._delay_answer(call)
        return reply

    async def _call_handler(self, endpoint: _Endpoint, parameters: Parameters, call: Call) -> Answer:
        """Run the steps that are due, check that the caller may make the call, and make it.

        Nothing waits between the check and the handler, so the state that they see is the same.
        """
        if call.operation in endpoint.pausing:
            async with self._pause():
                return await self._carry_out(endpoint.handlers[call.operation], parameters, call)
        async with self._pause():
            pass  # only runs the steps that are due; no other task runs before the handler's first wait
        return await self._carry_out(endpoint.handlers[call.operation], parameters, call)

    async def _carry_out(self, handler: Bound, parameters: Parameters, call: Call) -> Answer:
        if call.key_id:
            self._access.check(call, parameters)
        return await handler(parameters, call)

    async def _delay_answer(self, call: Call) -> None:
        """Wait for the latency of the call, or until the server stops."""
        if seconds := self._latency(call.service, call.operation):
            await self._wait_for_close(seconds)

    def _record(self, operation: str, request: Request, request_id: str) -> AbstractContextManager[Entry]:
        agent = request.headers.get("user-agent", "")
        return self.call_log.record(operation, request_id=request_id, agent=agent, source_ip=request.source_ip)

    def _authenticate(self, endpoint: _Endpoint, request: Request, claim: Claim | Malformed | None) -> Caller:
        return auth.authenticate(request, claim, service=endpoint.name, keys=self._access, now=datetime.now(UTC))

    async def _apply_fault(self, call: Call, parameters: Parameters, when: When) -> bool:
        """Apply the planned fault of this call; return whether there is one.

        Raises:
            AwsFault: The planned error.
            ConnectionDropped: The plan drops the connection, or the server stops during a planned delay.
        """
        if (plan := self._faults.take(f"{call.service}:{call.operation}", when)) is None:
            return False
        closing = plan.delay and await self._wait_for_close(plan.delay)
        if plan.drop or closing:
            raise ConnectionDropped
        if plan.deny:
            raise self._access.planned_denial(call, parameters)
        if plan.fault is not None:
            raise plan.fault
        return True

    async def _wait_for_close(self, seconds: float) -> bool:
        """Wait for `seconds` or until the server stops; return whether it stops."""
        try:
            async with asyncio.timeout(seconds):
                return await self._closing.wait()
        except TimeoutError:
            return False

    def _service(self, request: Request, claim: Claim | Malformed | None) -> str:
        """The service that a request was signed for, or resembles; empty if it resembles no service's requests."""
        if isinstance(claim, Claim) and claim.service:
            return claim.service
        return next((name for name, endpoint in self._endpoints.items() if endpoint.wire.resembles(request)), "")


def _requested_operation(endpoint: _Endpoint, request: Request) -> str | AwsFault:
    """The operation that is requested, or the error if the service's model does not have it."""
    try:
        return endpoint.wire.operation(request)
    except AwsFault as fault:
        return fault


def _not_emulated(endpoint: _Endpoint, operation: str) -> AwsFault:
    """The error for an operation that AWS has and the emulator lacks: the service's for unknown ones, with the name."""
    fault = endpoint.wire.unknown_operation(operation)
    return AwsFault(fault.code, f"operation {operation} of {endpoint.name} is not emulated", fault.status)


def _signer(caller: Caller, identity: Identity) -> Signer:
    session = identity.session
    return Signer(
        principal=identity.principal,
        user_id=identity.user_id,
        key_id=caller.key_id,
        issued=session.issued if session else None,
        has_mfa=session.has_mfa if session else False,
    )


def _call(  # noqa: PLR0913, PLR0917 - what a call consists of
    endpoint: _Endpoint,
    operation: str,
    caller: Caller | None,
    identity: Identity | None,
    request: Request,
    request_id: str,
) -> Call:
    return Call(
        service=endpoint.name,
        operation=operation,
        account=identity.principal.account if identity else "",
        arn=identity.principal.arn if identity else "",
        user_id=identity.user_id if identity else "",
        region=caller.region if caller else "",
        request_id=request_id,
        key_id=caller.key_id if caller else "",
        source_ip=request.source_ip,
        agent=request.headers.get("user-agent", ""),
    )
