"""Whether the driver's role is allowed all that the driver does at AWS.

IAM's policy simulator decides, without an attempt. If the caller may not ask it, and is the driver's role itself, dry
runs decide about the actions that have them.
"""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from hyperpod_ebs.access.aws import dry_runs
from hyperpod_ebs.access.aws.instances import zone_names
from hyperpod_ebs.access.aws.permissions import FORBIDDEN, Need, Verdict, principal_arn, simulate
from hyperpod_ebs.access.aws.roles import Role, list_managed_policies
from hyperpod_ebs.access.doctor.checks import Check
from hyperpod_ebs.access.doctor.context import Context, Missing, RoleUse
from hyperpod_ebs.access.doctor.findings import Finding, fails, may_fail, not_checked
from hyperpod_ebs.access.policy.statements import MANAGED_POLICY
from hyperpod_ebs.driver.model import errors, tags
from hyperpod_ebs.driver.model.nodes import Ec2Node

SCOPED_TAG: Final = "eks-cluster-name"
"""The tag of the role or its session by which AWS's cluster-scoped policy knows the cluster."""

_WIDELY_ALLOWED: Final = ("ec2:Describe", "ec2:CreateTags")
"""What AWS's policies allow without a condition on the cluster."""

_SCOPED_POLICY: Final = "AmazonEBSCSIDriverEKSClusterScopedPolicy"
_WITHOUT_VOLUMES: Final = "No volume is created for a claim"
_CONSEQUENCES: Final[Mapping[str, str]] = {
    "ec2:DescribeAvailabilityZones": "The controller cannot find zones for claims without a topology",
    "ec2:DescribeInstances": "Some volumes are not attached to EC2 nodes",
    "ec2:DescribeInstanceTypes": "Nodes of new instance types do not learn their attach limit",
    "ec2:DescribeSnapshots": "No snapshot becomes ready",
    "ec2:DescribeVolumes": "No volume is created, attached or deleted",
    "ec2:DescribeVolumesModifications": "No volume grows or is modified",
    "ec2:CreateVolume": _WITHOUT_VOLUMES,
    "ec2:CreateTags": "Volumes and snapshots are not created, or not tagged",
    "ec2:AttachVolume": "No volume is attached to a node",
    "ec2:DetachVolume": "No volume is detached from a node",
    "ec2:DeleteVolume": "The volumes of deleted claims stay, and cost money",
    "ec2:ModifyVolume": "No volume grows or is modified",
    "ec2:CreateSnapshot": "No snapshot is taken",
    "ec2:DeleteSnapshot": "The snapshots of deleted VolumeSnapshots stay, and cost money",
    "sagemaker:AttachClusterNodeVolume": "No volume is attached to a HyperPod node",
    "sagemaker:DetachClusterNodeVolume": "No volume is detached from a HyperPod node",
    "eks:DescribeCluster": "No volume is attached to a HyperPod node or detached from it",
}
"""What does not work without an action."""

_OPTIONAL: Final = frozenset({"ec2:DescribeInstanceTypes"})
"""The actions without which most volumes work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverSetting:
    """What the driver's requests depend on."""

    partition: str
    region: str
    account: str
    hyperpod_clusters: Sequence[str]
    """The ARNs of the clusters with the driver's nodes."""

    eks_clusters: Sequence[str]
    has_ec2_nodes: bool
    cluster_tag: str
    """The value of the tag ebs.csi.aws.com/cluster-name; empty if the driver does not set it."""

    session_tags: Mapping[str, str]

    def arn(self, kind: str) -> str:
        """The ARN of any volume, snapshot or instance."""
        account = "" if kind == "snapshot" else self.account
        return f"arn:{self.partition}:ec2:{self.region}:{account}:{kind}/*"

    @property
    def principal_tags(self) -> Mapping[str, Sequence[str]]:
        """The condition keys of the session tags."""
        return {f"aws:PrincipalTag/{key}": [value] for key, value in self.session_tags.items()}


