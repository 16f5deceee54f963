"""The identity of this machine according to EC2's instance metadata service (IMDS), version 2.

Only the node process uses this module, and the node process loads no AWS SDK. So this module sends
plain HTTP requests, in a thread.
"""

import http.client
from dataclasses import dataclass
from typing import ClassVar, Final
from urllib.parse import urlsplit

from hyperpod_ebs.driver.model import errors, nodes
from hyperpod_ebs.driver.model.node_identity import PartialIdentity
from hyperpod_ebs.kit.files import Unresponsive, off_loop

ENDPOINT: Final = "http://169.254.169.254"
"""The service's address on every EC2 instance."""

TIMEOUT: Final = 10.0
"""Seconds for all requests together."""

_ANSWER_TIMEOUT: Final = 2.0
_TOKEN_SECONDS: Final = "60"  # noqa: S105 - how long a token is valid
_PATHS: Final = ("instance-id", "instance-type", "placement/availability-zone", "network/interfaces/macs/")
_SAGEMAKER_TYPE: Final = "ml."


@dataclass(frozen=True, slots=True)
class InstanceMetadata:
    """The metadata source for plain EC2 instances."""

    endpoint: str | None = None
    """The service's address; None for the usual one."""

    name: ClassVar[str] = "imds"
    """The source's name in `--metadata-sources`."""

    async def read_identity(self) -> PartialIdentity:
        """Read the identity of this machine.

        The result has no count of other volumes: the service lists the volumes that were attached when the
        machine started, and the driver's volumes may be among them.

        Raises:
            Unavailable: The service does not answer, or something else answers in its place.
            Refused: This is a HyperPod node, whose cluster the service does not know.
        """
        base = self.endpoint or ENDPOINT
        try:
            id_, type_, zone, interfaces = await off_loop(_read_all, base, deadline=TIMEOUT)
            node = nodes.parse(id_)
        except (OSError, http.client.HTTPException, Unresponsive, ValueError, errors.NodeNotFound) as error:
            raise errors.Unavailable(f"cannot read instance metadata at {base}: {error}") from error
        if type_.startswith(_SAGEMAKER_TYPE):
            raise errors.Refused(
                f"this {type_} is a HyperPod node, and instance metadata does not know its cluster; "
                "use the metadata source kubernetes"
            )
        return PartialIdentity(id=node, zone=zone, instance_type=type_, interfaces=len(interfaces.split()) or None)


def _read_all(base: str) -> list[str]:
    """Read `_PATHS`, on one connection and with one token."""
    parts = urlsplit(base)
    if parts.scheme != "http" or parts.hostname is None:
        raise ValueError(f"{base!r} is not an address of the form http://host")
    root = parts.path.rstrip("/") + "/latest"
    connection = http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=_ANSWER_TIMEOUT)
    try:
        token = _send(connection, "PUT", f"{root}/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": _TOKEN_SECONDS})
        headers = {"X-aws-ec2-metadata-token": token}
        return [_send(connection, "GET", f"{root}/meta-data/{path}", headers) for path in _PATHS]
    finally:
        connection.close()


def _send(connection: http.client.HTTPConnection, method: str, path: str, headers: dict[str, str]) -> str:
    """Send a request and return the body of its answer."""
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    if answer.status != http.HTTPStatus.OK:
        raise ValueError(f"{method} {path} returned {answer.status} {answer.reason}")
    return text
