"""The files with which a Kubernetes control plane on this machine stands for an EKS cluster.

For a cluster NAME, the state directory has eks/NAME with kubeadm's file names. Only the owner
of the state directory can read them:

file    use
------  -----------------------------------------------------------------
sa.key  kube-apiserver --service-account-signing-key-file
sa.pub  kube-apiserver --service-account-key-file
ca.crt  the certificate authority that DescribeCluster shows
ca.key  the authority's key, with which to sign the API server's certificate

With --service-account-issuer set to the issuer that DescribeCluster shows, STS and EKS Auth of
the emulator accept the API server's tokens.
"""

import os
import shutil
from contextlib import suppress
from pathlib import Path

from hyperpod_ebs.emulator.eks_records import OidcIssuer
from hyperpod_ebs.emulator.records import EksCluster


class KeyFiles:
    """The directory of the clusters' keys."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def write(self, cluster: EksCluster, issuer: OidcIssuer) -> None:
        """Write the files of a cluster; an existing file is replaced as a whole.

        Raises:
            OSError: A file cannot be written.
        """
        directory = self._root / cluster.id
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        files = {
            "sa.key": issuer.private_key,
            "sa.pub": issuer.public_key,
            "ca.crt": cluster.authority,
            "ca.key": cluster.authority_key,
        }
        for name, text in files.items():
            unfinished = directory / f"{name}.new"
            handle = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(handle, "w") as out:
                out.write(text)
                out.flush()
                os.fsync(handle)
            unfinished.rename(directory / name)

    def delete(self, cluster: str) -> None:
        """Delete the files of a cluster, if there are any.

        Raises:
            OSError: A file cannot be deleted.
        """
        with suppress(FileNotFoundError):
            shutil.rmtree(self._root / cluster)