def driver_needs(setting: DriverSetting) -> list[Need]:
    """All that the driver needs to be allowed, with the tags that it gives to volumes and snapshots."""
    policy = tags.TagPolicy(cluster=setting.cluster_tag)
    volume_tags, snapshot_tags = policy.volume_tags("pvc-1", {}, ()), policy.snapshot_tags("snapshot-1")
    volume, snapshot = setting.arn("volume"), setting.arn("snapshot")
    on_volume, on_snapshot = _resource_tags(volume_tags), _resource_tags(snapshot_tags)
    new_volume, new_snapshot = _request_tags(volume_tags), _request_tags(snapshot_tags)
    describe = [action for action in _CONSEQUENCES if action.startswith("ec2:Describe")]
    needs = [
        *(Need(action=action) for action in describe),
        Need(action="ec2:CreateVolume", resource=volume, context=new_volume),
        Need(action="ec2:CreateTags", resource=volume, context={**new_volume, "ec2:CreateAction": ["CreateVolume"]}),
        Need(action="ec2:CreateVolume", resource=snapshot, context=on_snapshot),
        *(Need(action=f"ec2:{verb}Volume", resource=volume, context=on_volume) for verb in ("Attach", "Detach")),
        *(Need(action=f"ec2:{verb}Volume", resource=volume, context=on_volume) for verb in ("Modify", "Delete")),
        Need(action="ec2:CreateSnapshot", resource=volume, context=on_volume),
        Need(action="ec2:CreateSnapshot", resource=snapshot, context=new_snapshot),
        Need(
            action="ec2:CreateTags", resource=snapshot, context={**new_snapshot, "ec2:CreateAction": ["CreateSnapshot"]}
        ),
        Need(action="ec2:DeleteSnapshot", resource=snapshot, context=on_snapshot),
    ]
    if setting.has_ec2_nodes:
        instance = _resource_tags({"eks:cluster-name": setting.cluster_tag} if setting.cluster_tag else {})
        needs += [
            Need(action=f"ec2:{verb}Volume", resource=setting.arn("instance"), context=instance)
            for verb in ("Attach", "Detach")
        ]
    for cluster in setting.hyperpod_clusters:
        needs += [Need(action=f"sagemaker:{verb}ClusterNodeVolume", resource=cluster) for verb in ("Attach", "Detach")]
    if setting.hyperpod_clusters:
        needs += [Need(action="eks:DescribeCluster", resource=cluster) for cluster in setting.eks_clusters]
    return [replace(need, context={**need.context, **setting.principal_tags}) for need in needs]


def _resource_tags(given: Mapping[str, str]) -> Mapping[str, Sequence[str]]:
    return {
        key: [value] for tag, value in given.items() for key in (f"ec2:ResourceTag/{tag}", f"aws:ResourceTag/{tag}")
    }


def _request_tags(given: Mapping[str, str]) -> Mapping[str, Sequence[str]]:
    return {**{f"aws:RequestTag/{tag}": [value] for tag, value in given.items()}, "aws:TagKeys": list(given)}


async def driver_setting(context: Context, use: RoleUse, role: Role) -> DriverSetting:
    """What the requests of the driver depend on, as far as it can be found out."""
    aws, caller = await context.aws(), await context.caller()
    try:
        clusters = [cluster.arn for cluster in await context.clusters_here() if cluster.eks_cluster]
        eks_clusters = [cluster.arn for cluster in await context.eks_clusters()]
    except Missing:
        clusters = [f"arn:{aws.partition}:sagemaker:{aws.region}:{caller.account}:cluster/*"]
        eks_clusters = [f"arn:{aws.partition}:eks:{aws.region}:{caller.account}:cluster/*"]
    try:
        has_ec2_nodes = any(isinstance(node, Ec2Node) for node in await context.nodes())
        cluster_tag = await context.cluster_tag()
    except Missing:
        has_ec2_nodes, cluster_tag = False, use.eks.name if use.eks else ""
    session = {SCOPED_TAG: use.eks.name} if use.eks and use.pod_identity and use.pod_identity.has_session_tags else {}
    return DriverSetting(
        partition=aws.partition,
        region=aws.region,
        account=caller.account,
        hyperpod_clusters=clusters,
        eks_clusters=eks_clusters,
        has_ec2_nodes=has_ec2_nodes,
        cluster_tag=cluster_tag,
        session_tags={**role.tags, **session},
    )


async def _check_permissions(context: Context) -> AsyncIterator[Finding]:
    aws = await context.aws()
    for use in await context.uses_of_existing_roles():
        if (role := await _readable_role(context, use)) is None:
            continue
        setting = await driver_setting(context, use, role)
        verdicts: Sequence[Verdict] = await simulate(aws, role.arn, driver_needs(setting))
        if any(verdict.decision == "unknown" for verdict in verdicts):
            verdicts = await _try_verdicts(context, role, setting, verdicts)
        denied = {verdict.need.action for verdict in verdicts if verdict.decision == "denied"}
        scope = await _scope_problem(context, role, setting) if denied >= _changing(verdicts) else None
        for finding in _findings(role, setting, verdicts, scope):
            yield finding


async def _readable_role(context: Context, use: RoleUse) -> Role | None:
    """The role; only its ARN if the caller may not read it, as in the driver's own pod."""
    try:
        return await context.role(use.arn)
    except Missing:
        if not use.arn.startswith("arn:"):
            raise
        return Role(arn=use.arn, name=use.arn.rpartition("/")[2], trust="", tags={}, boundary="")


def _changing(verdicts: Sequence[Verdict]) -> set[str]:
    """The actions that change volumes and snapshots."""
    actions = {verdict.need.action for verdict in verdicts}
    return {action for action in actions if action.startswith("ec2:") and not action.startswith(_WIDELY_ALLOWED)}


