"""The emulator's own routes: planned faults, what was called, health; for this machine only."""

import ipaddress
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from aiohttp import web

from hyperpod_ebs.emulator.http.faults import Faults, Plan
from hyperpod_ebs.emulator.http.journal import REMEMBERED, Journal

_NUMBER: Final = re.compile(r"[0-9]{1,9}")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def routes(*, faults: Faults, journal: Journal) -> Sequence[web.RouteDef]:
    """The routes that every emulator has."""

    async def health(_: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    return [*_about_faults(faults), *_about_calls(journal), web.get("/_emulator/health", health)]


def _about_faults(faults: Faults) -> Sequence[web.RouteDef]:
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

    path = "/_emulator/faults"
    return [web.post(path, plan), web.get(path, planned), web.delete(path, forget)]


def _about_calls(journal: Journal) -> Sequence[web.RouteDef]:
    async def counts(_: web.Request) -> web.Response:
        return web.json_response(journal.counts)

    async def forget(_: web.Request) -> web.Response:
        journal.forget()
        return web.json_response(journal.counts)

    async def latest(request: web.Request) -> web.Response:
        entries = journal.latest(_number(request, "count", REMEMBERED), after=_number(request, "after", 0))
        return web.json_response({"calls": [entry.document() for entry in entries]})

    path = "/_emulator/calls"
    return [web.get(path, counts), web.delete(path, forget), web.get(f"{path}/latest", latest)]


def for_this_machine(route: web.RouteDef) -> web.RouteDef:
    """`route`, but only for clients on loopback, or at the very address that they call."""
    handler: Handler = route.handler

    async def guarded(request: web.Request) -> web.StreamResponse:
        if not _is_here(request):
            raise web.HTTPForbidden(text="only for clients on the emulator's own machine\n")
        return await handler(request)

    return web.RouteDef(route.method, route.path, guarded, route.kwargs)


def _is_here(request: web.Request) -> bool:
    if request.remote is None or request.transport is None:
        return False
    own: tuple[str, int] = request.transport.get_extra_info("sockname")  # where it was reached
    return ipaddress.ip_address(request.remote).is_loopback or request.remote == own[0]


def _number(request: web.Request, name: str, otherwise: int) -> int:
    text = request.query.get(name, str(otherwise))
    if not _NUMBER.fullmatch(text):
        raise web.HTTPBadRequest(text=f"{name} is {text!r}, not a number of at most 9 digits\n")
    return int(text)
