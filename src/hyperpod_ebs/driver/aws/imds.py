"""Who this machine is, from EC2's instance metadata service, version 2.

The node process needs it, which loads no SDK: plain HTTP, in a thread.
"""

import http.client
from dataclasses import dataclass
from typing import ClassVar, Final
from urllib.parse import urlsplit

from hyperpod_ebs.driver.model import errors, nodes
from hyperpod_ebs.driver.model.node_identity import PartialIdentity
from hyperpod_ebs.kit.files import Unresponsive, off_loop

ENDPOINT: Final = "http://169.254.169.254"
"""Where every EC2 instance finds it."""

PATIENCE: Final = 10.0
"""Seconds for all of it."""

_ANSWER: Final = 2.0
_LIFE: Final = "60"
_PATHS: Final = ("instance-id", "instance-type", "placement/availability-zone", "network/interfaces/macs/")
_SAGEMAKER_TYPE: Final = "ml."


@dataclass(frozen=True, slots=True)
class Metadata:
    """What tells a plain EC2 instance who it is."""

    endpoint: str | None = None
    """Another address of the service than the usual one."""

    name: ClassVar[str] = "imds"
    """What it is called among the metadata sources."""

    async def read_identity(self) -> PartialIdentity:
        """Who this machine is.

        It does not say how many volumes the machine has anyway: the block device mapping is that of the start,
        and volumes of ours are in it as well.

        Raises:
            Unavailable: Nobody answers, or not as the service does.
            Refused: It is a node of a HyperPod cluster, of which the service does not tell.
        """
        base = self.endpoint or ENDPOINT
        try:
            id_, type_, zone, interfaces = await off_loop(_asked, base, deadline=PATIENCE)
            node = nodes.parse(id_)
        except (OSError, http.client.HTTPException, Unresponsive, ValueError, errors.NodeNotFound) as error:
            raise errors.Unavailable(f"instance metadata at {base} cannot be read ({error})") from error
        if type_.startswith(_SAGEMAKER_TYPE):
            raise errors.Refused(f"this {type_} is a HyperPod node, of whose cluster instance metadata does not tell")
        return PartialIdentity(id=node, zone=zone, instance_type=type_, interfaces=len(interfaces.split()) or None)


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
