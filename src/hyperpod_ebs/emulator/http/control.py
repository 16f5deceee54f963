"""Control routes for planned faults, token buckets, the call log, and health; for programs on this machine only."""

import ipaddress
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web

from hyperpod_ebs.emulator.call_log import REMEMBERED, CallLog
from hyperpod_ebs.emulator.http.account_limits import parse_changes
from hyperpod_ebs.emulator.http.faults import Faults, Plan
from hyperpod_ebs.emulator.http.throttle import Throttle

_NUMBER: Final = re.compile(r"[0-9]{1,9}")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def routes(*, faults: Faults, throttle: Throttle, call_log: CallLog) -> Sequence[web.RouteDef]:
    """The control routes of every emulator."""

    async def show_health(_: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    return [
        *_fault_routes(faults),
        *_throttle_routes(throttle),
        *_call_routes(call_log),
        web.get("/_emulator/health", show_health),
    ]


def _fault_routes(faults: Faults) -> Sequence[web.RouteDef]:
    async def add_plan(request: web.Request) -> web.Response:
        await _accept(request, lambda document: faults.add(Plan.parse(document)))
        return plans()

    async def show_plans(_: web.Request) -> web.Response:
        return plans()

    async def delete_plans(_: web.Request) -> web.Response:
        faults.clear()
        return plans()

    def plans() -> web.Response:
        documents = [plan.document() for plan in faults.plans()]
        return web.json_response({"left": faults.remaining(), "plans": documents})

    path = "/_emulator/faults"
    return [web.post(path, add_plan), web.get(path, show_plans), web.delete(path, delete_plans)]


def _throttle_routes(throttle: Throttle) -> Sequence[web.RouteDef]:
    async def change(request: web.Request) -> web.Response:
        await _accept(request, lambda document: throttle.change(parse_changes(document)))
        return buckets()

    async def show(_: web.Request) -> web.Response:
        return buckets()

    async def restore(_: web.Request) -> web.Response:
        throttle.restore()
        return buckets()

    def buckets() -> web.Response:
        return web.json_response({"buckets": throttle.document()})

    path = "/_emulator/throttle"
    return [web.post(path, change), web.get(path, show), web.delete(path, restore)]


async def _accept(request: web.Request, apply: Callable[[object], None]) -> None:
    """Apply the JSON document in the request; answer an error that says what is wrong with it."""
    # A web page can make a browser send a form here, but not JSON, which needs a preflight request (CORS).
    if request.content_type != "application/json":
        raise web.HTTPUnsupportedMediaType(text="send a document of type application/json\n")
    try:
        apply(await request.json())
    except ValueError as error:
        raise web.HTTPBadRequest(text=f"{error}\n") from error
    except RecursionError as error:
        raise web.HTTPBadRequest(text="the document has too many nested brackets\n") from error


def _call_routes(call_log: CallLog) -> Sequence[web.RouteDef]:
    async def show_counts(_: web.Request) -> web.Response:
        return web.json_response(call_log.counts)

    async def show_throttled(_: web.Request) -> web.Response:
        return web.json_response(call_log.throttled)

    async def clear(_: web.Request) -> web.Response:
        call_log.clear()
        return web.json_response(call_log.counts)

    async def show_latest(request: web.Request) -> web.Response:
        entries = call_log.latest(_number(request, "count", REMEMBERED), after=_number(request, "after", 0))
        calls = [entry.document() for entry in entries]
        return web.json_response({"last": call_log.last_number, "calls": calls})

    path = "/_emulator/calls"
    return [
        web.get(path, show_counts),
        web.delete(path, clear),
        web.get(f"{path}/throttled", show_throttled),
        web.get(f"{path}/latest", show_latest),
    ]


def local_only(route: web.RouteDef) -> web.RouteDef:
    """The route, but only for clients on this machine."""
    handler: Handler = route.handler

    async def check_client(request: web.Request) -> web.StreamResponse:
        if not _is_local(request):
            raise web.HTTPForbidden(text="this route is only for clients on the emulator's own machine\n")
        if _is_from_web_page(request):
            raise web.HTTPForbidden(text="this route is not for web pages: send no Origin, and an address as Host\n")
        return await handler(request)

    return web.RouteDef(route.method, route.path, check_client, route.kwargs)


def _is_local(request: web.Request) -> bool:
    """Whether the client's address is a loopback address, or the very address that it connected to."""
    return request.remote is not None and _is_own_address(request, request.remote)


def _is_from_web_page(request: web.Request) -> bool:
    """Whether a web page in a browser of this machine may have sent the request.

    A page can give its own name the address of this machine (DNS rebinding); then Host has that name. A browser adds
    Origin to each request that changes something (Fetch standard, "Origin header").
    """
    try:
        name = urlsplit(f"//{request.host}").hostname or ""
        is_address = name == "localhost" or ipaddress.ip_address(name).is_unspecified or _is_own_address(request, name)
    except ValueError:  # Host is a name or malformed
        return True
    return "Origin" in request.headers or not is_address


def _is_own_address(request: web.Request, address: str) -> bool:
    """Whether this is a loopback address, or the very address that the client connected to.

    Raises:
        ValueError: It is not an IP address.
    """
    if request.transport is None:
        return False
    own: tuple[str, int] = request.transport.get_extra_info("sockname")
    return ipaddress.ip_address(address).is_loopback or address == own[0]


def _number(request: web.Request, name: str, default: int) -> int:
    text = request.query.get(name, str(default))
    if not _NUMBER.fullmatch(text):
        raise web.HTTPBadRequest(text=f"{name} is {text!r}, not a number of at most 9 digits\n")
    return int(text)
