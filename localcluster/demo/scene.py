"""What the demo's picture shows: nodes with their pods and volumes, claims, and what was called at the cloud."""

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
    """A claim of the demo, and the volume that it has."""

    name: str
    state: str
    size: str
    volume: str
    """EC2's id; empty while there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """A volume on a machine, or on its way there or back, as the cloud has it."""

    volume: str
    instance: str
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call at the cloud that changed something."""

    operation: str
    about: str
    outcome: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """All of it at one moment."""

    nodes: Mapping[str, str]
    """Each node's name, and its state as kubectl writes it."""
    pods: Sequence[Pod] = ()
    claims: Sequence[Claim] = ()
    attachments: Sequence[Attachment] = ()
    calls: Sequence[Call] = ()

    @classmethod
    async def seen(cls, kubectl: Kubectl, cloud: EmulatorClient, namespace: str) -> Self:
        """What there is now."""
        items = (await kubectl.get(f"--namespace={namespace}", KINDS))["items"]
        by_kind: dict[str, list[Any]] = {}  # objects of any kind, as Kubernetes has them
        for item in items:
            by_kind.setdefault(item["kind"], []).append(item)
        handles = {
            one["metadata"]["name"]: one["spec"]["csi"]["volumeHandle"]
            for one in by_kind.get("PersistentVolume", ())
            if one["spec"].get("claimRef", {}).get("namespace") == namespace
        }
        volumes = set(handles.values())
        return cls(
            nodes={one["metadata"]["name"]: _node_state(one) for one in by_kind.get("Node", ())},
            pods=[_pod(one) for one in by_kind.get("Pod", ())],
            claims=[_claim(one, handles) for one in by_kind.get("PersistentVolumeClaim", ())],
            attachments=[
                Attachment(volume=one["volume"], instance=one["instance"], state=one["state"])
                for one in (await cloud.status())["attachments"]
                if one["volume"] in volumes
            ],
            calls=[
                Call(operation=one["operation"], about=", ".join(one["resources"][:2]), outcome=one["outcome"])
                for one in await cloud.latest_calls()
                if not one["operation"].partition(":")[2].startswith(("Describe", "List", "Get"))
            ],
        )

    def on(self, node: str) -> tuple[list[Pod], list[Attachment]]:
        """What is on a node."""
        pods = [pod for pod in self.pods if pod.node == node]
        return pods, [one for one in self.attachments if one.instance and node.endswith(one.instance)]


def _pod(found: Any) -> Pod:
    leaving = "deletionTimestamp" in found["metadata"]
    return Pod(
        name=found["metadata"]["name"],
        node=found["spec"].get("nodeName", ""),
        state="Terminating" if leaving else found["status"]["phase"],
    )


def _claim(found: Any, handles: Mapping[str, str]) -> Claim:
    return Claim(
        name=found["metadata"]["name"],
        state=found["status"]["phase"],
        size=found["spec"]["resources"]["requests"]["storage"],
        volume=handles.get(found["spec"].get("volumeName", ""), ""),
    )


def _node_state(found: Any) -> str:
    ready = {one["type"]: one["status"] for one in found["status"].get("conditions", ())}.get("Ready") == "True"
    cordoned = ", SchedulingDisabled" if found["spec"].get("unschedulable") else ""
    return ("Ready" if ready else "NotReady") + cordoned


def lines(log: str) -> list[dict[str, Any]]:
    """What a workload has said, in lines of JSON."""
    return [json.loads(line) for line in log.splitlines() if line.startswith("{")]
