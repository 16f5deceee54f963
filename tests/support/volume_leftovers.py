"""What is left of the volumes of a namespace: in Kubernetes, at the cloud and on the nodes.

A mount that kubelet has staged is called by a digest of the volume's id, and the volume of a
claim that a test has deleted itself is known to nobody any more. So whatever is mounted or held
of a volume that the cloud has not attached there counts as well, whoever's it is: Kubernetes
unmounts before it detaches, and mounts after it has attached.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from hyperpod_ebs.driver.linux import mountinfo
from hyperpod_ebs.kit import files
from localcluster.record import NodeRecord
from tests.support.live_cluster import DRIVER, Live
from tests.support.waiting import wait_for_cluster

_OF_NAMESPACE: Final = "tag:kubernetes.io/created-for/pvc/namespace"
_MADE: Final = re.compile(r"Successfully provisioned volume (\S+)")
_VOLUME: Final = re.compile(r"vol-[0-9a-f]+")
_KINDS: Final = "persistentvolumes,volumeattachments,volumesnapshotcontents"


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """The volumes of a namespace."""

    namespace: str
    claimed: frozenset[str]
    """The persistent volumes that there are."""
    names: frozenset[str]
    """Those, and those that there were."""
    ids: frozenset[str]
    """Those that they have at the cloud."""


async def known(live: Live, namespace: str) -> Known:
    """Those that there are, and the names of those that there were."""
    listed = (await live.kubectl.get(f"--namespace={namespace}", "persistentvolumes,events"))["items"]
    volumes = [one for one in listed if _is_claimed(one, namespace)]
    told = [_MADE.search(one["message"] or "") for one in listed if one["kind"] == "Event"]
    claimed = frozenset(one["metadata"]["name"] for one in volumes)
    return Known(
        namespace=namespace,
        claimed=claimed,
        names=claimed | {made[1] for made in told if made},
        ids=frozenset(one["spec"]["csi"]["volumeHandle"] for one in volumes),
    )


async def detached(live: Live, of: Known) -> bool:
    """Whether Kubernetes has none of them attached, and wants none to be."""
    listed = (await live.kubectl.get("volumeattachments"))["items"]
    return not any(_is_attached(one, of) for one in listed)


async def gone(live: Live, of: Known) -> None:
    """Come back when nothing is left.

    Raises:
        AssertionError: Something stays; the message names it.
    """
    left: list[str] = []

    async def clean() -> bool:
        left[:] = await _left(live, of)
        return not left

    try:
        await wait_for_cluster(clean)
    except TimeoutError:
        pytest.fail(f"left behind: {', '.join(left)}", pytrace=False)


async def _left(live: Live, of: Known) -> list[str]:
    found = await _in_kubernetes(live, of)
    volumes, snapshots = await live.cloud("volumes"), await live.cloud("snapshots")
    found += [f"volume {one['id']}" for one in volumes if one["id"] in of.ids]
    found += [f"snapshot {one['id']}" for one in snapshots if one["volume"] in of.ids]
    for node in live.record.nodes:
        found += [f"{what} on {node.name}" for what in await _mounts(live, node, of)]
    found += await _loops(live, of)
    # Asked last, since it costs most: a volume that was made while all the rest went.
    return found or [f"volume {id_}" for id_ in await _tagged(live, of.namespace)]


async def _in_kubernetes(live: Live, of: Known) -> list[str]:
    def is_theirs(one: Mapping[str, Any]) -> bool:
        match one["kind"]:
            case "PersistentVolume":
                return _is_claimed(one, of.namespace)
            case "VolumeAttachment":
                return _is_attached(one, of)
            case _:
                return bool(one["spec"]["volumeSnapshotRef"]["namespace"] == of.namespace)

    listed = (await live.kubectl.get(_KINDS))["items"]
    return [f"{one['kind']} {one['metadata']['name']}" for one in listed if is_theirs(one)]


def _is_claimed(one: Mapping[str, Any], namespace: str) -> bool:
    return bool(one["kind"] == "PersistentVolume" and one["spec"].get("claimRef", {}).get("namespace") == namespace)


def _is_attached(one: Mapping[str, Any], of: Known) -> bool:
    return bool(one["spec"]["source"].get("persistentVolumeName") in of.names)


async def _tagged(live: Live, namespace: str) -> list[str]:
    """The ids of the volumes at the cloud that were made for claims of the namespace."""
    async with live.ec2() as ec2:
        found = await ec2.describe_volumes(Filters=[{"Name": _OF_NAMESPACE, "Values": [namespace]}])
    return [one["VolumeId"] for one in found["Volumes"]]


async def _mounts(live: Live, node: NodeRecord, of: Known) -> list[str]:
    table = mountinfo.parse(await files.off_loop(Path(f"/proc/{node.pid}/mountinfo").read_bytes))
    attached = [one["volume"] for one in await live.cloud("attachments") if one["instance"] == node.instance]
    theirs, there = _digests(of.ids), _digests(attached)
    staged = [
        mount.mount_point.parts
        for mount in table
        if mount.mount_point.name == "globalmount" and DRIVER in mount.mount_point.parts
    ]
    strays = {parts for parts in staged if parts[-2] not in there or parts[-2] in theirs}
    points = [
        mount.mount_point
        for mount in table
        if mount.mount_point.parts in strays or of.names & {*mount.mount_point.parts}
    ]
    return [f"mount {point}" for point in points]


def _digests(ids: Iterable[str]) -> set[str]:
    """What kubelet calls the directories in which it stages volumes."""
    return {hashlib.sha256(id_.encode()).hexdigest() for id_ in ids}


async def _loops(live: Live, of: Known) -> list[str]:
    attached = {one["volume"] for one in await live.cloud("attachments")}
    ours = f"{live.record.directory}/"
    found = []
    for loop, backing in (await files.off_loop(_held)).items():
        stray = backing.startswith(ours) and not attached.issuperset(_VOLUME.findall(backing))
        if stray or any(each in backing for each in of.names | of.ids):
            found.append(f"loop device {loop} of {backing}")
    return found


def _held() -> dict[str, str]:
    """The file that each loop device of the machine holds."""
    held = {}
    for file in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            held[file.parts[-3]] = file.read_text().strip()
        except OSError:  # it has just let go
            continue
    return held
