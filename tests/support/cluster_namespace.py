"""A namespace of a test, and short words for what the test puts into it."""

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
from tests.support.live_cluster import DRIVER, SNAPSHOTS, Live
from tests.support.pod_manifests import IDLE, SHELL, pod
from tests.support.waiting import wait_for_cluster

XFS: Final = {"csi.storage.k8s.io/fstype": "xfs"}
"""The parameter of a StorageClass for the filesystem that grows here while it is mounted."""

_numbers: Final = itertools.count(1)


class Space:
    """A namespace."""

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
        await live.kubectl("wait", f"--namespace={name}", "--for=create", "serviceaccount/default", "--timeout=60s")
        return cls(live, name)

    async def close(self) -> None:
        """Delete the namespace and what is in it; come back when nothing of it is left anywhere.

        Raises:
            AssertionError: Something stays; the message names it.
        """
        known = await volume_leftovers.known(self.live, self.name)
        await self.live.kubectl("delete", "namespace", self.name, "--wait=false")
        # The namespace's own end comes to what is in it only after some seconds. And a volume that is still attached is
        # not deleted: the provisioner asks again, after longer each time.
        await self("delete", "pods,volumesnapshots", "--all", "--grace-period=1", "--wait=false")
        with suppress(TimeoutError):  # what stays attached is told below
            await wait_for_cluster(lambda: volume_leftovers.detached(self.live, known), seconds=60)
        await self("delete", "pvc", "--all", "--wait=false")
        try:
            await volume_leftovers.gone(self.live, known)
        finally:
            classes = "storageclass,volumesnapshotclass,volumeattributesclass"
            await self.live.kubectl("delete", classes, f"--selector=test={self.name}")

    async def __call__(self, *words: str, **options: Any) -> command.Finished:
        """What kubectl says, in this namespace."""
        return await self.live.kubectl(self._in, *words, **options)

    async def get(self, *words: str) -> Any:  # as Kubectl's
        """The object that kubectl finds in this namespace."""
        return await self.live.kubectl.get(self._in, *words)

    async def apply(self, *documents: Mapping[str, Any]) -> None:
        """Have these objects in this namespace."""
        await self.live.kubectl.apply(*(_placed(document, self.name) for document in documents))

    async def storage_class(self, *, binding: str = "WaitForFirstConsumer", **parameters: str) -> str:
        """The name of a new StorageClass of ours, which takes expansion."""
        terms = {"provisioner": DRIVER, "volumeBindingMode": binding, "allowVolumeExpansion": True}
        return await self._class("storage.k8s.io/v1", "StorageClass", parameters=parameters, **terms)

    async def snapshot_class(self, policy: str = "Delete", **parameters: str) -> str:
        """The name of a new VolumeSnapshotClass of ours."""
        terms = {"driver": DRIVER, "deletionPolicy": policy, "parameters": parameters}
        return await self._class(SNAPSHOTS, "VolumeSnapshotClass", **terms)

    async def attributes_class(self, **parameters: str) -> str:
        """The name of a new VolumeAttributesClass of ours."""
        terms = {"driverName": DRIVER, "parameters": parameters}
        return await self._class("storage.k8s.io/v1", "VolumeAttributesClass", **terms)

    async def _class(self, version: str, kind: str, **terms: Any) -> str:
        """The name of a new class of a kind, which goes with the namespace."""
        name = f"{self.name}-{next(_numbers)}"
        metadata = {"name": name, "labels": {"test": self.name}}
        await self.live.kubectl.apply({"apiVersion": version, "kind": kind, "metadata": metadata, **terms})
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
        return (await self("exec", name, "--", *SHELL, script)).out.strip()

    async def counted(self, name: str) -> int:
        """How far the numbers in a pod's /data/log go; all before are there, and in order."""
        none_yet = "[ -e /data/log ] || { echo 0; exit; }"
        here = "n=$(wc -l < /data/log); head -n $n /data/log | cut -d ' ' -f 1 > /dev/shm/log"
        return int(await self.shell(name, f"{none_yet}; {here}; seq 1 $n | cmp - /dev/shm/log && echo $n"))

    async def counts_on(self, name: str) -> None:
        """Come back when a pod has written further numbers than it had; its container is the first."""
        so_far = await self.counted(name)

        async def further() -> bool:
            return await self.counted(name) > so_far

        await wait_for_cluster(further)
        (container,) = (await self.get("pod", name))["status"]["containerStatuses"]
        assert container["restartCount"] == 0

    async def longest_pause(self, name: str) -> float:
        """The most seconds that lie between two numbers in a pod's /data/log."""
        between = "NR > 1 && $2 - last > most { most = $2 - last } { last = $2 } END { print most + 0 }"
        return float(await self.shell(name, f"awk '{between}' /data/log"))

    async def resize(self, claim: str, size: str) -> None:
        """Ask for more in a claim."""
        patch = {"spec": {"resources": {"requests": {"storage": size}}}}
        await self("patch", "pvc", claim, "--patch", json.dumps(patch))

    async def sized(self, name: str, size: str) -> dict[str, Any]:
        """The claim, once it has this size."""
        has = f"--for=jsonpath={{.status.capacity.storage}}={size}"
        await self("wait", has, f"pvc/{name}", "--timeout=120s")
        found: dict[str, Any] = await self.get("pvc", name)
        return found

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
            found: str = await wait_for_cluster(said, seconds=seconds)
        except TimeoutError:
            pytest.fail(f"about {of} nothing is said like {pattern}, but {events}", pytrace=False)
        return found


def _placed(document: Mapping[str, Any], namespace: str) -> dict[str, Any]:
    return {**document, "metadata": {**document["metadata"], "namespace": namespace}}
