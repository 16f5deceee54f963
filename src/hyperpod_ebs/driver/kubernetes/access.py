"""Where the API server is, and as whom it is spoken to.

In a pod both come from Kubernetes itself: the address from the environment, the
token and the certificate from files that are changed while the process runs. So an
`Access` is made anew for each connection, and the token is read for each request.
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
    """One API server, and one identity there."""

    server: str
    """Its address: https://host[:port][/path]."""
    tls: ssl.SSLContext
    token: str | Path = field(default="", repr=False)
    """A bearer token, or the file that holds the newest; empty where a certificate says who we are."""

    @classmethod
    def from_pod(cls, environment: Mapping[str, str], directory: Path = SERVICE_ACCOUNT) -> Self:
        """What Kubernetes gives to a pod. Reads files: off the loop.

        Raises:
            Refused: This is no pod, or one without a service account's token.
        """
        host, port = environment.get("KUBERNETES_SERVICE_HOST"), environment.get("KUBERNETES_SERVICE_PORT")
        if not host:
            raise errors.Refused("this is no pod of a cluster: KUBERNETES_SERVICE_HOST is not set; give --kubeconfig")
        try:
            tls = ssl.create_default_context(cafile=directory / "ca.crt")
        except OSError as error:
            raise errors.Refused(
                f"the cluster's certificate {directory / 'ca.crt'} cannot be used ({error.strerror or error}); "
                "let the pod's service account have its token mounted"
            ) from error
        named = f"[{host}]" if ":" in host else host
        return cls(server=f"https://{named}:{port or _HTTPS}", tls=tls, token=directory / "token")

    @property
    def host(self) -> str:
        """Whom to connect to."""
        return urlsplit(self.server).hostname or ""

    @property
    def port(self) -> int:
        """Where."""
        return urlsplit(self.server).port or _HTTPS

    @property
    def path(self) -> str:
        """What comes before every path there."""
        return urlsplit(self.server).path.rstrip("/")

    def headers(self) -> dict[str, str]:
        """Who we are, as a request says it. May read a file: off the loop.

        Raises:
            OSError: The token's file cannot be read.
        """
        token = self.token.read_text().strip() if isinstance(self.token, Path) else self.token
        return {"Authorization": f"Bearer {token}"} if token else {}
