"""The cluster as a test uses it: kubectl, the emulator, and programs on its nodes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import aiohttp

from hyperpod_ebs.demo.emulator_client import EmulatorClient
from hyperpod_ebs.kit import command
from localcluster.kubernetes.kubectl import Kubectl
from localcluster.machines.network import Namespaces
from localcluster.record import Record

DRIVER: Final = "ebs.csi.aws.com"
SNAPSHOTS: Final = "snapshot.storage.k8s.io/v1"
SYSTEM: Final = "kube-system"

AGENT: Final = "hyperpod-ebs/"
"""What the driver adds to the user agent of its AWS calls."""


class LiveCluster:
    """A running cluster."""

    def __init__(self, record: Record, http: aiohttp.ClientSession) -> None:
        """`http` is a client session for the emulator."""
        self.record = record
        self.kubectl = Kubectl(record.kubectl, record.kubeconfig)
        self._http = http
        self._emulator_client = EmulatorClient(Path(record.directory) / "cloud", record.environment, http)

    async def cloud(self, kind: str) -> list[dict[str, Any]]:
        """The emulator's resources of a kind: volumes, snapshots, attachments, instances or clusters."""
        return (await self._emulator_client.status())[kind]

    async def volume(self, claim: Mapping[str, Any]) -> dict[str, Any]:
        """The emulator's volume of a bound claim."""
        persistent_volume = await self.kubectl.get("persistentvolume", claim["spec"]["volumeName"])
        id_ = persistent_volume["spec"]["csi"]["volumeHandle"]
        return next(volume for volume in await self.cloud("volumes") if volume["id"] == id_)

    async def plan_fault(self, operation: str, **fault: Any) -> None:
        """Plan a fault: see the emulator's `/_emulator/faults`."""
        async with self._http.post("/_emulator/faults", json={"operation": operation, **fault}) as response:
            assert response.ok, await response.text()

    async def list_faults(self) -> list[Any]:
        """The planned faults that have not happened yet."""
        async with self._http.get("/_emulator/faults") as response:
            plans: list[Any] = (await response.json())["plans"]
            return plans

    async def cancel_faults(self) -> None:
        """Cancel all planned faults."""
        async with self._http.delete("/_emulator/faults") as response:
            assert response.ok

    async def calls(self) -> list[dict[str, Any]]:
        """The latest AWS calls, oldest first: see the emulator's `/_emulator/calls/latest`."""
        return await self._emulator_client.latest_calls()

    async def modification_count(self, volume: str) -> int:
        """The number of modifications that the emulator has started on a volume."""
        history = await self._emulator_client.history()
        return sum(moment.volume == volume and moment.state == "modifying" for moment in history)

    async def last_call(self) -> int:
        """The number of the latest AWS call."""
        calls = await self._emulator_client.latest_calls()
        number: int = calls[-1]["number"]
        return number

    async def driver_calls(self, *, after: int) -> list[dict[str, Any]]:
        """The signed AWS calls of the driver that began after the call with this number."""
        calls = await self._emulator_client.latest_calls()
        return [call for call in calls if call["number"] > after and AGENT in call["agent"] and call["caller"]]

    async def run_on_node(self, name: str, *argv: str) -> str:
        """Run a program on a node; its output."""
        return (await command.run(self.namespaces(name).node_argv(*argv))).out

    def namespaces(self, name: str) -> Namespaces:
        """The Linux namespaces of a node."""
        return Namespaces(next(node.pid for node in self.record.nodes if node.name == name))

    def client(self, service: str) -> Any:  # aiobotocore has no type for this context manager
        """A client of an AWS service, for what the emulator's own pages do not show; it calls as the administrator."""
        return self._emulator_client.client(service)

    async def events(self, namespace: str, of: str) -> list[str]:
        """The events of the object called `of`, newest last: each reason with its message."""
        items = (await self.kubectl.get(f"--namespace={namespace}", "events"))["items"]
        events = [item for item in items if item["involvedObject"].get("name") == of]
        events.sort(key=lambda event: event["lastTimestamp"] or event["eventTime"] or "")
        return [f"{event['reason']}: {event['message']}" for event in events]
