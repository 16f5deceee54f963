"""Read from AWS and Kubernetes what the preconditions are decided from. What may not be read becomes `Unread`."""

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeVar, assert_never

from hyperpod_ebs.access.aws import attachment, clusters, instances, keys
from hyperpod_ebs.access.aws.clusters import Cluster
from hyperpod_ebs.access.aws.keys import KmsKey
from hyperpod_ebs.access.aws.permissions import Need, Verdict, principal_arn, simulate
from hyperpod_ebs.access.aws.session import Aws
from hyperpod_ebs.access.aws.volumes import EbsVolume, describe_volume, list_volumes
from hyperpod_ebs.access.kubernetes.reader import KubernetesOptions
from hyperpod_ebs.access.volume.claims import PersistentVolumes, read_persistent_volumes
from hyperpod_ebs.access.volume.facts import Absent, Facts, Machine, Target, Unread
from hyperpod_ebs.driver.model import errors, tags
from hyperpod_ebs.driver.model.nodes import Ec2Node, HyperPodNode, Node

T = TypeVar("T")

Act = Literal["Attach", "Detach"]

_DRIVER_TAGS: Final = frozenset({tags.VOLUME_NAME, tags.MANAGED, tags.CLUSTER, *tags.METADATA.values()})
"""The keys of tags that only volumes of the driver have."""

_GRANT_UNKNOWN: Final = "the policy of the key cannot be read, and may allow or refuse it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is to be done, as far as it is known before anything else is read."""

    act: Act
    volume: EbsVolume | Unread
    volume_id: str
    target: Target


async def read_facts(aws: Aws, question: Question) -> Facts:
    """Read the facts about a volume and a node, apart from what Kubernetes knows."""
    caller = await aws.caller()
    async with asyncio.TaskGroup() as group:
        machine = group.create_task(_machine(aws, question.target))
        attached = group.create_task(_unread(_count_attached(aws, question.target.node)))
        key = group.create_task(_key(aws, question.volume))
    permissions = await _permissions(aws, question, key.result())
    return Facts(
        account=caller.account,
        volume_id=question.volume_id,
        volume=question.volume,
        target=question.target,
        machine=machine.result(),
        attached=attached.result(),
        key=key.result(),
        permissions=permissions,
    )


async def read_volume(aws: Aws, volume_id: str) -> EbsVolume | Unread:
    """The volume, unless AWS denies to describe it.

    Raises:
        VolumeNotFound: It does not exist.
        Error: EC2 does not answer, so that nothing else can be done either.
    """
    try:
        return await describe_volume(aws, volume_id)
    except errors.Denied as denial:
        return Unread(str(denial))


async def read_manager(options: KubernetesOptions, volume: EbsVolume | Unread, volume_id: str) -> tuple[str, str]:
    """By what it is known that Kubernetes manages the volume, and why the API server could not be asked."""
    persistent = await read_persistent_volumes(options)
    return manager(volume, volume_id, persistent), persistent.problem


def manager(volume: EbsVolume | Unread, volume_id: str, persistent: PersistentVolumes) -> str:
    """By what it is known that Kubernetes manages the volume; empty if nothing shows it."""
    found = []
    if pv := persistent.by_volume.get(volume_id):
        found.append(f"persistent volume {pv.name}" + (f" of claim {pv.claim}" if pv.claim else ""))
    volume_tags: Mapping[str, str] = volume.tags if isinstance(volume, EbsVolume) else {}
    if key := next((key for key in sorted(volume_tags) if key in _DRIVER_TAGS), None):
        found.append(f"tag {key}={volume_tags[key]}")
    return ", ".join(found)


async def _machine(aws: Aws, target: Target) -> Machine | Unread | Absent:
    match target.node:
        case HyperPodNode(_, instance):
            known = target.cluster if isinstance(target.cluster, Cluster) else None
            cluster = known or Cluster(
                arn=target.cluster_arn, name="", status="", eks_cluster="", restricted_groups=frozenset()
            )
            try:
                node = await _unread(clusters.describe_node(aws, cluster, instance))
            except errors.NotFound as error:
                return Absent(f"node {target.node} is not in cluster {target.cluster_name}: {error}")
            if isinstance(node, Unread):
                return node
            return Machine(status=node.status, type=node.type, zone=node.zone, zone_id=node.zone_id, group=node.group)
        case Ec2Node(instance):
            found = await _unread(instances.list_instances(aws, [instance]))
            if isinstance(found, Unread):
                return found
            if not found:
                return Absent(f"EC2 instance {instance} does not exist in {aws.region}")
            (each,) = found
            return Machine(status=each.state, type=each.type, zone=each.zone, zone_id="", interfaces=each.interfaces)
        case _:
            assert_never(target.node)


async def _count_attached(aws: Aws, node: Node) -> int:
    """The number of volumes that the node has; no filter finds those of a HyperPod node."""
    volumes = await list_volumes(aws, filters=[{"Name": "status", "Values": ["in-use"]}])
    return sum(1 for volume in volumes if any(holder.node == node for holder in volume.holders))


async def _key(aws: Aws, volume: EbsVolume | Unread) -> KmsKey | Unread | Absent | None:
    if isinstance(volume, Unread):
        return volume
    if not volume.key:
        return None
    found = await _unread(keys.find_key(aws, volume.key))
    return found or Absent(f"KMS key {volume.key} of volume {volume.id} does not exist")


