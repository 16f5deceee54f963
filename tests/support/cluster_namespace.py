"""A Kubernetes namespace of a test, with methods for the objects that the test creates in it."""

import itertools
import json
import re
import secrets
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, Self

import pytest

from hyperpod_ebs.kit import command
from tests.support import volume_leftovers
from tests.support.live_cluster import DRIVER, SNAPSHOTS, LiveCluster
from tests.support.pod_manifests import IDLE, SHELL, pod_manifest
from tests.support.waiting import wait_for_cluster

XFS: Final = {"csi.storage.k8s.io/fstype": "xfs"}
"""The StorageClass parameter for xfs, which can grow while mounted on every test machine."""

_numbers: Final = itertools.count(1)


class ClusterNamespace:
    """A namespace."""

    def __init__(self, live: LiveCluster, name: str) -> None:
        """Use `ClusterNamespace.create`."""
        self.live = live
        self.name = name
        self._option = f"--namespace={name}"

    @classmethod
    async def create(cls, live: LiveCluster) -> Self:
        """Create a namespace, and wait until pods can be created in it."""
        name = f"t{next(_numbers)}-{secrets.token_hex(2)}"
        await live.kubectl("create", "namespace", name)
        await live.kubectl("wait", f"--namespace={name}", "--for=create", "serviceaccount/default", "--timeout=60s")
        return cls(live, name)

    async def close(self) -> None:
        """Delete the namespace with its objects, and wait until nothing of it is left anywhere.

        Raises:
            AssertionError: Something is left; the message names it.
        """
        volumes = await volume_leftovers.list_volumes(self.live, self.name)
        await self.live.kubectl("delete", "namespace", self.name, "--wait=false")
        # Pods first, then detachment, then claims: if a claim is deleted while its volume is attached, the provisioner
        # retries with a growing backoff. Kubernetes itself deletes the objects of the namespace some seconds later.
        await self("delete", "pods,volumesnapshots", "--all", "--grace-period=1", "--wait=false")
        with suppress(TimeoutError):  # a volume that stays attached is reported below
            await wait_for_cluster(lambda: volume_leftovers.are_detached(self.live, volumes), seconds=60)
        await self("delete", "pvc", "--all", "--wait=false")
        try:
            await volume_leftovers.wait_until_removed(self.live, volumes)
        finally:
            classes = "storageclass,volumesnapshotclass,volumeattributesclass"
            await self.live.kubectl("delete", classes, f"--selector=test={self.name}")

    async def __call__(self, *words: str, **options: Any) -> command.Finished:
        """Run kubectl in this namespace."""
        return await self.live.kubectl(self._option, *words, **options)

    async def get(self, *words: str) -> Any:  # as Kubectl's
        """The object that `kubectl get` returns in this namespace."""
        return await self.live.kubectl.get(self._option, *words)

    async def apply(self, *documents: Mapping[str, Any]) -> None:
        """Create or update objects in this namespace."""
        await self.live.kubectl.apply(
            *({**document, "metadata": {**document["metadata"], "namespace": self.name}} for document in documents)
        )

    async def create_storage_class(self, *, binding: str = "WaitForFirstConsumer", **parameters: str) -> str:
        """Create a StorageClass of the driver that allows expansion; its name."""
        fields = {"provisioner": DRIVER, "volumeBindingMode": binding, "allowVolumeExpansion": True}
        return await self._create_class("storage.k8s.io/v1", "StorageClass", parameters=parameters, **fields)

    async def create_snapshot_class(self, policy: str = "Delete", **parameters: str) -> str:
        """Create a VolumeSnapshotClass of the driver; its name."""
        fields = {"driver": DRIVER, "deletionPolicy": policy, "parameters": parameters}
        return await self._create_class(SNAPSHOTS, "VolumeSnapshotClass", **fields)

    async def create_attributes_class(self, **parameters: str) -> str:
        """Create a VolumeAttributesClass of the driver; its name."""
        fields = {"driverName": DRIVER, "parameters": parameters}
        return await self._create_class("storage.k8s.io/v1", "VolumeAttributesClass", **fields)

    async def _create_class(self, version: str, kind: str, **fields: Any) -> str:
        """Create a class, which `close` deletes; its name."""
        name = f"{self.name}-{next(_numbers)}"
        metadata = {"name": name, "labels": {"test": self.name}}
        await self.live.kubectl.apply({"apiVersion": version, "kind": kind, "metadata": metadata, **fields})
        return name

    async def create_snapshot(self, name: str, claim: str, *, of: str) -> None:
        """Create a snapshot of a claim's volume, with the VolumeSnapshotClass `of`."""
        spec = {"volumeSnapshotClassName": of, "source": {"persistentVolumeClaimName": claim}}
        await self.apply({"apiVersion": SNAPSHOTS, "kind": "VolumeSnapshot", "metadata": {"name": name}, "spec": spec})

    async def wait_for_snapshot(self, snapshot: str) -> Any:  # as Kubectl's
        """Wait until a snapshot is ready to be restored; its VolumeSnapshotContent."""
        await self("wait", "--for=jsonpath={.status.readyToUse}=true", f"volumesnapshot/{snapshot}", "--timeout=120s")
        content = (await self.get("volumesnapshot", snapshot))["status"]["boundVolumeSnapshotContentName"]
        return await self.live.kubectl.get("volumesnapshotcontent", content)

    async def create_claim(
        self, name: str, *, of: str, size: str = "1Gi", mode: str = "ReadWriteOnce", **spec: Any
    ) -> None:
        """Create a claim with the StorageClass `of`; `spec` overrides fields of its spec."""
        fields = {"storageClassName": of, "accessModes": [mode], "resources": {"requests": {"storage": size}}, **spec}
        await self.apply(
            {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": fields}
        )

    async def create_pod(
        self, name: str, claim: str, *, on: str | None = None, script: str = IDLE, **spec: Any
    ) -> None:
        """Create a pod that runs a shell script with the claim's volume at /data; see `pod_manifest`."""
        await self.apply(pod_manifest(name, claim, on=on, script=script, **spec))

    async def wait_for_pod(self, name: str, *, seconds: float = 120) -> dict[str, Any]:
        """Wait until a pod is ready; the pod."""
        await self("wait", "--for=condition=Ready", f"pod/{name}", f"--timeout={seconds:g}s", deadline=seconds + 10)
        pod: dict[str, Any] = await self.get("pod", name)
        return pod

    async def delete(self, *words: str) -> None:
        """Delete objects, and wait until they are gone."""
        await self("delete", *words, "--wait")

    async def run_script(self, name: str, script: str) -> str:
        """Run a shell script in a pod; its output."""
        return (await self("exec", name, "--", *SHELL, script)).out.strip()

    async def last_number(self, name: str) -> int:
        """The last number in a pod's /data/log, after a check that all numbers before it are there in order."""
        no_log = "[ -e /data/log ] || { echo 0; exit; }"
        numbers = "n=$(wc -l < /data/log); head -n $n /data/log | cut -d ' ' -f 1 > /dev/shm/log"
        return int(await self.run_script(name, f"{no_log}; {numbers}; seq 1 $n | cmp - /dev/shm/log && echo $n"))

    async def wait_for_more_numbers(self, name: str) -> None:
        """Wait until a pod has written more numbers than now, and check that its container was never restarted."""
        before = await self.last_number(name)

        async def has_more() -> bool:
            return await self.last_number(name) > before

        await wait_for_cluster(has_more)
        (container,) = (await self.get("pod", name))["status"]["containerStatuses"]
        assert container["restartCount"] == 0

    async def longest_pause(self, name: str) -> float:
        """The longest time between two numbers in a pod's /data/log, in seconds."""
        awk = "NR > 1 && $2 - last > most { most = $2 - last } { last = $2 } END { print most + 0 }"
        return float(await self.run_script(name, f"awk '{awk}' /data/log"))

    async def resize_claim(self, claim: str, size: str) -> None:
        """Request a larger size in a claim."""
        patch = {"spec": {"resources": {"requests": {"storage": size}}}}
        await self("patch", "pvc", claim, "--patch", json.dumps(patch))

    async def wait_for_size(self, name: str, size: str) -> dict[str, Any]:
        """Wait until a claim has this capacity; the claim."""
        condition = f"--for=jsonpath={{.status.capacity.storage}}={size}"
        await self("wait", condition, f"pvc/{name}", "--timeout=120s")
        claim: dict[str, Any] = await self.get("pvc", name)
        return claim

    async def wait_until_bound(self, name: str) -> dict[str, Any]:
        """Wait until a claim is bound; the claim."""
        await self("wait", "--for=jsonpath={.status.phase}=Bound", f"pvc/{name}", "--timeout=60s")
        claim: dict[str, Any] = await self.get("pvc", name)
        return claim

    async def wait_for_event(self, of: str, pattern: str, *, seconds: float = 120) -> str:
        """Wait for an event of the object called `of` that matches a regular expression; the event."""
        events: list[str] = []

        async def matching_event() -> str | None:
            events[:] = await self.live.events(self.name, of)
            return next((event for event in events if re.search(pattern, event)), None)

        try:
            return await wait_for_cluster(matching_event, seconds=seconds)
        except TimeoutError:
            pytest.fail(f"no event of {of} matches {pattern}; its events are {events}", pytrace=False)
