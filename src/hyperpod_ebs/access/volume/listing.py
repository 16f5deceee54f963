"""`volume list`: the volumes of the account, a cluster or a node, and who holds them."""

import asyncio
from collections.abc import Mapping, Sequence

from hyperpod_ebs.access.aws.clusters import find_cluster
from hyperpod_ebs.access.aws.session import Aws, AwsOptions, open_aws
from hyperpod_ebs.access.aws.volumes import EbsVolume, Holder, list_volumes
from hyperpod_ebs.access.console import Output, note, print_json, print_table
from hyperpod_ebs.access.kubernetes.reader import KubernetesOptions
from hyperpod_ebs.access.volume.claims import PersistentVolumes, read_persistent_volumes
from hyperpod_ebs.access.volume.node_names import NodeName
from hyperpod_ebs.access.volume.targets import read_node_name
from hyperpod_ebs.driver.model.nodes import HyperPodNode

COLUMNS = ("volume", "name", "state", "size", "type", "zone", "key", "attached_to", "claim")


async def list_and_print(
    *, cluster: str | None, node: str | None, output: Output, options: AwsOptions, kubernetes: KubernetesOptions
) -> None:
    """List the volumes of a node or a cluster, or all volumes of the account in the region.

    Raises:
        Error: AWS refuses to describe the volumes or the cluster.
    """
    async with open_aws(options) as aws:
        name = await read_node_name(aws, node) if node else None
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(read_persistent_volumes(kubernetes))
            wanted = (await find_cluster(aws, cluster)).id if cluster else ""
            volumes = [each for each in await list_volumes(aws) if is_held(each, cluster=wanted, node=name)]
            persistent = await reading
        _print(aws, volumes, persistent, output)


def is_held(volume: EbsVolume, *, cluster: str, node: NodeName | None) -> bool:
    """Whether a node of this cluster, or this node, holds the volume; true if neither is given."""
    if not cluster and node is None:
        return True
    return any(_matches(holder, cluster, node) for holder in volume.holders)


def _matches(holder: Holder, cluster: str, node: NodeName | None) -> bool:
    holding = holder.node
    is_hyperpod = isinstance(holding, HyperPodNode)
    clusters = {cluster, node.cluster if node else ""} - {""}
    if clusters and not (isinstance(holding, HyperPodNode) and clusters == {holding.cluster}):
        return False
    return node is None or (
        holding is not None and holding.instance == node.instance and (is_hyperpod or not node.is_hyperpod)
    )


def _print(aws: Aws, volumes: Sequence[EbsVolume], persistent: PersistentVolumes, output: Output) -> None:
    ordered = sorted(volumes, key=lambda volume: (volume.created, volume.id))
    if persistent.problem:
        note(f"claims are not shown, except those in the volumes' tags: {persistent.problem}")
    if output == "json":
        print_json([_document(volume, persistent) for volume in ordered])
    elif ordered:
        print_table([_row(volume, persistent) for volume in ordered], COLUMNS)
    else:
        note(f"no volumes in {aws.region}")


def _row(volume: EbsVolume, persistent: PersistentVolumes) -> Mapping[str, object]:
    return {
        "volume": volume.id,
        "name": volume.tags.get("Name", ""),
        "state": volume.state,
        "size": f"{volume.gib} GiB",
        "type": volume.type,
        "zone": volume.zone,
        "key": volume.key.rpartition("/")[2],
        "attached_to": [_holder(holder) for holder in volume.holders],
        "claim": persistent.claim(volume.id, volume.tags),
    }


def _holder(holder: Holder) -> str:
    name = str(holder.node or holder.resource)
    return name if holder.state == "attached" else f"{name} ({holder.state})"


def _document(volume: EbsVolume, persistent: PersistentVolumes) -> Mapping[str, object]:
    return {
        "volume": volume.id,
        "name": volume.tags.get("Name", ""),
        "state": volume.state,
        "sizeGiB": volume.gib,
        "type": volume.type,
        "zone": volume.zone,
        "zoneId": volume.zone_id,
        "kmsKey": volume.key,
        "snapshot": volume.snapshot,
        "multiAttach": volume.multi_attach,
        "created": volume.created.isoformat(),
        "claim": persistent.claim(volume.id, volume.tags),
        "tags": volume.tags,
        "attachments": [
            {
                "node": str(holder.node) if holder.node else "",
                "resource": holder.resource,
                "state": holder.state,
                "device": holder.device,
                "since": holder.since.isoformat() if holder.since else None,
            }
            for holder in volume.holders
        ],
    }
