"""The cluster as a test sees it: kubectl, the cloud's own pages, and a look into its nodes."""

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


class Live:
    """A running cluster."""

    def __init__(self, record: Record, http: aiohttp.ClientSession) -> None:
        """`http` speaks to the cloud."""
        self.record = record
        self.kubectl = Kubectl(record.kubectl, record.kubeconfig)
        self._http = http
        self._emulator_client = EmulatorClient(Path(record.directory) / "cloud", record.environment, http)

    async def cloud(self, kind: str) -> list[dict[str, Any]]:
        """What the cloud has of a kind: volumes, snapshots, attachments, instances, clusters."""
        return (await self._emulator_client.status())[kind]

    async def volume(self, claim: Mapping[str, Any]) -> dict[str, Any]:
        """The cloud's volume behind a bound claim."""
        bound = await self.kubectl.get("persistentvolume", claim["spec"]["volumeName"])
        id_ = bound["spec"]["csi"]["volumeHandle"]
        return next(one for one in await self.cloud("volumes") if one["id"] == id_)

    async def plan(self, operation: str, **fault: Any) -> None:
        """Order trouble: see the emulator's `/_emulator/faults`."""
        async with self._http.post("/_emulator/faults", json={"operation": operation, **fault}) as answer:
            assert answer.ok, await answer.text()

    async def faults(self) -> list[Any]:
        """What is ordered, and was not met yet."""
        async with self._http.get("/_emulator/faults") as answer:
            found: list[Any] = (await answer.json())["plans"]
            return found

    async def forget_faults(self) -> None:
        """Call off all that is ordered."""
        async with self._http.delete("/_emulator/faults") as answer:
            assert answer.ok

    async def modifications(self, volume: str) -> int:
        """How often a volume of the cloud's has begun to be another."""
        return sum(one.volume == volume and one.state == "modifying" for one in await self._emulator_client.history())

    async def on_node(self, name: str, *argv: str) -> str:
        """What a program on a node prints."""
        return (await command.run(self.namespaces(name).node_argv(*argv))).out

    def namespaces(self, name: str) -> Namespaces:
        """Where a node's programs run."""
        return Namespaces(next(node.pid for node in self.record.nodes if node.name == name))

    def ec2(self) -> Any:  # an untyped context manager of aiobotocore's
        """EC2, for what the cloud's own pages do not show."""
        return self._emulator_client.client("ec2")

    def sagemaker(self) -> Any:  # as above
        """SageMaker, to replace nodes."""
        return self._emulator_client.client("sagemaker")

    async def events(self, namespace: str, of: str) -> list[str]:
        """What Kubernetes says about an object, newest last: each reason with its message."""
        listed = await self.kubectl.get(f"--namespace={namespace}", "events")
        about = [one for one in listed["items"] if one["involvedObject"].get("name") == of]
        about.sort(key=lambda one: one["lastTimestamp"] or one["eventTime"] or "")
        return [f"{one['reason']}: {one['message']}" for one in about]
