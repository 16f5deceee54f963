"""What all processes of a cluster share."""

from dataclasses import dataclass

from hyperpod_ebs.sandbox.sandbox import Sandbox
from localcluster.kubernetes.certificates import CertificateAuthority
from localcluster.machines.network import Namespaces
from localcluster.programs import Programs


@dataclass(frozen=True, slots=True, kw_only=True)
class Infrastructure:
    """The sandbox, programs, certificates and network of a cluster."""

    sandbox: Sandbox
    """The cluster's directory; the cluster ends with it."""
    programs: Programs
    authority: CertificateAuthority
    hub: Namespaces
    """The network of the control plane and of the emulator."""
