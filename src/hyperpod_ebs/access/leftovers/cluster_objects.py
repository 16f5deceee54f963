"""Read the objects of the Kubernetes cluster that may need volumes and snapshots.

A list that cannot be read completely becomes a gap: then nothing can be judged.
"""

import asyncio
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final, TypeVar

from hyperpod_ebs.access.kubernetes.reader import KubernetesOptions, Object, Reader, list_all, open_reader
from hyperpod_ebs.access.leftovers.judgement import DRIVER
from hyperpod_ebs.access.leftovers.world import (
    Claim,
    Ids,
    Kubernetes,
    KubernetesAttachment,
    KubernetesNode,
    PersistentVolume,
    SnapshotClass,
    SnapshotContent,
    StorageClass,
)
from hyperpod_ebs.driver.model import errors, nodes

T = TypeVar("T")

_BUILT_IN: Final = "kubernetes.io/aws-ebs"
_CONTAINER: Final = "ebs-plugin"
_FLAG: Final = "--k8s-tag-cluster-id"
_VARIABLE: Final = "HYPERPOD_EBS_K8S_TAG_CLUSTER_ID"
_ID: Final = re.compile(r"(?:vol|snap)-[0-9a-f]+")

_SNAPSHOTS: Final = "/apis/snapshot.storage.k8s.io/v1"
_DEPLOYMENTS: Final = "/apis/apps/v1/deployments"
_VOLUMES: Final = "/api/v1/persistentvolumes"
_CLAIMS: Final = "/api/v1/persistentvolumeclaims"
_CLASSES: Final = "/apis/storage.k8s.io/v1/storageclasses"
_CONTENTS: Final = f"{_SNAPSHOTS}/volumesnapshotcontents"
_SNAPSHOT_CLASSES: Final = f"{_SNAPSHOTS}/volumesnapshotclasses"
_NODES: Final = "/api/v1/nodes"
_ATTACHMENTS: Final = "/apis/storage.k8s.io/v1/volumeattachments"

LISTS: Final = (
    _DEPLOYMENTS,
    _VOLUMES,
    _CLAIMS,
    _CLASSES,
    _CONTENTS,
    _SNAPSHOT_CLASSES,
    _NODES,
    _ATTACHMENTS,
)
"""The lists of which all objects are read."""


