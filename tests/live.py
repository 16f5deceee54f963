"""The cluster as a test sees it: kubectl, the cloud's own pages, and a look into its nodes."""

import asyncio
import itertools
import json
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Self

import aiohttp
import pytest

from hyperpod_ebs.demo.fleet import Emulated
from hyperpod_ebs.kit import command, files
from hyperpod_ebs.linux import mountinfo
from localcluster.images import PAUSE
from localcluster.kubectl import Kubectl
from localcluster.network import Namespace
from localcluster.record import Record

DRIVER: Final = "ebs.csi.aws.com"
SNAPSHOTS: Final = "snapshot.storage.k8s.io/v1"
SYSTEM: Final = "kube-system"

IDLE: Final = "trap exit TERM; while :; do sleep 1; done"
"""A script that waits to be told to end."""

COUNT: Final = (
    "trap exit TERM; n=0; while :; do n=$((n+1)); echo $n >> /data/log; sync -d /data/log; usleep 50000; done"
)
"""A script that writes the numbers from 1 on, each to the disk before the next."""

XFS: Final = {"csi.storage.k8s.io/fstype": "xfs"}
"""The parameter of a StorageClass for the filesystem that grows here while it is mounted."""

_SHELL: Final = ("/bin/busybox", "sh", "-c")

_numbers: Final = itertools.count(1)


async def eventually(true: Callable[[], Awaitable[Any]], *, seconds: float = 120) -> Any:
    """The first thing that is true; it looks again and again, since much of Kubernetes tells nobody."""
    async with asyncio.timeout(seconds):
        while not (found := await true()):  # noqa: ASYNC110 - see above
            await asyncio.sleep(0.5)
        return found


class Live:
    """A running cluster."""

    def __init__(self, record: Record, http: aiohttp.ClientSession) -> None:
        """`http` speaks to the cloud."""
        self.record = record
        self.kubectl = Kubectl(record.kubectl, record.kubeconfig)
        self._http = http
        self._emulated = Emulated(Path(record.directory) / "cloud", record.environment, http)

    async def cloud(self, kind: str) -> list[dict[str, Any]]:
        """What the cloud has of a kind: volumes, snapshots, attachments, instances, clusters."""
        async with self._http.get("/_emulator/status") as answer:
            found: list[dict[str, Any]] = (await answer.json())[kind]
            return found

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

    async def on_node(self, name: str, *argv: str) -> str:
        """What a program on a node prints."""
        node = next(node for node in self.record.nodes if node.name == name)
        return (await command.run(Namespace(node.holder).wholly(*argv))).out

    def ec2(self) -> Any:  # an untyped context manager of aiobotocore's
        """EC2, for what the cloud's own pages do not show."""
        return self._emulated.client("ec2")

    def sagemaker(self) -> Any:  # as above
        """SageMaker, to replace nodes."""
        return self._emulated.client("sagemaker")

    async def events(self, namespace: str, of: str) -> list[str]:
        """What Kubernetes says about an object, newest last: each reason with its message."""
        listed = await self.kubectl.get(f"--namespace={namespace}", "events")
        about = [one for one in listed["items"] if one["involvedObject"].get("name") == of]
        about.sort(key=lambda one: one["lastTimestamp"] or one["eventTime"] or "")
        return [f"{one['reason']}: {one['message']}" for one in about]


