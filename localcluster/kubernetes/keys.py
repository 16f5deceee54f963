"""The cluster's certificates, each with the user and group that Kubernetes reads from its subject."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trustme

ADMINS: Final = "system:masters"
NODES: Final = "system:nodes"


@dataclass(frozen=True, slots=True)
class Keys:
    """An authority in a directory of its own, and what it has signed."""

    directory: Path
    authority: trustme.CA

    @classmethod
    def made(cls, directory: Path) -> "Keys":
        """A new authority; `directory` is made, for its owner alone."""
        directory.mkdir(mode=0o700)
        keys = cls(directory, trustme.CA())
        keys.authority.cert_pem.write_to_path(keys.ca)
        return keys

    @property
    def ca(self) -> Path:
        """The authority's certificate."""
        return self.directory / "ca.pem"

    def pair(self, name: str, *hosts: str, user: str, group: str | None = None) -> tuple[Path, Path]:
        """Files with a new certificate for `user` of `group`, good for `hosts`, and with its key."""
        leaf = self.authority.issue_cert(*(hosts or (name,)), common_name=user, organization_name=group)
        certificate, key = self.directory / f"{name}.pem", self.directory / f"{name}.key"
        leaf.cert_chain_pems[0].write_to_path(certificate)
        key.touch(mode=0o600)
        leaf.private_key_pem.write_to_path(key)
        return certificate, key

    def kubeconfig(self, name: str, server: str, *, user: str, group: str | None = None) -> Path:
        """A file with which `user` speaks to the API server at the address `server`."""
        certificate, key = self.pair(name, user=user, group=group)
        file = self.directory / f"{name}.kubeconfig"
        file.touch(mode=0o600)
        # YAML takes JSON as it is.
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "cluster", "cluster": {"server": server, "certificate-authority": str(self.ca)}}],
            "users": [{"name": name, "user": {"client-certificate": str(certificate), "client-key": str(key)}}],
            "contexts": [{"name": "cluster", "context": {"cluster": "cluster", "user": name}}],
            "current-context": "cluster",
        }
        file.write_text(json.dumps(document, indent=2))
        return file
