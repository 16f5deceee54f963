"""An API server and an identity from a kubeconfig file, for a process outside of a pod.

What would have to run a program or trust anybody is refused: a token, a token's file or
a client certificate is what can be used.
"""

import base64
import binascii
import os
import ssl
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from hyperpod_ebs.driver.kubernetes.access import Access
from hyperpod_ebs.driver.model import errors

Entry = Mapping[str, Any]  # YAML, of which `access` makes a value

_UNUSABLE: Final = {
    "exec": "runs a program for its credentials",
    "auth-provider": "asks a plugin for its credentials",
    "username": "has a password",
    "insecure-skip-tls-verify": "trusts whoever answers",
    "tls-server-name": "names its server differently",
    "proxy-url": "goes through a proxy",
}


def read_access(path: Path) -> Access:
    """What the file's current context names. Reads files: off the loop.

    Raises:
        Refused: It cannot be read, names nothing, or names what cannot be used.
    """
    try:
        return _access(path)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, binascii.Error) as error:
        raise errors.Refused(f"kubeconfig {path} cannot be used: {str(error) or repr(error)}") from error


def _access(path: Path) -> Access:
    import yaml  # noqa: PLC0415 - a node in a cluster does without

    try:
        config = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ValueError(f"it is no YAML ({error})") from error
    context = _named(config, "context", config["current-context"])
    cluster, user = _named(config, "cluster", context["cluster"]), _named(config, "user", context["user"])
    for key, why in _UNUSABLE.items():
        if cluster.get(key) or user.get(key):
            raise ValueError(f"{config['current-context']!r} {why} ({key}); give a token or a client certificate")
    server = cluster["server"]
    if not server.startswith("https://"):
        raise ValueError(f"its server {server!r} is not spoken to with TLS")
    tls = ssl.create_default_context(cadata=_text(path, cluster, "certificate-authority"))
    if certificate := _text(path, user, "client-certificate"):
        with _readable(certificate) as chain, _readable(_text(path, user, "client-key") or "") as key:
            tls.load_cert_chain(chain, key)
    file = user.get("tokenFile")
    return Access(server=server, tls=tls, token=path.parent / file if file else user.get("token") or "")


def _named(config: Entry, kind: str, name: str) -> Entry:
    """The entry of that name; each kind stands in a list of its own."""
    for entry in config.get(f"{kind}s") or ():
        if entry["name"] == name:
            found: Entry = entry[kind]
            return found
    raise LookupError(f"it has no {kind} {name!r}")


def _text(path: Path, entry: Entry, key: str) -> str | None:
    """What stands in the entry itself, or in the file that it names."""
    if data := entry.get(f"{key}-data"):
        return base64.b64decode(data, validate=True).decode()
    file = entry.get(key)
    return (path.parent / file).read_text() if file else None


@contextmanager
def _readable(text: str) -> Generator[str]:
    """A path at which OpenSSL reads `text`, which never comes to lie on a disk."""
    handle = os.memfd_create("kubeconfig")
    try:
        os.write(handle, text.encode())
        yield f"/proc/self/fd/{handle}"
    finally:
        os.close(handle)
