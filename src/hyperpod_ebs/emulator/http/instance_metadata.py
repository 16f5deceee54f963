"""The EC2 instance metadata service, version 2: each instance has an address of its own.

`AWS_EC2_METADATA_SERVICE_ENDPOINT=http://127.31.0.1:PORT` makes an SDK use this service. A
client requests a session token with PUT and sends it with every GET (EC2 User Guide, "Use
the Instance Metadata Service").
"""

import json
import re
import secrets
import socket
import time
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler

from hyperpod_ebs.emulator.http.metadata_listeners import LINK_LOCAL, MetadataListeners
from hyperpod_ebs.emulator.identity_records import Role
from hyperpod_ebs.emulator.nodes.instance_credentials import InstanceCredentials, RoleNotTrusting
from hyperpod_ebs.emulator.nodes.machines import machine_at, machine_with
from hyperpod_ebs.emulator.records import Instance
from hyperpod_ebs.emulator.state.world import World, to_datetime
from hyperpod_ebs.emulator.wire.operations import AwsFault

MAX_SESSION: Final = 21_600
"""Maximum seconds that a session token is valid."""

MAX_SESSIONS: Final = 10_000
"""Valid session tokens; the oldest gives way to a new one."""

DEFAULT_HOPS: Final = -1
"""The kernel's own default (ip(7), IP_TTL)."""

_CREDENTIALS: Final = "meta-data/iam/security-credentials"

_SECONDS: Final = re.compile(r"[0-9]{1,5}")

_TTL: Final = "X-aws-ec2-metadata-token-ttl-seconds"
_TOKEN: Final = "X-aws-ec2-metadata-token"  # noqa: S105 - a header's name
_FORWARDED: Final = "X-Forwarded-For"


@dataclass(frozen=True, slots=True)
class InstanceMetadata:
    """The metadata of all instances."""

    world: World
    listeners: MetadataListeners
    credentials: InstanceCredentials
    sessions: dict[str, tuple[str, float]] = field(default_factory=dict)
    """The instance of each token, and the instant at which the token expires."""

    @web.middleware
    async def serve_machines(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer the requests that arrive at a machine's address; `handler` answers the others."""
        address = "" if request.transport is None else request.transport.get_extra_info("sockname")[0]
        if not self.listeners.is_for_machines(address):
            return await handler(request)
        instances = self.world.store.instances
        if address == LINK_LOCAL:
            instance = machine_with(instances, request.remote or "")
        else:
            instance = machine_at(instances, address)
        if instance is None or not request.path.startswith("/latest/"):
            raise web.HTTPNotFound
        if instance.metadata_endpoint == "disabled":
            raise web.HTTPForbidden
        path = request.path.removeprefix("/latest/")
        methods = ["PUT"] if path == "api/token" else ["GET", "HEAD"]
        if request.method not in methods:
            raise web.HTTPMethodNotAllowed(request.method, methods)
        _limit_hops(request, instance.metadata_hop_limit if "PUT" in methods else DEFAULT_HOPS)
        if "PUT" in methods:
            return self._create_session(request, instance)
        self._require_session(request, instance)
        return await self._answer(instance, path.rstrip("/"))

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

    def _require_session(self, request: web.Request, instance: Instance) -> None:
        """Refuse a request without a valid token; a request of version 1 has none.

        Raises:
            HTTPUnauthorized: The token is not valid, or is missing although the instance requires one.
        """
        if _TOKEN not in request.headers and instance.metadata_tokens == "optional":
            return
        owner, end = self.sessions.get(request.headers.get(_TOKEN, ""), ("", 0.0))
        if owner != instance.id or end <= time.monotonic():
            raise web.HTTPUnauthorized(text="no valid session token: request one with PUT latest/api/token\n")

    async def _answer(self, instance: Instance, path: str) -> web.Response:
        if path == "dynamic/instance-identity/document":
            return web.json_response(self._document(instance), content_type="text/plain")
        role = self.credentials.role(instance)
        if role and path == f"{_CREDENTIALS}/{role.id}":
            return web.json_response(await self._credentials(instance, role), content_type="text/plain")
        text = _content(self._tree(instance, role), path)
        if text is None:
            raise web.HTTPNotFound
        return web.Response(text=text)

    async def _credentials(self, instance: Instance, role: Role) -> dict[str, str]:
        """The credentials of the machine's role, or why there are none.

        Raises:
            HTTPServiceUnavailable: There are too many sessions.
        """
        try:
            session = await self.credentials.session(instance, role)
        except RoleNotTrusting:
            code, text = "AssumeRoleUnauthorizedAccess", f"EC2 cannot assume the role {role.id}."
            return {"Code": code, "Message": text, "LastUpdated": _timestamp(time.time())}
        except AwsFault as fault:
            raise web.HTTPServiceUnavailable(text=fault.message) from fault
        return {
            "Code": "Success",
            "LastUpdated": _timestamp(session.issued),
            "Type": "AWS-HMAC",
            "AccessKeyId": session.id,
            "SecretAccessKey": session.secret,
            "Token": session.token,
            "Expiration": _timestamp(session.expires),
        }

    def _document(self, instance: Instance) -> dict[str, str | None]:
        """The instance identity document; AWS also provides a signature of it."""
        return {
            "accountId": self.world.region.account,
            "architecture": "x86_64",
            "availabilityZone": instance.zone,
            "imageId": instance.image,
            "instanceId": instance.id,
            "instanceType": _instance_type(instance),
            "pendingTime": _timestamp(instance.launched),
            "privateIp": instance.address,
            "region": self.world.region.name,
            "version": "2017-09-30",
        }

    def _tree(self, instance: Instance, role: Role | None) -> dict[str, str]:
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
            **self._profile(instance),
        }
        tree = {f"meta-data/{path}": text for path, text in leaves.items()}
        return {**tree, f"{_CREDENTIALS}/{role.id}": ""} if role else tree

    def _profile(self, instance: Instance) -> dict[str, str]:
        """The category about the instance profile; HyperPod nodes have none."""
        if (profile := self.credentials.profile(instance)) is None:
            return {}
        info = {
            "Code": "Success",
            "LastUpdated": _timestamp(instance.launched),
            "InstanceProfileArn": instance.profile,
            "InstanceProfileId": profile.unique_id,
        }
        return {"iam/info": json.dumps(info)}


def _limit_hops(request: web.Request, hops: int) -> None:
    """Let the packets of the answer travel so many hops; the kernel of the next router drops those that go further."""
    if request.transport is not None:
        request.transport.get_extra_info("socket").setsockopt(socket.IPPROTO_IP, socket.IP_TTL, hops)


def _timestamp(instant: float) -> str:
    return f"{to_datetime(instant):%Y-%m-%dT%H:%M:%SZ}"


def _instance_type(instance: Instance) -> str:
    return f"ml.{instance.kind}" if instance.cluster else instance.kind


def _content(tree: dict[str, str], path: str) -> str | None:
    """The content of a leaf, or the names in a directory (a directory's own name ends in a slash); None if missing."""
    if path in tree:
        return tree[path]
    below = [leaf.removeprefix(f"{path}/") for leaf in tree if leaf.startswith(f"{path}/")]
    names = sorted({name.partition("/")[0] + ("/" if "/" in name else "") for name in below})
    return "\n".join(names) or None