class Space:
    """A namespace, and short words for what a test puts into it."""

    def __init__(self, live: Live, name: str) -> None:
        """Use `opened`."""
        self.live = live
        self.name = name
        self._in = f"--namespace={name}"

    @classmethod
    async def opened(cls, live: Live) -> Self:
        """A new namespace."""
        name = f"t{next(_numbers)}-{secrets.token_hex(2)}"
        await live.kubectl("create", "namespace", name)
        return cls(live, name)

    async def close(self) -> None:
        """Delete the namespace and what is in it; come back when nothing of it is left anywhere.

        Raises:
            AssertionError: Something stays; the message names it.
        """
        volumes = await self._volumes()
        await self("delete", "pods", "--all", "--grace-period=1", "--wait=false")
        await self.live.kubectl("delete", "namespace", self.name, "--wait=false")
        left: list[str] = []

        async def clean() -> bool:
            left[:] = await self._left(volumes)
            return not left

        try:
            await eventually(clean)
        except TimeoutError:
            pytest.fail(f"left behind: {', '.join(left)}", pytrace=False)
        await self.live.kubectl(
            "delete", "storageclass,volumesnapshotclass,volumeattributesclass", f"--selector=test={self.name}"
        )

    async def _volumes(self) -> dict[str, str]:
        """The cloud's id of each persistent volume that was claimed here."""
        claimed = [
            one
            for one in (await self.live.kubectl.get("persistentvolumes"))["items"]
            if one["spec"].get("claimRef", {}).get("namespace") == self.name
        ]
        return {one["metadata"]["name"]: one["spec"]["csi"]["volumeHandle"] for one in claimed}

    async def _left(self, volumes: Mapping[str, str]) -> list[str]:
        """What of these volumes, or of this namespace's snapshots, is in Kubernetes, at the cloud or on a node."""
        found = [f"persistent volume {name}" for name in await self._volumes()]
        contents = (await self.live.kubectl.get("volumesnapshotcontents"))["items"]
        mine = [one for one in contents if one["spec"]["volumeSnapshotRef"]["namespace"] == self.name]
        found += [f"snapshot content {one['metadata']['name']}" for one in mine]
        ids = set(volumes.values())
        found += [f"volume {one['id']}" for one in await self.live.cloud("volumes") if one["id"] in ids]
        found += [f"snapshot {one['id']}" for one in await self.live.cloud("snapshots") if one["volume"] in ids]
        for node in self.live.record.nodes:
            table = mountinfo.parse(await files.off_loop(Path(f"/proc/{node.holder}/mountinfo").read_bytes))
            points = [mount.point for mount in table if volumes.keys() & set(mount.point.parts)]
            found += [f"mount {point} on {node.name}" for point in points]
        return found

    async def __call__(self, *words: str, **options: Any) -> command.Finished:
        """What kubectl says, in this namespace."""
        return await self.live.kubectl(self._in, *words, **options)

    async def get(self, *words: str) -> Any:  # as Kubectl's
        """The object that kubectl finds in this namespace."""
        return await self.live.kubectl.get(self._in, *words)

    async def apply(self, *documents: Mapping[str, Any]) -> None:
        """Have these objects in this namespace."""
        await self.live.kubectl.apply(*(_placed(document, self.name) for document in documents))

    async def storage_class(self, **parameters: str) -> str:
        """The name of a new StorageClass of ours, which waits for the first consumer and takes expansion."""
        name = f"{self.name}-{next(_numbers)}"
        await self.live.kubectl.apply(
            {
                "apiVersion": "storage.k8s.io/v1",
                "kind": "StorageClass",
                "metadata": {"name": name, "labels": {"test": self.name}},
                "provisioner": DRIVER,
                "parameters": parameters,
                "volumeBindingMode": "WaitForFirstConsumer",
                "allowVolumeExpansion": True,
            }
        )
        return name

    async def snapshot_class(self, policy: str = "Delete", **parameters: str) -> str:
        """The name of a new VolumeSnapshotClass of ours."""
        name = f"{self.name}-{next(_numbers)}"
        await self.live.kubectl.apply(
            {
                "apiVersion": SNAPSHOTS,
                "kind": "VolumeSnapshotClass",
                "metadata": {"name": name, "labels": {"test": self.name}},
                "driver": DRIVER,
                "deletionPolicy": policy,
                "parameters": parameters,
            }
        )
        return name

    async def attributes_class(self, **parameters: str) -> str:
        """The name of a new VolumeAttributesClass of ours."""
        name = f"{self.name}-{next(_numbers)}"
        await self.live.kubectl.apply(
            {
                "apiVersion": "storage.k8s.io/v1",
                "kind": "VolumeAttributesClass",
                "metadata": {"name": name, "labels": {"test": self.name}},
                "driverName": DRIVER,
                "parameters": parameters,
            }
        )
        return name

    async def snapshot(self, name: str, claim: str, *, of: str) -> None:
        """Have a snapshot of a claim's volume."""
        asked = {"volumeSnapshotClassName": of, "source": {"persistentVolumeClaimName": claim}}
        await self.apply({"apiVersion": SNAPSHOTS, "kind": "VolumeSnapshot", "metadata": {"name": name}, "spec": asked})

    async def ready(self, snapshot: str) -> Any:  # as Kubectl's
        """The content of a snapshot that can be restored."""
        await self("wait", "--for=jsonpath={.status.readyToUse}=true", f"volumesnapshot/{snapshot}", "--timeout=120s")
        bound = (await self.get("volumesnapshot", snapshot))["status"]["boundVolumeSnapshotContentName"]
        return await self.live.kubectl.get("volumesnapshotcontent", bound)

    async def claim(self, name: str, *, of: str, size: str = "1Gi", mode: str = "ReadWriteOnce", **spec: Any) -> None:
        """Have a claim; `spec` is laid over its specification."""
        asked = {"storageClassName": of, "accessModes": [mode], "resources": {"requests": {"storage": size}}, **spec}
        await self.apply(
            {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": asked}
        )

    async def pod(self, name: str, claim: str, *, on: str | None = None, script: str = IDLE, **spec: Any) -> None:
        """Have a pod that runs a shell script with the claim's volume at /data; `spec` is laid over its own."""
        await self.apply(pod(name, claim, on=on, script=script, **spec))

    async def running(self, name: str, *, seconds: float = 120) -> dict[str, Any]:
        """The pod, once it is ready."""
        await self("wait", "--for=condition=Ready", f"pod/{name}", f"--timeout={seconds:g}s", deadline=seconds + 10)
        found: dict[str, Any] = await self.get("pod", name)
        return found

    async def gone(self, *what: str) -> None:
        """Delete objects, and wait until they are gone."""
        await self("delete", *what, "--wait")

    async def shell(self, name: str, script: str) -> str:
        """What a shell script in a pod prints."""
        return (await self("exec", name, "--", *_SHELL, script)).out.strip()

    async def counted(self, name: str) -> int:
        """How far the numbers in a pod's /data/log go; all before are there, and in order."""
        here = "n=$(wc -l < /data/log); head -n $n /data/log > /dev/shm/log"
        return int(await self.shell(name, f"{here}; seq 1 $n | cmp - /dev/shm/log && echo $n"))

    async def resize(self, claim: str, size: str) -> None:
        """Ask for more in a claim."""
        patch = {"spec": {"resources": {"requests": {"storage": size}}}}
        await self("patch", "pvc", claim, "--patch", json.dumps(patch))

    async def bound(self, name: str) -> dict[str, Any]:
        """The claim, once it is bound."""
        await self("wait", "--for=jsonpath={.status.phase}=Bound", f"pvc/{name}", "--timeout=60s")
        found: dict[str, Any] = await self.get("pvc", name)
        return found

    async def says(self, of: str, pattern: str, *, seconds: float = 120) -> str:
        """What Kubernetes has said about an object in this namespace that fits a regular expression."""
        events: list[str] = []

        async def said() -> str | None:
            events[:] = await self.live.events(self.name, of)
            return next((one for one in events if re.search(pattern, one)), None)

        try:
            found: str = await eventually(said, seconds=seconds)
        except TimeoutError:
            pytest.fail(f"about {of} nothing is said like {pattern}, but {events}", pytrace=False)
        return found


def pod(
    name: str,
    claim: str,
    *,
    on: str | None = None,
    script: str = IDLE,
    container: Mapping[str, Any] = MappingProxyType({}),
    **spec: Any,
) -> dict[str, Any]:
    """The document of a pod that runs a shell script with the claim's volume at /data.

    `spec` is laid over its specification, `container` over that of its one container.
    """
    main = {
        "name": "main",
        "image": PAUSE,
        "imagePullPolicy": "IfNotPresent",
        "command": [*_SHELL, script],
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
        **container,
    }
    where = {"nodeSelector": {"kubernetes.io/hostname": on}} if on else {}
    volume = {"name": "data", "persistentVolumeClaim": {"claimName": claim}}
    said = {"containers": [main], "volumes": [volume], "terminationGracePeriodSeconds": 1, **where, **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}}, "spec": said}


def _placed(document: Mapping[str, Any], namespace: str) -> dict[str, Any]:
    return {**document, "metadata": {**document["metadata"], "namespace": namespace}}
