"""The instance metadata service of each machine, version 2, under a path of its own.

`AWS_EC2_METADATA_SERVICE_ENDPOINT=http://127.0.0.1:PORT/_metadata/i-...` leads an SDK
here. A session token is asked for with PUT and sent with every GET (EC2's user guide,
"Use the Instance Metadata Service").
"""

import re
import secrets
import time
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web

from hyperpod_ebs.emulator.records import Instance
from hyperpod_ebs.emulator.state.world import World, to_datetime

LONGEST: Final = 21_600
"""Seconds that a session may last."""

_SECONDS: Final = re.compile(r"[0-9]{1,5}")

_TTL: Final = "X-aws-ec2-metadata-token-ttl-seconds"
_TOKEN: Final = "X-aws-ec2-metadata-token"  # noqa: S105 - a header's name


@dataclass(frozen=True, slots=True)
class Metadata:
    """What each machine can learn of itself."""

    world: World
    sessions: dict[str, tuple[str, float]] = field(default_factory=dict)
    """Each token's instance and its end."""

    def routes(self) -> list[web.RouteDef]:
        """The endpoint of every machine."""
        return [
            web.put("/_metadata/{instance}/latest/api/token", self._session),
            web.get("/_metadata/{instance}/latest/{path:.*}", self._answer),
        ]

    async def _session(self, request: web.Request) -> web.Response:
        instance = self._instance(request)
        ttl = request.headers.get(_TTL, "")
        if not _SECONDS.fullmatch(ttl) or not 1 <= int(ttl) <= LONGEST:
            raise web.HTTPBadRequest(text=f"{_TTL} must be between 1 and {LONGEST}, not {ttl!r}\n")
        token, moment = secrets.token_urlsafe(40), time.monotonic()
        for old in [old for old, (_, end) in self.sessions.items() if end <= moment]:
            del self.sessions[old]
        self.sessions[token] = (instance.id, moment + int(ttl))
        return web.Response(text=token, headers={_TTL: ttl})

    async def _answer(self, request: web.Request) -> web.Response:
        instance = self._instance(request)
        owner, end = self.sessions.get(request.headers.get(_TOKEN, ""), ("", 0.0))
        if owner != instance.id or end <= time.monotonic():
            raise web.HTTPUnauthorized(text="ask for a token with PUT first\n")
        path = request.match_info["path"]
        if path.rstrip("/") == "dynamic/instance-identity/document":
            return web.json_response(self._document(instance), content_type="text/plain")
        text = _leaf_or_list(self._tree(instance), path)
        if text is None:
            raise web.HTTPNotFound
        return web.Response(text=text)

    def _instance(self, request: web.Request) -> Instance:
        instance = self.world.store.instances.get(request.match_info["instance"])
        if instance is None or instance.state == "terminated":
            raise web.HTTPNotFound
        return instance

    def _document(self, instance: Instance) -> dict[str, str | None]:
        """The instance identity document, which real machines sign."""
        launched = to_datetime(instance.launched)
        return {
            "accountId": self.world.region.account,
            "architecture": "x86_64",
            "availabilityZone": instance.zone,
            "imageId": instance.image,
            "instanceId": instance.id,
            "instanceType": _kind(instance),
            "pendingTime": f"{launched:%Y-%m-%dT%H:%M:%SZ}",
            "privateIp": instance.address,
            "region": self.world.region.name,
            "version": "2017-09-30",
        }

    def _tree(self, instance: Instance) -> dict[str, str]:
        """Each path and what is there. No outpost-arn: on an Outpost there would be one."""
        region = self.world.region
        attached = self.world.store.attachments.where("instance", instance.id)
        devices = {f"ebs{one.unit}": one.device.removeprefix("/dev/") for one in attached if one.unit}
        mappings = {"ami": "xvda", "root": "/dev/xvda", **devices}
        mac = f"network/interfaces/macs/{instance.mac}"
        leaves = {
            "ami-id": instance.image,
            "instance-id": instance.id,
            "instance-type": _kind(instance),
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


def _kind(instance: Instance) -> str:
    return f"ml.{instance.kind}" if instance.cluster else instance.kind


def _leaf_or_list(tree: dict[str, str], path: str) -> str | None:
    """What is at `path`, or the names below it, those with names of their own ending in a slash."""
    bare = path.rstrip("/")
    if bare in tree:
        return tree[bare]
    below = [leaf.removeprefix(f"{bare}/") for leaf in tree if leaf.startswith(f"{bare}/")]
    names = sorted({name.partition("/")[0] + ("/" if "/" in name else "") for name in below})
    return "\n".join(names) or None
