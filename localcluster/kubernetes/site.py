"""What all parts of a cluster share."""

from dataclasses import dataclass

from hyperpod_ebs.sandbox.sandbox import Sandbox
from localcluster.kubernetes.keys import Keys
from localcluster.machines.network import Namespace
from localcluster.programs import Programs


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where a cluster is built, and with what."""

    sandbox: Sandbox
    """Its directory, with which all of it ends."""
    programs: Programs
    keys: Keys
    hub: Namespace
    """The network of the control plane and of the cloud."""
