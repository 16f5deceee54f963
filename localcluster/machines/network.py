"""The cluster's network: a namespace with a bridge, to which each node's namespace is joined.

Nothing of it shows on the machine. There is no proxy for services: the one that pods
need, the API server's, has its address on the bridge's own machine, and is routed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hyperpod_ebs.kit import command

GATEWAY: Final = "10.66.0.1"
"""The control plane's and the cloud's address."""

SERVICES: Final = "10.96.0.0/16"
API_SERVICE: Final = "10.96.0.1"
PODS: Final = "10.67.0.0/16"

_BRIDGE: Final = "02:00:0a:42:00:01"
"""The hardware address of the gateway; the second bit says that nobody has assigned it."""


@dataclass(frozen=True, slots=True)
class Namespace:
    """The namespaces of a process that holds them open."""

    holder: int

    def id(self) -> str:
        """The network's own name, the same for all who are in it (namespaces(7))."""
        return str(Path(f"/proc/{self.holder}/ns/net").readlink())

    @staticmethod
    def machines_own() -> str:
        """The name of the network that we are in."""
        return str(Path("/proc/self/ns/net").readlink())

    def inside(self, *argv: str) -> list[str]:
        """`argv`, to be run in the network alone."""
        return ["nsenter", f"--net=/proc/{self.holder}/ns/net", "--", *argv]

    def wholly(self, *argv: str) -> list[str]:
        """`argv`, to be run in the network, the mounts and the processes of a node."""
        return ["nsenter", f"--target={self.holder}", "--net", "--mount", "--pid", "--", *argv]


def node_address(number: int) -> str:
    """The address of the node of this number, from 1."""
    return f"10.66.0.{10 + number}"


def pods_of(number: int) -> str:
    """The range of the pods on the node of this number."""
    return f"10.67.{number}.0/24"


async def open_hub(hub: Namespace) -> None:
    """Make the bridge, with the addresses at which the control plane is found."""
    await _each(
        hub,
        ["ip", "link", "set", "lo", "up"],
        # By itself a bridge has the lowest address of its ports, and another when that port's node is gone: the others
        # would go on speaking to the old one, until they ask anew.
        ["ip", "link", "add", "bridge", "address", _BRIDGE, "type", "bridge"],
        ["ip", "address", "add", f"{GATEWAY}/24", "dev", "bridge"],
        ["ip", "address", "add", f"{API_SERVICE}/32", "dev", "lo"],
        ["ip", "link", "set", "bridge", "up"],
        ["sysctl", "--quiet", "--write", "net.ipv4.ip_forward=1"],
    )


async def join(hub: Namespace, node: Namespace, number: int) -> None:
    """Join a node to the bridge, and route its pods."""
    await _each(
        hub,
        ["ip", "link", "add", f"node{number}", "type", "veth", "peer", "name", "eth0", "netns", str(node.holder)],
        ["ip", "link", "set", f"node{number}", "master", "bridge", "up"],
        ["ip", "route", "replace", pods_of(number), "via", node_address(number)],
    )
    await _each(
        node,
        ["ip", "link", "set", "lo", "up"],
        ["ip", "address", "add", f"{node_address(number)}/24", "dev", "eth0"],
        ["ip", "link", "set", "eth0", "up"],
        ["ip", "route", "add", "default", "via", GATEWAY],
        ["sysctl", "--quiet", "--write", "net.ipv4.ip_forward=1"],
    )


async def _each(namespace: Namespace, *steps: Sequence[str]) -> None:
    for argv in steps:
        await command.run(namespace.inside(*argv))
