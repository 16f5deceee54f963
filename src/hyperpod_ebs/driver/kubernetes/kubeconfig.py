"""The API server and the identity in a kubeconfig file, for a process that is not in a pod.

A token, a token's file and a client certificate are supported. Entries that would run a program or skip the
verification of the server are refused.
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

Entry = Mapping[str, Any]  # YAML, of which `read_access` makes a value

_UNSUPPORTED: Final = {
    "exec": "runs a program for its credentials",
    "auth-provider": "asks a plugin for its credentials",
    "username": "has a password",
    "insecure-skip-tls-verify": "does not verify the server",
    "tls-server-name": "has another name for its server",
    "proxy-url": "uses a proxy",
}


def read_access(path: Path) -> Access:
    """Read the cluster and the user of the file's current context. Reads files: off the loop.

    Raises:
        Refused: The file cannot be read, is incomplete, or has an entry that is not supported.
    """
    try:
        return _parse_access(path)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, binascii.Error) as error:
        raise errors.Refused(f"cannot use kubeconfig {path}: {_problem(error)}") from error


def _parse_access(path: Path) -> Access:
    import yaml  # noqa: PLC0415 - a node in a cluster does without

    try:
        config = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ValueError(f"it is not YAML ({error})") from error
    context = _find_entry(config, "context", config["current-context"])
    cluster, user = _find_entry(config, "cluster", context["cluster"]), _find_entry(config, "user", context["user"])
    for key, why in _UNSUPPORTED.items():
        if cluster.get(key) or user.get(key):
            raise ValueError(f"{config['current-context']!r} {why} ({key}); use a token or a client certificate")
    server = cluster["server"]
    if not server.startswith("https://"):
        raise ValueError(f"its server {server!r} does not use TLS")
    tls = ssl.create_default_context(cadata=_read_text(path, cluster, "certificate-authority"))
    if certificate := _read_text(path, user, "client-certificate"):
        with _memory_file(certificate) as chain, _memory_file(_read_text(path, user, "client-key") or "") as key:
            tls.load_cert_chain(chain, key)
    file = user.get("tokenFile")
    return Access(server=server, tls=tls, token=path.parent / file if file else user.get("token") or "")


def _problem(error: Exception) -> str:
    """What is wrong with a file that could not be parsed."""
    match error:
        case KeyError():
            return f"it has no {error}"
        case TypeError() | AttributeError():
            return "it does not have the structure of a kubeconfig"
        case _:
            return str(error) or repr(error)


def _find_entry(config: Entry, kind: str, name: str) -> Entry:
    """The entry with that name; each kind of entry has a list of its own."""
    for entry in config.get(f"{kind}s") or ():
        if entry["name"] == name:
            found: Entry = entry[kind]
            return found
    raise LookupError(f"it has no {kind} {name!r}")


def _read_text(path: Path, entry: Entry, key: str) -> str | None:
    """The text of a key, from the entry itself or from the file that the entry names."""
    if data := entry.get(f"{key}-data"):
        return base64.b64decode(data, validate=True).decode()
    file = entry.get(key)
    return (path.parent / file).read_text() if file else None


@contextmanager
def _memory_file(text: str) -> Generator[str]:
    """A path from which OpenSSL can read `text`, which is never written to a disk."""
    handle = os.memfd_create("kubeconfig")
    try:
        os.write(handle, text.encode())
        yield f"/proc/self/fd/{handle}"
    finally:
        os.close(handle)
