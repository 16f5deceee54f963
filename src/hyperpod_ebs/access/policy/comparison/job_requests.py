"""The requests of each job, one for each action and resource that AWS asks the policies about.

Sources: Service Authorization Reference, "Actions, resources, and condition keys" for Amazon EC2, SageMaker AI and KMS;
SageMaker Developer Guide, "Using the Amazon EBS CSI driver on SageMaker HyperPod EKS clusters".
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from hyperpod_ebs.access.policy.comparison.arn_differences import ANY_CLUSTER
from hyperpod_ebs.access.policy.statements import EVERY, Setting
from hyperpod_ebs.driver.model.tags import METADATA, TagPolicy
from hyperpod_ebs.iam.request import Context, Principal, PrincipalType, Request

Values = Mapping[str, str | Sequence[str]]

PROBE_VOLUME: Final = "vol-0123456789abcdef0"
_SNAPSHOT: Final = "snap-0123456789abcdef0"
_INSTANCE: Final = "i-0123456789abcdef0"
_CLAIM: Final = "pvc-0123"
_TAG: Final = "tier"
"""A tag of a user, as a VolumeAttributesClass may set it."""

_SAGEMAKER: Final = "sagemaker.amazonaws.com"
_EC2: Final = "ec2.amazonaws.com"

_IN_TREE: Final = {METADATA["csi.storage.k8s.io/pvc/name"]: "claim"}


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRequest:
    """What AWS asks the policies for one step of a job."""

    step: str
    """What the user wants: attach a volume to a HyperPod node."""

    action: str
    resource: str = EVERY
    context: Values = field(default_factory=dict)
    is_optional: bool = False
    """Whether only some users need the step."""

    def request(self, principal: Principal, account: str, more: Values) -> Request:
        """The request of this principal, with more values of condition keys."""
        return Request(
            principal=principal,
            action=self.action,
            resource=self.resource,
            resource_account=account,
            context=Context(more, self.context),
        )


def role_principal(arn: str) -> Principal:
    """Sessions of a role; for the ARN of a user, the user."""
    account = arn.split(":")[4]
    if ":user/" in arn:
        return Principal(type=PrincipalType.USER, arn=arn, account=account)
    return Principal(type=PrincipalType.ROLE_SESSION, arn=arn, account=account, role=arn)


def driver_requests(setting: Setting) -> Iterator[JobRequest]:
    """The requests of the driver's controller."""
    cluster = "" if setting.eks_cluster == EVERY else setting.eks_cluster
    tags = TagPolicy(cluster=cluster)
    volume, snapshot = tags.volume_tags(_CLAIM, {}, ()), tags.snapshot_tags(_CLAIM)
    yield from _on_node(setting, "Attach")
    yield from _on_node(setting, "Detach")
    yield from _descriptions(setting)
    yield from _creations(setting, volume, snapshot)
    yield from _uses(setting, volume, "a volume of the driver")
    yield from _uses(setting, _IN_TREE, "an in-tree volume", is_optional=True)
    yield from _tag_changes(setting, volume)
    instance = {"eks:cluster-name": cluster, "eks:eks-cluster-name": cluster, "ebs.csi.aws.com/cluster-name": cluster}
    for verb, preposition in (("Attach", "to"), ("Detach", "from")):
        yield JobRequest(
            step=f"{verb.lower()} a volume {preposition} an EC2 node",
            action=f"ec2:{verb}Volume",
            resource=_arn(setting, "instance", _INSTANCE),
            context=_resource_tags(instance if cluster else {}),
        )


def caller_requests(setting: Setting, verb: str) -> Iterator[JobRequest]:
    """The requests of a caller of AttachClusterNodeVolume or DetachClusterNodeVolume.

    Args:
        setting: The account and the clusters.
        verb: Attach or Detach.
    """
    yield from _on_node(setting, verb)
    yield JobRequest(
        step=f"{verb.lower()} a volume",
        action=f"ec2:{verb}Volume",
        resource=_arn(setting, "volume", PROBE_VOLUME),
        context=_forward_access(_SAGEMAKER),
    )
    yield JobRequest(step="see the volume's state", action="ec2:DescribeVolumes", is_optional=True)


