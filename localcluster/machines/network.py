"""The cluster's network: a network namespace with a bridge, the hub, to which each node's namespace is joined.

The network is not visible outside of these namespaces. Services need no proxy: pods use only one service, the API
server, which has its address on the hub itself and is reached by routing.

The hub stands for AWS: it has the address of the instance metadata, which nodes reach in one hop, and pods in two.
Nodes and pods have the addresses by which the emulator recognizes a machine.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hyperpod_ebs.kit import command

GATEWAY: Final = "10.66.0.1"
"""The address of the control plane and of the emulator."""

SERVICES: Final = "10.96.0.0/16"
API_SERVICE: Final = "10.96.0.1"

NODES: Final = "172.31.0.0/16"
"""The addresses of the nodes, which the emulator assigns."""

PODS: Final = "10.0.0.0/16"
"""The addresses of the pods; those of one node have the last two numbers of the node's address in the middle."""

AGENT: Final = "169.254.170.23"
"""The address of the Pod Identity agent on each node, the same as on EKS."""

METADATA: Final = "169.254.169.254"
"""The address of the instance metadata, the same as on AWS."""

_BRIDGE: Final = "02:00:0a:42:00:01"
"""The gateway's hardware address; its second-lowest bit marks it as locally administered."""


@dataclass(frozen=True, slots=True)
class Namespaces:
    """The Linux namespaces of a process, which exist as long as it runs."""

    pid: int

    def network_id(self) -> str:
        """The identity of the network namespace (namespaces(7))."""
        return str(Path(f"/proc/{self.pid}/ns/net").readlink())

    @staticmethod
    def own_network_id() -> str:
        """The identity of this process's network namespace."""
        return str(Path("/proc/self/ns/net").readlink())

    def network_argv(self, *argv: str) -> list[str]:
        """The command that runs `argv` in the network namespace only."""
        return ["nsenter", f"--net=/proc/{self.pid}/ns/net", "--", *argv]

    def node_argv(self, *argv: str) -> list[str]:
        """The command that runs `argv` in the network, mount and PID namespaces."""
        return ["nsenter", f"--target={self.pid}", "--net", "--mount", "--pid", "--", *argv]


def pod_range(address: str) -> str:
    """The addresses of the pods on the node with this address: 10.0.1.0/24 for 172.31.0.1."""
    return f"10.{address.split('.', 2)[2]}.0/24"


async def create_bridge(hub: Namespaces) -> None:
    """Create the bridge in the hub, with the addresses of the control plane."""
    await _run_all(
        hub,
        ["ip", "link", "set", "lo", "up"],
        # A bridge takes the lowest hardware address of its ports unless it is set. When that port's node ended, the
        # address would change, and the other nodes would send to the old one until their ARP entries expired.
        ["ip", "link", "add", "bridge", "address", _BRIDGE, "type", "bridge"],
        ["ip", "address", "add", f"{GATEWAY}/24", "dev", "bridge"],
        ["ip", "address", "add", f"{API_SERVICE}/32", "dev", "lo"],
        ["ip", "address", "add", f"{METADATA}/32", "dev", "lo"],
        ["ip", "link", "set", "bridge", "up"],
        ["ip", "route", "add", NODES, "dev", "bridge", "src", GATEWAY],
        ["sysctl", "--quiet", "--write", "net.ipv4.ip_forward=1"],
    )


async def join_node(hub: Namespaces, node: Namespaces, address: str) -> None:
    """Join a node to the bridge, and route its pods."""
    port = f"node{node.pid}"
    await _run_all(
        hub,
        ["ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", str(node.pid)],
        ["ip", "link", "set", port, "master", "bridge", "up"],
        ["ip", "neighbour", "flush", "to", address],  # an earlier node may have had the address
        ["ip", "route", "replace", pod_range(address), "via", address],
    )
    await _run_all(
        node,
        ["ip", "link", "set", "lo", "up"],
        ["ip", "address", "add", f"{AGENT}/32", "dev", "lo"],
        ["ip", "address", "add", f"{address}/32", "dev", "eth0"],
        ["ip", "link", "set", "eth0", "up"],
        ["ip", "route", "add", GATEWAY, "dev", "eth0"],
        ["ip", "route", "add", "default", "via", GATEWAY],
        ["sysctl", "--quiet", "--write", "net.ipv4.ip_forward=1"],
    )


async def _run_all(namespaces: Namespaces, *commands: Sequence[str]) -> None:
    for argv in commands:
        await command.run(namespaces.network_argv(*argv))
