"""What the demo shows of the cluster: nodes with their pods and volumes, claims, and AWS calls."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from hyperpod_ebs.demo.emulator_client import EmulatorClient
from localcluster.kubernetes.kubectl import Kubectl

KINDS = "nodes,pods,persistentvolumeclaims,persistentvolumes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """A pod of the demo."""

    name: str
    node: str
    state: str
    """Its phase, or Terminating."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A claim of the demo, and its volume."""

    name: str
    state: str
    size: str
    volume: str
    """The volume's id at EC2; empty while it has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """An attachment of a volume to an instance, in any state, as the emulator has it."""

    volume: str
    instance: str
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """An AWS call that changes resources."""

    operation: str
    resources: str
    outcome: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterState:
    """The state of the cluster at one moment."""

    nodes: Mapping[str, str]
    """The state of each node by its name, as kubectl prints it."""
    pods: Sequence[Pod] = ()
    claims: Sequence[Claim] = ()
    attachments: Sequence[Attachment] = ()
    calls: Sequence[Call] = ()

    @classmethod
    async def read(cls, kubectl: Kubectl, emulator: EmulatorClient, namespace: str) -> Self:
        """Read the current state from Kubernetes and from the emulator."""
        by_kind: dict[str, list[Any]] = {}  # objects of any kind, as Kubernetes has them
        for item in (await kubectl.get(f"--namespace={namespace}", KINDS))["items"]:
            by_kind.setdefault(item["kind"], []).append(item)
        volume_ids = {
            volume["metadata"]["name"]: volume["spec"]["csi"]["volumeHandle"]
            for volume in by_kind.get("PersistentVolume", ())
            if volume["spec"].get("claimRef", {}).get("namespace") == namespace
        }
        return cls(
            nodes={node["metadata"]["name"]: _node_state(node) for node in by_kind.get("Node", ())},
            pods=[_pod(item) for item in by_kind.get("Pod", ())],
            claims=[_claim(item, volume_ids) for item in by_kind.get("PersistentVolumeClaim", ())],
            attachments=[
                Attachment(volume=row["volume"], instance=row["instance"], state=row["state"])
                for row in (await emulator.status())["attachments"]
                if row["volume"] in volume_ids.values()
            ],
            calls=[
                Call(operation=call["operation"], resources=", ".join(call["resources"][:2]), outcome=call["outcome"])
                for call in await emulator.latest_calls()
                if not call["operation"].partition(":")[2].startswith(("Describe", "List", "Get"))
            ],
        )

    def on_node(self, node: str) -> tuple[list[Pod], list[Attachment]]:
        """The pods and attachments of a node."""
        pods = [pod for pod in self.pods if pod.node == node]
        return pods, [found for found in self.attachments if found.instance and node.endswith(found.instance)]


def _pod(item: Any) -> Pod:
    is_terminating = "deletionTimestamp" in item["metadata"]
    return Pod(
        name=item["metadata"]["name"],
        node=item["spec"].get("nodeName", ""),
        state="Terminating" if is_terminating else item["status"]["phase"],
    )


def _claim(item: Any, volume_ids: Mapping[str, str]) -> Claim:
    return Claim(
        name=item["metadata"]["name"],
        state=item["status"]["phase"],
        size=item["spec"]["resources"]["requests"]["storage"],
        volume=volume_ids.get(item["spec"].get("volumeName", ""), ""),
    )


def _node_state(item: Any) -> str:
    conditions = {condition["type"]: condition["status"] for condition in item["status"].get("conditions", ())}
    ready = "Ready" if conditions.get("Ready") == "True" else "NotReady"
    return f"{ready}, SchedulingDisabled" if item["spec"].get("unschedulable") else ready


def log_events(log: str) -> list[dict[str, Any]]:
    """The events in a workload's log, which are lines of JSON."""
    return [json.loads(line) for line in log.splitlines() if line.startswith("{")]