def attachment_key_requests(setting: Setting, key: str) -> Iterator[JobRequest]:
    """What whoever attaches an encrypted volume to a HyperPod node needs of the key."""  # allow-word
    step = "attach an encrypted volume"
    for through in _through(setting, "ec2", _SAGEMAKER, _EC2):
        yield from _grant_requests(
            step,
            key,
            through,
            {
                **_encryption_context(PROBE_VOLUME),
                "kms:GrantOperations": ["Decrypt"],
                "kms:GrantConstraintType": "EncryptionContextSubset",
            },
        )


def data_key_requests(setting: Setting, key: str) -> Iterator[JobRequest]:
    """What the driver needs of the key of new volumes."""
    create, restore = "create an encrypted volume", "restore a snapshot of another key"
    for through in _through(setting, "ec2", _EC2):
        context = {**through, **_encryption_context(PROBE_VOLUME)}
        for operation in ("GenerateDataKeyWithoutPlaintext", "Decrypt"):
            yield JobRequest(step=create, action=f"kms:{operation}", resource=key, context=context)
        for operation in ("ReEncryptFrom", "ReEncryptTo"):
            yield JobRequest(step=restore, action=f"kms:{operation}", resource=key, context=context)


def cluster_key_requests(setting: Setting, key: str) -> Iterator[JobRequest]:
    """What the execution role of an instance group needs of the key of the cluster's own volumes."""
    step = "create the encrypted volumes of the cluster's nodes"
    for through in _through(setting, "sagemaker", _SAGEMAKER):
        yield from _grant_requests(
            step, key, through, {"kms:GrantOperations": ["Decrypt", "DescribeKey", "GenerateDataKeyWithoutPlaintext"]}
        )


def _grant_requests(step: str, key: str, through: Values, grant: Values) -> Iterator[JobRequest]:
    """What a service needs of the key to grant its use, with the condition keys of the grant."""
    yield JobRequest(step=step, action="kms:DescribeKey", resource=key, context=through)
    context = {**through, **grant, "kms:GrantIsForAWSResource": "true"}
    yield JobRequest(step=step, action="kms:CreateGrant", resource=key, context=context)


def _on_node(setting: Setting, verb: str) -> Iterator[JobRequest]:
    step = f"{verb.lower()} a volume {'to' if verb == 'Attach' else 'from'} a HyperPod node"
    any_cluster, any_eks = ANY_CLUSTER
    cluster = any_cluster if setting.hyperpod_cluster == EVERY else setting.hyperpod_cluster
    eks = any_eks if setting.eks_cluster == EVERY else setting.eks_cluster
    yield JobRequest(
        step=step,
        action=f"sagemaker:{verb}ClusterNodeVolume",
        resource=f"arn:{setting.partition}:sagemaker:{setting.region}:{setting.account}:cluster/{cluster}",
    )
    yield JobRequest(
        step=step,
        action="eks:DescribeCluster",
        resource=f"arn:{setting.partition}:eks:{setting.region}:{setting.account}:cluster/{eks}",
        context=_forward_access(_SAGEMAKER),
    )


def _descriptions(setting: Setting) -> Iterator[JobRequest]:
    steps = {
        "DescribeAvailabilityZones": "create a volume without a zone",
        "DescribeInstances": "attach a volume to an EC2 node",
        "DescribeInstanceTypes": "learn the attach limit of a new instance type",
        "DescribeSnapshots": "take a snapshot",
        "DescribeVolumes": "find a volume",
        "DescribeVolumesModifications": "change a volume",
    }
    for operation, step in steps.items():
        yield JobRequest(step=step, action=f"ec2:{operation}", context={"ec2:Region": setting.region})