class _WholeLists:
    """A reader that refuses answers that are not lists, such as a proxy's, which would count as empty ones."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def get(self, path: str, **query: str) -> Object:
        try:
            answer = await self._reader.get(path, **query)
        except ValueError as error:
            raise errors.Unavailable(f"cannot read {path} from the API server: the answer is not JSON") from error
        if not isinstance(answer, dict) or "items" not in answer:
            raise errors.Unavailable(f"cannot read {path} from the API server: the answer is not a list of objects")
        return answer

    async def get_text(self, path: str, **query: str) -> str:
        return await self._reader.get_text(path, **query)


async def read_kubernetes(options: KubernetesOptions) -> Kubernetes:
    """Read the cluster; what cannot be read becomes a gap."""
    try:
        async with open_reader(options) as reader:
            return await _read(_WholeLists(reader))
    except errors.Error as error:
        return Kubernetes(gaps=(str(error),))


async def _read(reader: Reader) -> Kubernetes:
    lists, gaps, missing = dict[str, list[Object]](), list[str](), set[str]()

    async def read(path: str) -> None:
        try:
            lists[path] = await list_all(reader, path)
        except errors.NotFound as error:
            missing.add(path)
            if not path.startswith(_SNAPSHOTS):
                gaps.append(str(error))
        except errors.Error as error:
            gaps.append(str(error))

    async with asyncio.TaskGroup() as group:
        for path in LISTS:
            group.create_task(read(path))
    return parse_objects(lists, gaps=gaps, knows_snapshots=not missing)


def parse_objects(
    lists: Mapping[str, Sequence[Object]], *, gaps: Iterable[str] = (), knows_snapshots: bool = True
) -> Kubernetes:
    """The cluster whose objects are in these lists, by the paths of `LISTS`; an object that lacks a member is a gap."""
    gaps = list(gaps)

    def parse(path: str, parse_one: Callable[[Object], T | None]) -> tuple[T, ...]:
        try:
            return tuple(one for each in lists.get(path, ()) if (one := parse_one(each)) is not None)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            gaps.append(f"cannot read {path} from the API server: an object lacks what its kind must have ({error})")
            return ()

    controllers = parse(_DEPLOYMENTS, _controllers)
    found = Kubernetes(
        controllers=frozenset(name for names in controllers for name in names),
        volumes=parse(_VOLUMES, _persistent_volume),
        claims=parse(_CLAIMS, _claim),
        classes=parse(_CLASSES, _storage_class),
        knows_snapshots=knows_snapshots,
        contents=parse(_CONTENTS, _snapshot_content),
        snapshot_classes=parse(_SNAPSHOT_CLASSES, _snapshot_class),
        nodes=parse(_NODES, _node),
        attachments=parse(_ATTACHMENTS, _attachment),
    )
    return replace(found, gaps=tuple(dict.fromkeys(gaps)))


def _controllers(deployment: Object) -> frozenset[str]:
    """The cluster's name that the driver's containers in a deployment write into tags; empty for none."""
    containers = deployment["spec"]["template"]["spec"]["containers"]
    return frozenset(_cluster_name(each) for each in containers if each["name"] == _CONTAINER)


def _cluster_name(container: Object) -> str:
    words = [*(container.get("command") or ()), *(container.get("args") or ())]
    for word, following in zip(words, [*words[1:], ""], strict=True):
        flag, equals, value = word.partition("=")
        if flag == _FLAG:
            return str(value if equals else following)
    variables = {each["name"]: each.get("value", "") for each in container.get("env") or ()}
    return str(variables.get(_VARIABLE, ""))


def _persistent_volume(found: Object) -> PersistentVolume:
    return PersistentVolume(
        name=_name(found),
        phase=(found.get("status") or {}).get("phase") or "Pending",
        policy=found["spec"].get("persistentVolumeReclaimPolicy") or "Retain",
        ids=_ids(found),
    )


def _claim(found: Object) -> Claim:
    return Claim(
        namespace=found["metadata"]["namespace"],
        name=_name(found),
        uid=found["metadata"]["uid"],
        volume_name=found["spec"].get("volumeName") or "",
        ids=_ids(found),
    )


def _storage_class(found: Object) -> StorageClass | None:
    if found["provisioner"] not in {DRIVER, _BUILT_IN}:
        return None
    parameters: Mapping[str, str] = {key.lower(): value for key, value in (found.get("parameters") or {}).items()}
    return StorageClass(
        name=_name(found),
        policy=found.get("reclaimPolicy") or "Delete",
        encrypted=(parameters.get("encrypted") or "").lower() == "true",
        ids=_ids(found),
    )


def _snapshot_content(found: Object) -> SnapshotContent:
    return SnapshotContent(
        name=_name(found),
        snapshot_uid=(found["spec"].get("volumeSnapshotRef") or {}).get("uid") or "",
        policy=found["spec"].get("deletionPolicy") or "Retain",
        ids=_ids(found),
    )


def _snapshot_class(found: Object) -> SnapshotClass | None:
    return SnapshotClass(name=_name(found), policy=found["deletionPolicy"]) if found["driver"] == DRIVER else None


def _node(found: Object) -> KubernetesNode:
    try:
        instance = nodes.parse_provider_id(found["spec"].get("providerID") or "").instance
    except errors.NodeNotFound:
        instance = ""
    return KubernetesNode(name=_name(found), instance=instance, ids=_ids(found))


def _attachment(found: Object) -> KubernetesAttachment | None:
    if found["spec"]["attacher"] != DRIVER:
        return None
    return KubernetesAttachment(
        name=_name(found),
        node=found["spec"]["nodeName"],
        volume_name=found["spec"]["source"].get("persistentVolumeName") or "",
        created=datetime.fromisoformat(found["metadata"]["creationTimestamp"]),
        ids=_ids(found),
    )


def _name(found: Object) -> str:
    name: str = found["metadata"]["name"]
    return name


def _ids(found: Object) -> Ids:
    return frozenset(_ID.findall(json.dumps(found)))
