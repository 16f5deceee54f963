"""How much room is left: attach slots of nodes, and the account's quotas for EBS."""

import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Final

from hyperpod_ebs.access.aws.instances import list_instances
from hyperpod_ebs.access.aws.quotas import Quota, list_quotas
from hyperpod_ebs.access.aws.snapshots import list_snapshots
from hyperpod_ebs.access.aws.volumes import EbsVolume
from hyperpod_ebs.access.doctor.checks import Check
from hyperpod_ebs.access.doctor.context import Context
from hyperpod_ebs.access.doctor.findings import Finding, fails, may_fail, not_checked
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.kubernetes_node import DRIVER
from hyperpod_ebs.driver.model.limits import attach_limit
from hyperpod_ebs.driver.model.nodes import Ec2Node
from hyperpod_ebs.driver.model.tags import MANAGED

_NEARLY: Final = 0.9
"""The part of a quota from which on it is worth a warning."""

_UNKNOWN_SERVICE: Final = "UnknownOperationException"
"""The code of the embedded cloud for a service that it does not have; an account there has no quotas."""

_GIB_PER_TIB: Final = 1024
_STORAGE: Final = re.compile(r"Storage for .*\((?P<type>\w+)\) volumes, in TiB")
_SNAPSHOTS: Final = "Snapshots per Region"


async def _check_slots(context: Context) -> AsyncIterator[Finding]:
    """Whether Kubernetes' limit for the driver's volumes is reached; without that limit, EC2's for all volumes."""
    nodes, names = await context.nodes(), await context.driver_volumes()
    volumes = await context.volumes()
    of_driver = [volume for volume in volumes if volume.id in names or volume.tags.get(MANAGED) == "true"]
    count, driver_count = _volumes_by_node(volumes), _volumes_by_node(of_driver)
    types = {node.csi_id: node.type for node in await context.cluster_nodes()}
    plain = [node.instance for node in nodes if isinstance(node, Ec2Node) and node.instance in count]
    types |= {instance.id: instance.type for instance in await list_instances(await context.aws(), plain)}
    published = await _kubernetes_limits(context)
    for node in map(str, nodes):
        if node in published:
            used, limit = driver_count[node], published[node]
        elif node in types:
            used, limit = count[node], attach_limit(types[node], reserved=0)
        else:
            continue
        if used >= limit:
            yield may_fail(
                f"node {node}",
                f"{used} of {limit} attach slots are in use",
                "A further volume is not attached to it, and its pod waits",
                "move a pod with a volume to another node, or use a larger instance type",
            )


def _volumes_by_node(volumes: Sequence[EbsVolume]) -> Counter[str]:
    return Counter(str(holder.node) for volume in volumes for holder in volume.holders if holder.node is not None)


async def _kubernetes_limits(context: Context) -> dict[str, int]:
    """The number of volumes that Kubernetes expects on each node, by CSI node id."""
    limits = {}
    for item in await context.objects("/apis/storage.k8s.io/v1/csinodes"):
        for driver in item.get("spec", {}).get("drivers") or ():
            if driver.get("name") == DRIVER and (count := (driver.get("allocatable") or {}).get("count")):
                limits[str(driver.get("nodeID"))] = int(count)
    return limits


async def _check_quotas(context: Context) -> AsyncIterator[Finding]:
    aws = await context.aws()
    try:
        quotas = await list_quotas(aws, "ebs")
    except errors.CloudError as error:
        if error.code != _UNKNOWN_SERVICE:
            raise
        yield not_checked("quotas", str(error), is_elsewhere=True)
        return
    for finding in quota_findings(quotas, await context.volumes(), len(await list_snapshots(aws))):
        yield finding


def quota_findings(quotas: Sequence[Quota], volumes: Sequence[EbsVolume], snapshots: int) -> Iterator[Finding]:
    """The quotas for EBS that the account's volumes and snapshots reach, or nearly reach."""
    gib = Counter[str]()
    for volume in volumes:
        gib[volume.type] += volume.gib
    for quota in quotas:
        if match := _STORAGE.fullmatch(quota.name):
            used, unit = gib[match["type"]] / _GIB_PER_TIB, "TiB"
        elif quota.name == _SNAPSHOTS:
            used, unit = float(snapshots), "snapshots"
        else:
            continue
        if used < _NEARLY * quota.value:
            continue
        report = fails if used >= quota.value else may_fail
        yield report(
            f"quota {quota.name} ({quota.code})",
            f"{used:g} of {quota.value:g} {unit} are in use",
            "AWS creates no more of them" if used >= quota.value else "AWS soon creates no more of them",
            f"`aws service-quotas request-service-quota-increase --service-code ebs --quota-code {quota.code} "
            "--desired-value VALUE`",
        )


CHECKS: Final = (
    Check(name="attach slots", promise="the nodes have room for further volumes", run=_check_slots),
    Check(name="quotas", promise="the account's quotas for EBS leave room", run=_check_quotas),
)
