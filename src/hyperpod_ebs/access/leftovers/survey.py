"""Read AWS and the Kubernetes cluster: everything, or one object right before it is deleted."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from hyperpod_ebs.access.aws.machines import machine_states
from hyperpod_ebs.access.aws.session import Aws
from hyperpod_ebs.access.aws.snapshots import EbsSnapshot, list_snapshots
from hyperpod_ebs.access.aws.volumes import EbsVolume, list_volumes
from hyperpod_ebs.access.kubernetes.reader import KubernetesOptions
from hyperpod_ebs.access.leftovers.cluster_objects import read_kubernetes
from hyperpod_ebs.access.leftovers.judgement import Verdict, suspects
from hyperpod_ebs.access.leftovers.world import Kubernetes, World
from hyperpod_ebs.driver.model import tags

if TYPE_CHECKING:
    from types_aiobotocore_ec2.type_defs import FilterTypeDef

_OF_THE_DRIVER: Final[tuple["FilterTypeDef", ...]] = ({"Name": f"tag:{tags.MANAGED}", "Values": ["true"]},)


async def survey(aws: Aws, kubernetes: KubernetesOptions) -> World:
    """Read everything that the driver made in the region, and the Kubernetes cluster.

    Kubernetes is read last: a PersistentVolume is created after its volume.

    Raises:
        Error: AWS does not let the caller read volumes or snapshots.
    """
    volumes = await list_volumes(aws, filters=_OF_THE_DRIVER)
    snapshots = await list_snapshots(aws, filters=_OF_THE_DRIVER)
    return await _world(aws, await read_kubernetes(kubernetes), volumes, snapshots)


async def survey_again(aws: Aws, kubernetes: KubernetesOptions, verdict: Verdict) -> World:
    """Read the Kubernetes cluster and then the object of a verdict again.

    Raises:
        NotFound: The object is gone.
        Error: AWS does not let the caller read it.
    """
    cluster = await read_kubernetes(kubernetes)
    if verdict.kind == "snapshot":
        return await _world(aws, cluster, [], await list_snapshots(aws, ids=[verdict.id]))
    return await _world(aws, cluster, await list_volumes(aws, ids=[verdict.id.partition("@")[0]]), [])


async def _world(aws: Aws, kubernetes: Kubernetes, volumes: list[EbsVolume], snapshots: list[EbsSnapshot]) -> World:
    return World(
        now=datetime.now(UTC),
        region=aws.region,
        volumes=tuple(volumes),
        snapshots=tuple(snapshots),
        machines=await machine_states(aws, suspects(volumes, kubernetes)),
        kubernetes=kubernetes,
    )
