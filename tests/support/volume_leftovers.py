"""What is left of the volumes of a namespace: in Kubernetes, at the emulator and on the nodes.

kubelet names the directory of a staged volume by a digest of the volume's id. If a test has deleted
a claim, the id of its volume is not known any more. Therefore a mount or loop device of any volume
that is not attached to the node counts as a leftover, too. That is correct for volumes of other tests
as well, because Kubernetes mounts after attaching and unmounts before detaching.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from hyperpod_ebs.kit import files
from hyperpod_ebs.sandbox import kernel_tables
from localcluster.record import NodeRecord
from tests.support.live_cluster import DRIVER, LiveCluster
from tests.support.waiting import wait_for_cluster

_NAMESPACE_TAG: Final = "tag:kubernetes.io/created-for/pvc/namespace"
_PROVISIONED: Final = re.compile(r"Successfully provisioned volume (\S+)")
_VOLUME_ID: Final = re.compile(r"vol-[0-9a-f]+")
_KINDS: Final = "persistentvolumes,volumeattachments,volumesnapshotcontents"


@dataclass(frozen=True, slots=True, kw_only=True)
class NamespaceVolumes:
    """The volumes of a namespace."""

    namespace: str
    existing: frozenset[str]
    """The names of its existing persistent volumes."""
    names: frozenset[str]
    """The names of its existing and deleted persistent volumes."""
    ids: frozenset[str]
    """The ids of the existing ones at the emulator."""


async def list_volumes(live: LiveCluster, namespace: str) -> NamespaceVolumes:
    """The volumes of a namespace; the deleted ones are found in its events."""
    items = (await live.kubectl.get(f"--namespace={namespace}", "persistentvolumes,events"))["items"]
    volumes = [item for item in items if _is_claimed(item, namespace)]
    matches = [_PROVISIONED.search(item["message"] or "") for item in items if item["kind"] == "Event"]
    existing = frozenset(volume["metadata"]["name"] for volume in volumes)
    return NamespaceVolumes(
        namespace=namespace,
        existing=existing,
        names=existing | {match[1] for match in matches if match},
        ids=frozenset(volume["spec"]["csi"]["volumeHandle"] for volume in volumes),
    )


async def are_detached(live: LiveCluster, volumes: NamespaceVolumes) -> bool:
    """Whether these volumes have no VolumeAttachment."""
    items = (await live.kubectl.get("volumeattachments"))["items"]
    return not any(_is_attachment(item, volumes) for item in items)


async def wait_until_removed(live: LiveCluster, volumes: NamespaceVolumes) -> None:
    """Wait until nothing is left of the volumes.

    Raises:
        AssertionError: Something is left; the message names it.
    """
    leftovers: list[str] = []

    async def is_clean() -> bool:
        leftovers[:] = await _leftovers(live, volumes)
        return not leftovers

    try:
        await wait_for_cluster(is_clean)
    except TimeoutError:
        pytest.fail(f"left behind: {', '.join(leftovers)}", pytrace=False)


async def _leftovers(live: LiveCluster, volumes: NamespaceVolumes) -> list[str]:
    found = await _kubernetes_objects(live, volumes)
    found += [f"volume {volume['id']}" for volume in await live.cloud("volumes") if volume["id"] in volumes.ids]
    snapshots = await live.cloud("snapshots")
    found += [f"snapshot {snapshot['id']}" for snapshot in snapshots if snapshot["volume"] in volumes.ids]
    for node in live.record.nodes:
        found += [f"mount {point} on {node.name}" for point in await _mounts(live, node, volumes)]
    found += await _loop_devices(live, volumes)
    if found:
        return found
    # Only at the end, since this call takes longest: volumes that were created while the namespace was being deleted.
    async with live.client("ec2") as ec2:
        filters = [{"Name": _NAMESPACE_TAG, "Values": [volumes.namespace]}]
        return [f"volume {volume['VolumeId']}" for volume in (await ec2.describe_volumes(Filters=filters))["Volumes"]]


async def _kubernetes_objects(live: LiveCluster, volumes: NamespaceVolumes) -> list[str]:
    def is_leftover(item: Mapping[str, Any]) -> bool:
        match item["kind"]:
            case "PersistentVolume":
                return _is_claimed(item, volumes.namespace)
            case "VolumeAttachment":
                return _is_attachment(item, volumes)
            case _:
                return bool(item["spec"]["volumeSnapshotRef"]["namespace"] == volumes.namespace)

    items = (await live.kubectl.get(_KINDS))["items"]
    return [f"{item['kind']} {item['metadata']['name']}" for item in items if is_leftover(item)]


def _is_claimed(item: Mapping[str, Any], namespace: str) -> bool:
    if item["kind"] != "PersistentVolume":
        return False
    return bool(item["spec"].get("claimRef", {}).get("namespace") == namespace)


def _is_attachment(item: Mapping[str, Any], volumes: NamespaceVolumes) -> bool:
    return bool(item["spec"]["source"].get("persistentVolumeName") in volumes.names)


async def _mounts(live: LiveCluster, node: NodeRecord, volumes: NamespaceVolumes) -> list[Path]:
    """Mount points on a node of these volumes, and of any volume that is not attached to the node."""
    table = await files.off_loop(Path(f"/proc/{node.pid}/mountinfo").read_bytes)
    points = [mount.point for mount in kernel_tables.mounts(table)]
    attached = [
        attachment["volume"]
        for attachment in await live.cloud("attachments")
        if attachment["instance"] == node.instance
    ]
    own_digests, attached_digests = _digests(volumes.ids), _digests(attached)
    staged = [point.parts for point in points if point.name == "globalmount" and DRIVER in point.parts]
    leftovers = {parts for parts in staged if parts[-2] not in attached_digests or parts[-2] in own_digests}
    return [point for point in points if point.parts in leftovers or volumes.names & {*point.parts}]


def _digests(ids: Iterable[str]) -> set[str]:
    """The names of the directories in which kubelet stages the volumes."""
    return {hashlib.sha256(id_.encode()).hexdigest() for id_ in ids}


async def _loop_devices(live: LiveCluster, volumes: NamespaceVolumes) -> list[str]:
    """Loop devices of these volumes, and those of the cluster's volumes that are not attached."""
    attached = {attachment["volume"] for attachment in await live.cloud("attachments")}
    found = []
    for loop in await files.off_loop(lambda: list(kernel_tables.loop_devices())):
        file = str(loop.file)
        is_stray = loop.file.is_relative_to(live.record.directory) and not attached.issuperset(_VOLUME_ID.findall(file))
        if is_stray or any(name in file for name in volumes.names | volumes.ids):
            found.append(f"loop device {loop.path} of {file}")
    return found