async def _permissions(aws: Aws, question: Question, key: KmsKey | Unread | Absent | None) -> Sequence[Verdict]:
    """Whether the caller may make the calls: by a dry run for EC2's own, by simulation for all others."""
    target, verdicts = question.target, list[Verdict]()
    needs = _call_needs(aws, question, (await aws.caller()).account)
    if isinstance(target.node, Ec2Node):
        verdicts, needs = [await _try_on_instance(aws, question, needs[0], target.node)], []
    if question.act == "Attach" and isinstance(question.volume, EbsVolume) and _may_need_permissions(key):
        needs = [*needs, *await _key_needs(aws, question.volume, target)]
    verdicts += await _simulate(aws, needs) if needs else []
    return [_without_key_policy(verdict) for verdict in verdicts]


def _call_needs(aws: Aws, question: Question, account: str) -> list[Need]:
    """What AWS asks for when the caller attaches or detaches the volume."""
    act, volume, target = question.act, question.volume, question.target
    volume_arn = f"arn:{aws.partition}:ec2:{aws.region}:{account}:volume/{question.volume_id}"
    context: dict[str, Sequence[str]] = {"ec2:Region": [aws.region], "aws:RequestedRegion": [aws.region]}
    if isinstance(volume, EbsVolume):
        context |= {
            "ec2:AvailabilityZone": [volume.zone],
            "ec2:Encrypted": ["true" if volume.key else "false"],
            "ec2:VolumeID": [volume.id],
            "ec2:VolumeType": [volume.type],
            "ec2:VolumeSize": [str(volume.gib)],
        }
        for name, value in volume.tags.items():
            context |= {f"aws:ResourceTag/{name}": [value], f"ec2:ResourceTag/{name}": [value]}
    if isinstance(target.node, Ec2Node):
        return [Need(action=f"ec2:{act}Volume", resource=volume_arn, context=context)]
    forwarding = _forwarding_context("sagemaker")
    needs = [Need(action=f"sagemaker:{act}ClusterNodeVolume", resource=target.cluster_arn)]
    if isinstance(target.cluster, Cluster) and target.cluster.eks_cluster:
        needs.append(Need(action="eks:DescribeCluster", resource=target.cluster.eks_cluster, context=forwarding))
    return [*needs, Need(action=f"ec2:{act}Volume", resource=volume_arn, context={**context, **forwarding})]


def _may_need_permissions(key: KmsKey | Unread | Absent | None) -> bool:
    """Whether the caller may have to be allowed to use the key; not if AWS manages the key."""
    return isinstance(key, Unread) or (isinstance(key, KmsKey) and not key.is_managed_by_aws)


async def _key_needs(aws: Aws, volume: EbsVolume, target: Target) -> list[Need]:
    """What EC2 does with the key on behalf of the caller."""
    policy = await _unread(keys.key_policy(aws, volume.key))
    through: dict[str, Sequence[str]] = {
        **_forwarding_context(*(["sagemaker"] if isinstance(target.node, HyperPodNode) else []), "ec2"),
        "kms:CallerAccount": [(await aws.caller()).account],
        "kms:ViaService": [f"ec2.{aws.region}.amazonaws.com"],
    }
    grant: dict[str, Sequence[str]] = {
        **through,
        "kms:EncryptionContextKeys": ["aws:ebs:id"],
        "kms:EncryptionContext:aws:ebs:id": [volume.id],
        "kms:GrantIsForAWSResource": ["true"],
        "kms:GrantOperations": ["Decrypt"],
        "kms:GrantConstraintType": ["EncryptionContextSubset"],
    }
    document = None if isinstance(policy, Unread) else policy
    describe = [Need(action="kms:DescribeKey", resource=volume.key, context=through, resource_policy=document)]
    return [
        *(describe if isinstance(target.node, HyperPodNode) else []),
        Need(action="kms:CreateGrant", resource=volume.key, context=grant, resource_policy=document),
    ]


def _without_key_policy(verdict: Verdict) -> Verdict:
    """The verdict; nothing is known about a key whose policy could not be read."""
    if not verdict.need.action.startswith("kms:") or verdict.need.resource_policy is not None:
        return verdict
    reason = "; ".join(part for part in (verdict.reason, _GRANT_UNKNOWN) if part)
    return Verdict(need=verdict.need, decision="unknown", reason=reason)


def _forwarding_context(*services: str) -> dict[str, Sequence[str]]:
    """The condition keys of a call that these services make for the caller, the last one for those before it."""
    hosts = [f"{service}.amazonaws.com" for service in services]
    return {
        "aws:ViaAWSService": ["true"],
        "aws:CalledVia": hosts,
        "aws:CalledViaFirst": hosts[:1],
        "aws:CalledViaLast": hosts[-1:],
    }


async def _simulate(aws: Aws, needs: Sequence[Need]) -> Sequence[Verdict]:
    try:
        principal = await principal_arn(aws, (await aws.caller()).arn)
        return await simulate(aws, principal, needs)
    except errors.Error as error:
        return [Verdict(need=need, decision="unknown", reason=str(error)) for need in needs]


async def _try_on_instance(aws: Aws, question: Question, need: Need, node: Ec2Node) -> Verdict:
    ask = attachment.attach_denial if question.act == "Attach" else attachment.detach_denial
    try:
        denial = await ask(aws, question.volume_id, node.instance)
    except errors.Error as error:  # such as one that another precondition names
        return Verdict(need=need, decision="unknown", reason=str(error))
    return Verdict(need=need, decision="denied" if denial else "allowed", reason=denial)


async def _unread(reading: Awaitable[T]) -> T | Unread:
    """What is read; if AWS denies it or does not answer, why."""
    try:
        return await reading
    except (errors.Denied, errors.Unavailable) as error:
        return Unread(str(error))
