"""The API server's address, and the identity with which it is called.

In a pod both come from Kubernetes: the address from the environment, the token and the certificate from files that
change while the process runs. So a new `Access` is made for each connection, and the token is read for each request.
"""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self
from urllib.parse import urlsplit

from hyperpod_ebs.driver.model import errors

SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_HTTPS: Final = 443


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """An API server, and an identity there."""

    server: str
    """Its address: https://host[:port][/path]."""
    tls: ssl.SSLContext
    token: str | Path = field(default="", repr=False)
    """A bearer token, or the file that holds the newest token; empty if a client certificate is used instead."""

    @classmethod
    def from_pod(cls, environment: Mapping[str, str], directory: Path = SERVICE_ACCOUNT) -> Self:
        """The access that Kubernetes gives to a pod. Reads files: off the loop.

        Raises:
            Refused: The process is not in a pod, or the pod has no service account token.
        """
        host, port = environment.get("KUBERNETES_SERVICE_HOST"), environment.get("KUBERNETES_SERVICE_PORT")
        if not host:
            raise errors.Refused(
                "cannot find the API server: KUBERNETES_SERVICE_HOST is not set, so this process is not in a pod; "
                "set --kubeconfig"
            )
        try:
            tls = ssl.create_default_context(cafile=directory / "ca.crt")
        except OSError as error:
            raise errors.Refused(
                f"cannot use the cluster's certificate {directory / 'ca.crt'} ({error.strerror or error}); "
                "mount the service account's token into the pod"
            ) from error
        address = f"[{host}]" if ":" in host else host
        return cls(server=f"https://{address}:{port or _HTTPS}", tls=tls, token=directory / "token")

    @property
    def host(self) -> str:
        """The server's host name or IP address."""
        return urlsplit(self.server).hostname or ""

    @property
    def port(self) -> int:
        """The server's port."""
        return urlsplit(self.server).port or _HTTPS

    @property
    def path(self) -> str:
        """The prefix of every path on the server."""
        return urlsplit(self.server).path.rstrip("/")

    def headers(self) -> dict[str, str]:
        """The headers that authenticate a request. May read a file: off the loop.

        Raises:
            OSError: The token's file cannot be read.
        """
        token = self.token.read_text().strip() if isinstance(self.token, Path) else self.token
        return {"Authorization": f"Bearer {token}"} if token else {}
