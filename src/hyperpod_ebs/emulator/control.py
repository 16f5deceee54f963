"""The emulator's own routes: planned faults, counts of calls, health; for this machine only."""

import ipaddress
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

from aiohttp import web

from hyperpod_ebs.emulator.faults import Faults, Plan

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def routes(*, faults: Faults, calls: Counter[str]) -> Sequence[web.RouteDef]:
    """The routes that every emulator has."""

    async def plan(request: web.Request) -> web.Response:
        # A page in a browser can send a form here, but not JSON: it would have to ask first.
        if request.content_type != "application/json":
            raise web.HTTPUnsupportedMediaType(text="a plan is a document of type application/json\n")
        try:
            faults.add(Plan.parse(await request.json()))
        except ValueError as error:
            raise web.HTTPBadRequest(text=f"{error}\n") from error
        return _planned()

    async def planned(_: web.Request) -> web.Response:
        return _planned()

    def _planned() -> web.Response:
        plans = [plan.document() for plan in faults.plans()]
        return web.json_response({"left": faults.left(), "plans": plans})

    async def forget(_: web.Request) -> web.Response:
        faults.clear()
        return _planned()

    async def counts(_: web.Request) -> web.Response:
        return web.json_response(calls)

    async def recount(_: web.Request) -> web.Response:
        calls.clear()
        return web.json_response(calls)

    async def health(_: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    return [
        web.post("/_emulator/faults", plan),
        web.get("/_emulator/faults", planned),
        web.delete("/_emulator/faults", forget),
        web.get("/_emulator/calls", counts),
        web.delete("/_emulator/calls", recount),
        web.get("/_emulator/health", health),
    ]


def for_this_machine(route: web.RouteDef) -> web.RouteDef:
    """`route`, but only for clients on loopback."""
    handler: Handler = route.handler

    async def guarded(request: web.Request) -> web.StreamResponse:
        if request.remote is None or not ipaddress.ip_address(request.remote).is_loopback:
            raise web.HTTPForbidden(text="only for clients on the emulator's own machine\n")
        return await handler(request)

    return web.RouteDef(route.method, route.path, guarded, route.kwargs)
