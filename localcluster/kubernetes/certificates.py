"""The cluster's certificates, each with the user and group that Kubernetes reads from its subject."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trustme

ADMINS: Final = "system:masters"
NODES: Final = "system:nodes"


@dataclass(frozen=True, slots=True)
class CertificateAuthority:
    """A certificate authority, and the directory of the files that it issues."""

    directory: Path
    authority: trustme.CA

    @classmethod
    def load(cls, directory: Path, keys: Path) -> "CertificateAuthority":
        """Load the authority from the directory `keys` of an EKS cluster.

        Args:
            directory: Is created for the files that the authority issues, with access for the owner only.
            keys: Has the authority's ca.crt and ca.key.
        """
        directory.mkdir(mode=0o700)
        authority = trustme.CA.from_pem((keys / "ca.crt").read_bytes(), (keys / "ca.key").read_bytes())
        loaded = cls(directory, authority)
        authority.cert_pem.write_to_path(loaded.certificate)
        return loaded

    @property
    def certificate(self) -> Path:
        """The authority's own certificate."""
        return self.directory / "ca.pem"

    def issue(self, name: str, *hosts: str, user: str, group: str | None = None) -> tuple[Path, Path]:
        """Create a certificate for the user and the hosts; the files of the certificate and of its key."""
        leaf = self.authority.issue_cert(*(hosts or (name,)), common_name=user, organization_name=group)
        certificate, key = self.directory / f"{name}.pem", self.directory / f"{name}.key"
        leaf.cert_chain_pems[0].write_to_path(certificate)
        key.touch(mode=0o600)
        leaf.private_key_pem.write_to_path(key)
        return certificate, key

    def write_kubeconfig(self, name: str, server: str, *, user: str, group: str | None = None) -> Path:
        """Create a certificate for the user, and a kubeconfig with it for the API server at the URL `server`."""
        certificate, key = self.issue(name, user=user, group=group)
        file = self.directory / f"{name}.kubeconfig"
        file.touch(mode=0o600)
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {"name": "cluster", "cluster": {"server": server, "certificate-authority": str(self.certificate)}}
            ],
            "users": [{"name": name, "user": {"client-certificate": str(certificate), "client-key": str(key)}}],
            "contexts": [{"name": "cluster", "context": {"cluster": "cluster", "user": name}}],
            "current-context": "cluster",
        }
        file.write_text(json.dumps(document, indent=2))  # JSON is valid YAML
        return file
