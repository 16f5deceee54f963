"""The EC2 instance metadata service, version 2: each instance has an address of its own.

`AWS_EC2_METADATA_SERVICE_ENDPOINT=http://127.31.0.1:PORT` makes an SDK use this service. A
client requests a session token with PUT and sends it with every GET (EC2 User Guide, "Use
the Instance Metadata Service").
"""

import re
import secrets
import time
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler

from hyperpod_ebs.emulator.http.metadata_listeners import MetadataListeners
from hyperpod_ebs.emulator.nodes.machines import machine_at
from hyperpod_ebs.emulator.records import Instance
from hyperpod_ebs.emulator.state.world import World, to_datetime

MAX_SESSION: Final = 21_600
"""Maximum seconds that a session token is valid."""

MAX_SESSIONS: Final = 10_000
"""Valid session tokens; the oldest gives way to a new one."""

_SECONDS: Final = re.compile(r"[0-9]{1,5}")

_TTL: Final = "X-aws-ec2-metadata-token-ttl-seconds"
_TOKEN: Final = "X-aws-ec2-metadata-token"  # noqa: S105 - a header's name
_FORWARDED: Final = "X-Forwarded-For"


@dataclass(frozen=True, slots=True)
class InstanceMetadata:
    """The metadata of all instances."""

    world: World
    listeners: MetadataListeners
    sessions: dict[str, tuple[str, float]] = field(default_factory=dict)
    """The instance of each token, and the instant at which the token expires."""

    @web.middleware
    async def serve_machines(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer the requests that arrive at a machine's address; `handler` answers the others."""
        address = "" if request.transport is None else request.transport.get_extra_info("sockname")[0]
        if not self.listeners.is_for_machines(address):
            return await handler(request)
        instance = machine_at(self.world.store.instances, address)
        if instance is None or not request.path.startswith("/latest/"):
            raise web.HTTPNotFound
        path = request.path.removeprefix("/latest/")
        methods = ["PUT"] if path == "api/token" else ["GET", "HEAD"]
        if request.method not in methods:
            raise web.HTTPMethodNotAllowed(request.method, methods)
        return self._create_session(request, instance) if "PUT" in methods else self._answer(request, instance, path)

    def _create_session(self, request: web.Request, instance: Instance) -> web.Response:
        if _FORWARDED in request.headers:
            # A request that a proxy forwards comes from another machine (AWS Security Blog, "Add defense in depth
            # against open firewalls, reverse proxies, and SSRF vulnerabilities").
            raise web.HTTPForbidden(text=f"a request for a session token must not have {_FORWARDED}\n")
        ttl = request.headers.get(_TTL, "")
        if not _SECONDS.fullmatch(ttl) or not 1 <= int(ttl) <= MAX_SESSION:
            raise web.HTTPBadRequest(text=f"{_TTL} must be between 1 and {MAX_SESSION}, not {ttl!r}\n")
        token, instant = secrets.token_urlsafe(40), time.monotonic()
        for expired in [other for other, (_, end) in self.sessions.items() if end <= instant]:
            del self.sessions[expired]
        if len(self.sessions) >= MAX_SESSIONS:
            del self.sessions[next(iter(self.sessions))]
        self.sessions[token] = (instance.id, instant + int(ttl))
        return web.Response(text=token, headers={_TTL: ttl})

    def _answer(self, request: web.Request, instance: Instance, path: str) -> web.Response:
        owner, end = self.sessions.get(request.headers.get(_TOKEN, ""), ("", 0.0))
        if owner != instance.id or end <= time.monotonic():
            raise web.HTTPUnauthorized(text="no valid session token: request one with PUT latest/api/token\n")
        if path.rstrip("/") == "dynamic/instance-identity/document":
            return web.json_response(self._document(instance), content_type="text/plain")
        text = _content(self._tree(instance), path)
        if text is None:
            raise web.HTTPNotFound
        return web.Response(text=text)

    def _document(self, instance: Instance) -> dict[str, str | None]:
        """The instance identity document; AWS also provides a signature of it."""
        launched = to_datetime(instance.launched)
        return {
            "accountId": self.world.region.account,
            "architecture": "x86_64",
            "availabilityZone": instance.zone,
            "imageId": instance.image,
            "instanceId": instance.id,
            "instanceType": _instance_type(instance),
            "pendingTime": f"{launched:%Y-%m-%dT%H:%M:%SZ}",
            "privateIp": instance.address,
            "region": self.world.region.name,
            "version": "2017-09-30",
        }

    def _tree(self, instance: Instance) -> dict[str, str]:
        """The content of each path. outpost-arn is absent, as on every instance that is not on an Outpost."""
        region = self.world.region
        attachments = self.world.store.attachments.where("instance", instance.id)
        devices = {
            f"ebs{attachment.unit}": attachment.device.removeprefix("/dev/")
            for attachment in attachments
            if attachment.unit
        }
        mappings = {"ami": "xvda", "root": "/dev/xvda", **devices}
        mac = f"network/interfaces/macs/{instance.mac}"
        leaves = {
            "ami-id": instance.image,
            "instance-id": instance.id,
            "instance-type": _instance_type(instance),
            "local-ipv4": instance.address,
            "mac": instance.mac,
            f"{mac}/device-number": "0",
            f"{mac}/local-ipv4s": instance.address,
            "placement/availability-zone": instance.zone,
            "placement/availability-zone-id": region.zone_id(instance.zone) or "",
            "placement/region": region.name,
            "services/partition": region.partition,
            **{f"block-device-mapping/{name}": device for name, device in mappings.items()},
        }
        return {f"meta-data/{path}": text for path, text in leaves.items()}


def _instance_type(instance: Instance) -> str:
    return f"ml.{instance.kind}" if instance.cluster else instance.kind


def _content(tree: dict[str, str], path: str) -> str | None:
    """The content of a leaf, or the names in a directory (a directory's own name ends in a slash); None if missing."""
    key = path.rstrip("/")
    if key in tree:
        return tree[key]
    below = [leaf.removeprefix(f"{key}/") for leaf in tree if leaf.startswith(f"{key}/")]
    names = sorted({name.partition("/")[0] + ("/" if "/" in name else "") for name in below})
    return "\n".join(names) or None