def _creations(setting: Setting, volume: Mapping[str, str], snapshot: Mapping[str, str]) -> Iterator[JobRequest]:
    """Volumes and snapshots, with their tags."""
    new_volume = {
        "ec2:Region": setting.region,
        "ec2:Encrypted": "true",
        "ec2:VolumeType": "gp3",
        "ec2:VolumeSize": "10",
        "ec2:AvailabilityZone": f"{setting.region}a",
        **_new_tags(volume),
    }
    restore, take = "restore a snapshot", "take a snapshot"
    source = {**_resource_tags(volume), "ec2:VolumeID": PROBE_VOLUME}
    new_snapshot = {"ec2:Region": setting.region, "ec2:VolumeSize": "10", **_new_tags(snapshot)}
    volumes, snapshots = _arn(setting, "volume", "*"), _arn(setting, "snapshot", "*")
    own = _resource_tags(snapshot)
    taken = _arn(setting, "snapshot", _SNAPSHOT)
    yield JobRequest(step="create a volume", action="ec2:CreateVolume", resource=volumes, context=new_volume)
    yield _tagging("create a volume", volumes, {**new_volume, "ec2:CreateAction": "CreateVolume"})
    yield JobRequest(step=restore, action="ec2:CreateVolume", resource=taken, context=own)
    yield JobRequest(
        step=take, action="ec2:CreateSnapshot", resource=_arn(setting, "volume", PROBE_VOLUME), context=source
    )
    yield JobRequest(step=take, action="ec2:CreateSnapshot", resource=snapshots, context=new_snapshot)
    yield _tagging(take, snapshots, {**new_snapshot, "ec2:CreateAction": "CreateSnapshot"})
    yield JobRequest(step="delete a snapshot", action="ec2:DeleteSnapshot", resource=taken, context=own)


def _tagging(step: str, resource: str, context: Values) -> JobRequest:
    return JobRequest(step=step, action="ec2:CreateTags", resource=resource, context=context)


def _uses(setting: Setting, tags: Mapping[str, str], of: str, *, is_optional: bool = False) -> Iterator[JobRequest]:
    steps = {"Attach": f"attach {of}", "Detach": f"detach {of}", "Modify": f"change {of}", "Delete": f"delete {of}"}
    for verb, step in steps.items():
        yield JobRequest(
            step=step,
            action=f"ec2:{verb}Volume",
            resource=_arn(setting, "volume", PROBE_VOLUME),
            context={"ec2:Region": setting.region, "ec2:VolumeID": PROBE_VOLUME, **_resource_tags(tags)},
            is_optional=is_optional,
        )


def _tag_changes(setting: Setting, tags: Mapping[str, str]) -> Iterator[JobRequest]:
    context = {**_resource_tags(tags), "aws:TagKeys": [_TAG], f"aws:RequestTag/{_TAG}": "fast"}
    for verb, step in {"Create": "set a tag with a VolumeAttributesClass", "Delete": "remove such a tag"}.items():
        yield JobRequest(
            step=step,
            action=f"ec2:{verb}Tags",
            resource=_arn(setting, "volume", PROBE_VOLUME),
            context=context,
            is_optional=True,
        )


def _arn(setting: Setting, kind: str, id_: str) -> str:
    account = "" if kind == "snapshot" else setting.account
    return f"arn:{setting.partition}:ec2:{setting.region}:{account}:{kind}/{id_}"


def _resource_tags(tags: Mapping[str, str]) -> dict[str, str]:
    return {f"{service}:ResourceTag/{key}": value for key, value in tags.items() for service in ("aws", "ec2")}


def _new_tags(tags: Mapping[str, str]) -> dict[str, str | Sequence[str]]:
    return {"aws:TagKeys": list(tags), **{f"aws:RequestTag/{key}": value for key, value in tags.items()}}


def _forward_access(*services: str) -> dict[str, str | Sequence[str]]:
    """The condition keys of a call that a service makes for the caller."""
    return {
        "aws:ViaAWSService": "true",
        "aws:CalledVia": list(services),
        "aws:CalledViaFirst": services[0],
        "aws:CalledViaLast": services[-1],
    }


def _through(setting: Setting, service: str, *services: str) -> Iterator[dict[str, str | Sequence[str]]]:
    """The condition keys of a call to KMS that a service makes for the caller, for each name that it may have."""
    via = setting.via(service)
    for name in (via,) if isinstance(via, str) else via:
        yield {**_forward_access(*services), "kms:ViaService": name, "kms:CallerAccount": setting.account}


def _encryption_context(volume: str) -> dict[str, str | Sequence[str]]:
    return {"kms:EncryptionContextKeys": ["aws:ebs:id"], "kms:EncryptionContext:aws:ebs:id": volume}
