"""Who this machine is, from EC2's instance metadata service, version 2.

The node process needs it, which loads no SDK: plain HTTP, in a thread.
"""

import http.client
import os
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from hyperpod_ebs.kit.files import Unresponsive, off_loop
from hyperpod_ebs.model import errors

ENDPOINT: Final = "http://169.254.169.254"
"""Where every EC2 instance finds it; the SDKs' AWS_EC2_METADATA_SERVICE_ENDPOINT names another."""

PATIENCE: Final = 10.0
"""Seconds for all of it."""

_ANSWER: Final = 2.0
_LIFE: Final = "60"
_PATHS: Final = ("instance-id", "instance-type", "placement/availability-zone", "placement/region")


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """This machine, as EC2 knows it."""

    id: str
    type: str
    zone: str
    region: str


async def instance(endpoint: str | None = None) -> Instance:
    """This machine.

    Raises:
        Unavailable: Nobody answers, or not as the service does.
    """
    base = endpoint or os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") or ENDPOINT
    try:
        id_, type_, zone, region = await off_loop(lambda: _asked(base), deadline=PATIENCE)
    except (OSError, http.client.HTTPException, Unresponsive, ValueError) as error:
        raise errors.Unavailable(
            f"instance metadata at {base} cannot be read ({error}); where there is none, options say who the node is"
        ) from error
    return Instance(id=id_, type=type_, zone=zone, region=region)


def _asked(base: str) -> list[str]:
    """The answers for `_PATHS`, on one connection and with one token."""
    parts = urlsplit(base)
    if parts.scheme != "http" or parts.hostname is None:
        raise ValueError(f"{base!r} is not an address of the form http://host")
    root = parts.path.rstrip("/") + "/latest"
    connection = http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=_ANSWER)
    try:
        token = _answer(connection, "PUT", f"{root}/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": _LIFE})
        headers = {"X-aws-ec2-metadata-token": token}
        return [_answer(connection, "GET", f"{root}/meta-data/{path}", headers) for path in _PATHS]
    finally:
        connection.close()


def _answer(connection: http.client.HTTPConnection, method: str, path: str, headers: dict[str, str]) -> str:
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    if answer.status != http.HTTPStatus.OK:
        raise ValueError(f"{method} {path} is answered with {answer.status} {answer.reason}")
    return text
