"""The cluster's network: a network namespace with a bridge, the hub, to which each node's namespace is joined.

The network is not visible outside of these namespaces. Services need no proxy: pods use only one service, the API
server, which has its address on the hub itself and is reached by routing.
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
PODS: Final = "10.67.0.0/16"

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


def node_address(number: int) -> str:
    """The address of the node with this number, from 1."""
    return f"10.66.0.{10 + number}"


def pod_range(number: int) -> str:
    """The addresses of the pods on the node with this number."""
    return f"10.67.{number}.0/24"


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
        ["ip", "link", "set", "bridge", "up"],
        ["sysctl", "--quiet", "--write", "net.ipv4.ip_forward=1"],
    )


async def join_node(hub: Namespaces, node: Namespaces, number: int) -> None:
    """Join a node to the bridge, and route its pods."""
    await _run_all(
        hub,
        ["ip", "link", "add", f"node{number}", "type", "veth", "peer", "name", "eth0", "netns", str(node.pid)],
        ["ip", "link", "set", f"node{number}", "master", "bridge", "up"],
        ["ip", "route", "replace", pod_range(number), "via", node_address(number)],
    )
    await _run_all(
        node,
        ["ip", "link", "set", "lo", "up"],
        ["ip", "address", "add", f"{node_address(number)}/24", "dev", "eth0"],
        ["ip", "link", "set", "eth0", "up"],
        ["ip", "route", "add", "default", "via", GATEWAY],
        ["sysctl", "--quiet", "--write", "net.ipv4.ip_forward=1"],
    )


async def _run_all(namespaces: Namespaces, *commands: Sequence[str]) -> None:
    for argv in commands:
        await command.run(namespaces.network_argv(*argv))
