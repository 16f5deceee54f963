"""The EKS Pod Identity agent of a node, which on EKS the add-on `eks-pod-identity-agent` runs on each node.

The agent calls AWS with the credentials of the node's role, from the instance metadata.
"""

import os
from collections.abc import Mapping

from hyperpod_ebs.sandbox.processes import COMMAND
from localcluster import cloud
from localcluster.kubernetes.node import Node
from localcluster.machines.daemon import Daemon


async def start(node: Node, environment: Mapping[str, str]) -> Daemon:
    """Start the agent on a node; it ends with the node, or when the daemon is terminated.

    Args:
        node: The node.
        environment: The variables for an SDK that calls the emulator, of which the agent gets the region.
    """
    # A user's own credentials, in variables or in files, would take precedence over those of the node's role.
    unset = [f"--unset={name}" for name in os.environ if name.startswith("AWS_")]
    own = {"HOME": node.machine.home, "AWS_DEFAULT_REGION": environment["AWS_REGION"], "AWS_ENDPOINT_URL": cloud.URL}
    return await node.machine.start_daemon(
        f"{node.instance.name}-pod-identity-agent",
        *("setpriv", "--pdeathsig=TERM"),  # nsenter, the parent, does not pass a signal on
        *("env", *unset, *(f"{name}={value}" for name, value in own.items())),
        *(*COMMAND, "emulator", "pod-identity-agent", "--cluster", cloud.NAME),
    )