async def _scope_problem(context: Context, role: Role, setting: DriverSetting) -> Finding | None:
    """What keeps AWS's cluster-scoped policy from allowing anything; None if the role does not have it."""
    try:
        policies = await list_managed_policies(await context.aws(), role.name)
    except errors.Denied:
        return None
    if _SCOPED_POLICY not in policies:
        return None
    session, tag = setting.session_tags.get(SCOPED_TAG), setting.cluster_tag
    fix = f"set controller.k8sTagClusterId: {session} in the values of the chart"
    if session is None:
        name = tag or "EKS-CLUSTER"
        fix = (
            "use a pod identity association with session tags, or "
            f"`aws iam tag-role --role-name {role.name} --tags Key={SCOPED_TAG},Value={name}`"
        )
    return fails(
        f"role {role.name}",
        f"{_SCOPED_POLICY} allows what has the tag {tags.CLUSTER} with the value of the session's tag {SCOPED_TAG}: "
        f"the session has {session or 'no such tag'}, and the driver sets {tag or 'no such tag'}",
        "The driver can change no volume and no snapshot",
        fix,
    )


async def _try_verdicts(
    context: Context, role: Role, setting: DriverSetting, verdicts: Sequence[Verdict]
) -> Sequence[Verdict]:
    """The verdicts of dry runs, if the caller is the role."""
    aws, caller = await context.aws(), await context.caller()
    if await principal_arn(aws, caller.arn) != role.arn:
        return verdicts
    zone = min(await zone_names(aws))
    volume_tags = tags.TagPolicy(cluster=setting.cluster_tag).volume_tags("pvc-1", {}, ())
    own = (volume.id for volume in await context.volumes() if volume.tags.get(tags.MANAGED) == "true")
    volume = next(own, "")
    tried: dict[str, Verdict] = {}
    for verdict in verdicts:
        action = verdict.need.action
        if verdict.decision == "unknown" and action not in tried:
            decision, reason = await dry_runs.try_action(aws, action, zone=zone, tags=volume_tags, volume=volume)
            tried[action] = Verdict(need=verdict.need, decision=decision, reason=reason)
    return list(tried.values())


def _findings(
    role: Role, setting: DriverSetting, verdicts: Sequence[Verdict], scope: Finding | None
) -> Sequence[Finding]:
    """One finding for each denied action; one for all of EC2's if the role may change nothing there.

    Args:
        role: The role.
        setting: What its requests depend on.
        verdicts: The verdicts about its needs.
        scope: The finding about the cluster-scoped policy, if that denies everything.
    """
    denied: dict[str, list[Verdict]] = {}
    unknown: dict[str, list[str]] = {}
    for verdict in verdicts:
        if verdict.decision == "denied":
            denied.setdefault(verdict.need.action, []).append(verdict)
        elif verdict.decision == "unknown":
            unknown.setdefault(verdict.reason, []).append(verdict.need.action)
    findings, changing = list[Finding](), _changing(verdicts)
    if changing and changing <= denied.keys():
        findings.append(scope or _without_ec2(role, setting, denied["ec2:CreateVolume"][0].reason))
        denied = {action: reasons for action, reasons in denied.items() if not action.startswith("ec2:")}
    findings += [_denial(role, action, reasons) for action, reasons in denied.items()]
    findings += [
        not_checked(f"role {role.name}", f"whether it may {', '.join(sorted(set(actions)))}: {reason}")
        for reason, actions in unknown.items()
    ]
    return findings


def _without_ec2(role: Role, setting: DriverSetting, reason: str) -> Finding:
    arn = f"arn:{setting.partition}:iam::aws:policy/{MANAGED_POLICY}"
    return fails(
        f"role {role.name}",
        f"it is allowed to change nothing in EC2: {reason}",
        _WITHOUT_VOLUMES,
        f"`aws iam attach-role-policy --role-name {role.name} --policy-arn {arn}`",
    )


def _denial(role: Role, action: str, verdicts: Sequence[Verdict]) -> Finding:
    report = may_fail if action in _OPTIONAL else fails
    resources = sorted({verdict.need.resource for verdict in verdicts})
    statement = {"Effect": "Allow", "Action": action, "Resource": resources if len(resources) > 1 else resources[0]}
    is_forbidden = any(verdict.is_forbidden for verdict in verdicts)
    add = f"add to a policy of the role (`hyperpod-ebs policy driver` prints the whole policy): {json.dumps(statement)}"
    return report(
        f"role {role.name}",
        "; ".join(verdict.reason for verdict in verdicts),
        _CONSEQUENCES[action],
        FORBIDDEN if is_forbidden else add,
    )


CHECKS: Final = (
    Check(name="permissions", promise="the driver's role is allowed what the driver does", run=_check_permissions),
)
