"""The Kubernetes claims of EBS volumes: from the API server's persistent volumes, or from the driver's tags."""

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from hyperpod_ebs.access.kubernetes.reader import KubernetesOptions, Object, list_all, open_reader
from hyperpod_ebs.access.volume.volume_ids import find_volume_id
from hyperpod_ebs.driver.model import errors, tags

DRIVER: Final = "ebs.csi.aws.com"

_PATIENCE: Final = 5.0
"""Seconds to wait for the API server, which these commands can do without."""

_PVC_NAME: Final = tags.METADATA["csi.storage.k8s.io/pvc/name"]
_PVC_NAMESPACE: Final = tags.METADATA["csi.storage.k8s.io/pvc/namespace"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PersistentVolume:
    """A persistent volume that names an EBS volume."""

    name: str
    claim: str
    """The claim as namespace/name; empty if there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PersistentVolumes:
    """The persistent volumes of a Kubernetes cluster."""

    by_volume: Mapping[str, PersistentVolume] = field(default_factory=dict)
    """By the id of their EBS volume."""

    problem: str = ""
    """Why they could not be read; empty if they were."""

    def claim(self, volume_id: str, volume_tags: Mapping[str, str]) -> str:
        """The volume's claim as namespace/name, or else the name of its persistent volume; empty without either."""
        if found := self.by_volume.get(volume_id):
            return found.claim or f"PV {found.name}"
        name, namespace = volume_tags.get(_PVC_NAME), volume_tags.get(_PVC_NAMESPACE)
        return f"{namespace or '?'}/{name}" if name else ""


async def read_persistent_volumes(options: KubernetesOptions) -> PersistentVolumes:
    """Read the persistent volumes, if there is a way to an API server that answers soon."""
    try:
        async with asyncio.timeout(_PATIENCE), open_reader(options) as reader:
            objects = await list_all(reader, "/api/v1/persistentvolumes")
    except errors.Error as error:
        return PersistentVolumes(problem=str(error))
    except TimeoutError:
        return PersistentVolumes(problem=f"the API server does not answer within {_PATIENCE:g} s")
    return PersistentVolumes(by_volume=dict(_named_volumes(objects)))


def _named_volumes(objects: list[Object]) -> Iterator[tuple[str, PersistentVolume]]:
    for each in objects:
        spec = each.get("spec") or {}
        csi = spec.get("csi") or {}
        handle = csi.get("volumeHandle", "") if csi.get("driver") == DRIVER else ""
        legacy = (spec.get("awsElasticBlockStore") or {}).get("volumeID", "")  # aws://us-west-2a/vol-1
        if volume_id := find_volume_id(f"{handle} {legacy}"):
            claim = spec.get("claimRef") or {}
            yield (
                volume_id,
                PersistentVolume(
                    name=each["metadata"]["name"],
                    claim=f"{claim.get('namespace', '?')}/{claim['name']}" if claim.get("name") else "",
                ),
            )
