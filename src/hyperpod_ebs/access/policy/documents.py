"""The policy documents that SageMaker's guide asks for, for one partition, region, account and cluster.

Sources: SageMaker Developer Guide, "Using the Amazon EBS CSI driver on SageMaker HyperPod EKS clusters" and "Customer
managed AWS KMS key encryption for SageMaker HyperPod"; AWS managed policy reference, AmazonEBSCSIDriverPolicyV2; EKS User
Guide, "IAM roles for service accounts" and "Create IAM role with trust policy required by EKS Pod Identity".
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

EVERY: Final = "*"
"""The name and id that stand for every cluster of the account in the region."""

MANAGED_POLICY: Final = "AmazonEBSCSIDriverPolicyV2"
VOLUMES: Final = "hyperpod-ebs-volumes"
"""The name of the policy that replaces AWS's managed policy."""

HYPERPOD: Final = "hyperpod-ebs-hyperpod"
"""The name of the policy with the guide's statements for the driver."""

ATTACH: Final = "hyperpod-ebs-attach"
DETACH: Final = "hyperpod-ebs-detach"
SERVICE_ACCOUNT: Final = "kube-system/ebs-csi-controller-sa"
AUDIENCE: Final = "sts.amazonaws.com"
"""The audience of IRSA tokens, which is the same in all partitions (eksctl issue 1910)."""

_DRIVER_TAG: Final = "ebs.csi.aws.com/cluster"
_IN_TREE_TAG: Final = "kubernetes.io/created-for/pvc/name"
_FIXED_TAGS: Final = (_DRIVER_TAG, "ebs.csi.aws.com/cluster-name", _IN_TREE_TAG)
"""The tags that decide which volumes the driver may use, so it must not change them."""

Conditions = Mapping[str, Mapping[str, str | tuple[str, ...]]]
"""The values by operator and condition key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """The values that differ from one account and cluster to the next."""

    partition: str
    region: str
    account: str
    eks_cluster: str = EVERY
    """The name of the EKS cluster that orchestrates the HyperPod cluster."""

    hyperpod_cluster: str = EVERY
    """The 12 characters at the end of the HyperPod cluster's ARN."""

    @property
    def for_account(self) -> "Setting":
        """The same for every cluster of the account in the region."""
        return replace(self, eks_cluster=EVERY, hyperpod_cluster=EVERY)

    @property
    def hyperpod_cluster_arn(self) -> str:
        """The ARN of the HyperPod cluster."""
        return f"arn:{self.partition}:sagemaker:{self.region}:{self.account}:cluster/{self.hyperpod_cluster}"

    @property
    def eks_cluster_arn(self) -> str:
        """The ARN of the EKS cluster."""
        return f"arn:{self.partition}:eks:{self.region}:{self.account}:cluster/{self.eks_cluster}"

    @property
    def managed_policy_arn(self) -> str:
        """The ARN of AWS's policy for the driver."""
        return f"arn:{self.partition}:iam::aws:policy/{MANAGED_POLICY}"

    def iam_arn(self, resource: str) -> str:
        """The ARN of something in IAM, such as `role/driver`."""
        return f"arn:{self.partition}:iam::{self.account}:{resource}"

    def ec2_arn(self, kind: str) -> str:
        """The ARN of all resources of this kind; that of a snapshot has no account (EC2 User Guide)."""
        account = EVERY if kind == "snapshot" else self.account
        return f"arn:{self.partition}:ec2:{self.region}:{account}:{kind}/*"

    def via(self, service: str) -> str | tuple[str, ...]:
        """The values of kms:ViaService for a service; for China, AWS does not document which of the two it uses."""
        name = f"{service}.{self.region}.amazonaws.com"
        return (name, f"{name}.cn") if self.partition == "aws-cn" else name


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """A statement that allows actions."""

    sid: str
    actions: tuple[str, ...]
    resources: tuple[str, ...] = ()
    """Empty in trust policies."""

    principals: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By type, such as AWS or Service; empty in identity-based policies."""

    conditions: Conditions = field(default_factory=dict)

    @property
    def json(self) -> dict[str, object]:
        """The statement as IAM's JSON; a list of one is written as text."""
        written: dict[str, object] = {"Sid": self.sid, "Effect": "Allow"}
        if self.principals:
            written["Principal"] = {kind: _text_or_list(names) for kind, names in self.principals.items()}
        written["Action"] = _text_or_list(self.actions)
        if self.resources:
            written["Resource"] = _text_or_list(self.resources)
        if self.conditions:
            written["Condition"] = {
                operator: {key: _text_or_list(value) for key, value in keys.items()}
                for operator, keys in self.conditions.items()
            }
        return written


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A policy document."""

    statements: tuple[Statement, ...]
    id: str = ""

    @property
    def json(self) -> dict[str, object]:
        """The document as IAM's JSON."""
        return {
            "Version": "2012-10-17",
            **({"Id": self.id} if self.id else {}),
            "Statement": [statement.json for statement in self.statements],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyUsers:
    """Who uses a customer-managed key; each is an ARN of a role or a user."""

    driver: str = ""
    """The driver's role."""

    callers: tuple[str, ...] = ()
    """Callers of AttachClusterNodeVolume by hand."""

    execution_roles: tuple[str, ...] = ()
    """The execution roles of instance groups whose own volumes are encrypted with the key."""


def driver_documents(setting: Setting, *, inline: bool) -> Mapping[str, Document]:
    """The policies of the driver's role by name.

    Without `inline`, the role needs AWS's managed policy as well (`Setting.managed_policy_arn`).
    """
    hyperpod = Document(
        statements=(
            Statement(
                sid="AttachAndDetachOnHyperPodNodes",
                actions=("sagemaker:AttachClusterNodeVolume", "sagemaker:DetachClusterNodeVolume"),
                resources=(setting.hyperpod_cluster_arn,),
            ),
            _describe_eks_cluster(setting),
        )
    )
    volumes = Document(statements=tuple(_volume_statements(setting)))
    return {VOLUMES: volumes, HYPERPOD: hyperpod} if inline else {HYPERPOD: hyperpod}


def attach_document(setting: Setting) -> Document:
    """What a caller of AttachClusterNodeVolume needs, and DescribeVolumes to see the volume's state."""
    return _by_hand(setting, "Attach")


def detach_document(setting: Setting) -> Document:
    """What a caller of DetachClusterNodeVolume needs, and DescribeVolumes to see the volume's state."""
    return _by_hand(setting, "Detach")


def key_policy(setting: Setting, users: KeyUsers) -> Document:
    """The whole policy of a key: the default statement for the account's administrators, and those of the users."""
    administrators = Statement(
        sid="EnableIAMUserPermissions",
        principals={"AWS": (setting.iam_arn("root"),)},
        actions=("kms:*",),
        resources=(EVERY,),
    )
    return Document(id="key-default-1", statements=(administrators, *key_statements(setting, users)))


def key_statements(setting: Setting, users: KeyUsers) -> tuple[Statement, ...]:
    """The statements of a key's policy that its users need, in the same account."""
    statements = list[Statement]()
    if attaching := tuple(filter(None, (users.driver, *users.callers))):
        statements += _attaching(setting, attaching)
    if users.driver:
        statements.append(
            Statement(
                sid="CreateVolumesAndRestoreSnapshots",
                principals={"AWS": (users.driver,)},
                actions=(
                    "kms:Decrypt",
                    "kms:GenerateDataKeyWithoutPlaintext",
                    "kms:ReEncryptFrom",
                    "kms:ReEncryptTo",
                ),
                resources=(EVERY,),
                conditions={"StringEquals": _through(setting, "ec2")},
            )
        )
    if users.execution_roles:
        statements += _cluster_volumes(setting, users.execution_roles)
    return tuple(statements)


def trust_policy_irsa(setting: Setting, issuer: str, service_account: str = SERVICE_ACCOUNT) -> Document:
    """Lets the pods of a service account assume the role with a token of the EKS cluster's OIDC issuer."""
    host = issuer.partition("://")[2] or issuer
    namespace, _, name = service_account.partition("/")
    subject = f"system:serviceaccount:{namespace}:{name}"
    trust = Statement(
        sid="ServiceAccountOfTheDriver",
        principals={"Federated": (setting.iam_arn(f"oidc-provider/{host}"),)},
        actions=("sts:AssumeRoleWithWebIdentity",),
        conditions={"StringEquals": {f"{host}:aud": AUDIENCE, f"{host}:sub": subject}},
    )
    return Document(statements=(trust,))


def trust_policy_pod_identity(setting: Setting, service_account: str = SERVICE_ACCOUNT) -> Document:
    """Lets EKS Pod Identity assume the role for a service account of the EKS cluster.

    An association that disables session tags does not meet the conditions.
    """
    namespace, _, name = service_account.partition("/")
    tags = {"aws:RequestTag/kubernetes-namespace": namespace, "aws:RequestTag/kubernetes-service-account": name}
    if setting.eks_cluster != EVERY:
        tags["aws:RequestTag/eks-cluster-arn"] = setting.eks_cluster_arn
    trust = Statement(
        sid="ServiceAccountOfTheDriver",
        principals={"Service": ("pods.eks.amazonaws.com",)},
        actions=("sts:AssumeRole", "sts:TagSession"),
        conditions={"StringEquals": tags},
    )
    return Document(statements=(trust,))


def _by_hand(setting: Setting, verb: str) -> Document:
    return Document(
        statements=(
            Statement(
                sid=f"{verb}OnHyperPodNodes",
                actions=(f"sagemaker:{verb}ClusterNodeVolume",),
                resources=(setting.hyperpod_cluster_arn,),
            ),
            _describe_eks_cluster(setting),
            Statement(sid=f"{verb}Volumes", actions=(f"ec2:{verb}Volume",), resources=(setting.ec2_arn("volume"),)),
            Statement(sid="DescribeVolumes", actions=("ec2:DescribeVolumes",), resources=(EVERY,)),
        )
    )


def _describe_eks_cluster(setting: Setting) -> Statement:
    return Statement(sid="DescribeEksCluster", actions=("eks:DescribeCluster",), resources=(setting.eks_cluster_arn,))


def _volume_statements(setting: Setting) -> Iterator[Statement]:
    """The statements of AWS's managed policy, in one region and account, without what the driver does not use."""
    volume, snapshot = setting.ec2_arn("volume"), setting.ec2_arn("snapshot")
    on_volumes = ("ec2:AttachVolume", "ec2:DeleteVolume", "ec2:DetachVolume", "ec2:ModifyVolume")
    requested: Conditions = {"StringEquals": {f"aws:RequestTag/{_DRIVER_TAG}": "true"}}
    tagged: Conditions = {"StringEquals": {f"ec2:ResourceTag/{_DRIVER_TAG}": "true"}}
    in_tree: Conditions = {"StringLike": {f"ec2:ResourceTag/{_IN_TREE_TAG}": EVERY}}
    yield Statement(
        sid="Describe",
        actions=(
            "ec2:DescribeAvailabilityZones",
            "ec2:DescribeInstances",
            "ec2:DescribeInstanceTypes",
            "ec2:DescribeSnapshots",
            "ec2:DescribeVolumes",
            "ec2:DescribeVolumesModifications",
        ),
        resources=(EVERY,),
    )
    yield _on("CreateVolumes", ("ec2:CreateVolume",), volume, requested)
    yield _on("CreateVolumesFromSnapshots", ("ec2:CreateVolume",), snapshot, tagged)
    yield _on("CreateSnapshots", ("ec2:CreateSnapshot",), snapshot, requested)
    yield _on("CreateSnapshotsOfVolumes", ("ec2:CreateSnapshot",), volume, tagged)
    yield _on("UseVolumes", on_volumes, volume, tagged)
    yield _on("UseInTreeVolumes", on_volumes, volume, in_tree)
    yield _on("UseInstances", ("ec2:AttachVolume", "ec2:DetachVolume"), setting.ec2_arn("instance"), {})
    yield _on("DeleteSnapshots", ("ec2:DeleteSnapshot",), snapshot, tagged)
    yield Statement(
        sid="TagAtCreation",
        actions=("ec2:CreateTags",),
        resources=(volume, snapshot),
        conditions={"StringEquals": {"ec2:CreateAction": ("CreateVolume", "CreateSnapshot")}},
    )
    yield Statement(
        sid="ChangeTags",
        actions=("ec2:CreateTags", "ec2:DeleteTags"),
        resources=(volume,),
        conditions={
            **tagged,
            "Null": {"aws:TagKeys": "false"},
            "ForAllValues:StringNotEquals": {"aws:TagKeys": _FIXED_TAGS},
        },
    )


def _on(sid: str, actions: tuple[str, ...], resource: str, conditions: Conditions) -> Statement:
    return Statement(sid=sid, actions=actions, resources=(resource,), conditions=conditions)


def _attaching(setting: Setting, principals: tuple[str, ...]) -> Iterator[Statement]:
    """The guide's two statements, for whoever attaches volumes to HyperPod nodes."""
    yield Statement(sid="DescribeKey", principals={"AWS": principals}, actions=("kms:DescribeKey",), resources=(EVERY,))
    yield Statement(
        sid="AttachVolumes",
        principals={"AWS": principals},
        actions=("kms:CreateGrant",),
        resources=(EVERY,),
        conditions={
            "StringEquals": {"kms:CallerAccount": setting.account, **_through(setting, "ec2")},
            "ForAnyValue:StringEquals": {"kms:EncryptionContextKeys": "aws:ebs:id"},
            "Bool": {"kms:GrantIsForAWSResource": "true"},
            "ForAllValues:StringEquals": {"kms:GrantOperations": ("Decrypt",)},
        },
    )


def _cluster_volumes(setting: Setting, roles: tuple[str, ...]) -> Iterator[Statement]:
    """What SageMaker needs as the execution role, for the root and secondary volumes of the cluster's own nodes."""
    through: Mapping[str, str | tuple[str, ...]] = {
        "kms:CallerAccount": setting.account,
        **_through(setting, "sagemaker"),
    }
    yield Statement(
        sid="DescribeKeyForClusterVolumes",
        principals={"AWS": roles},
        actions=("kms:DescribeKey",),
        resources=(EVERY,),
        conditions={"StringEquals": through},
    )
    yield Statement(
        sid="CreateClusterVolumes",
        principals={"AWS": roles},
        actions=("kms:CreateGrant",),
        resources=(EVERY,),
        conditions={"StringEquals": through, "Bool": {"kms:GrantIsForAWSResource": "true"}},
    )


def _through(setting: Setting, service: str) -> Mapping[str, str | tuple[str, ...]]:
    return {"kms:ViaService": setting.via(service)}


def _text_or_list(value: str | Sequence[str]) -> str | list[str]:
    if isinstance(value, str):
        return value
    return value[0] if len(value) == 1 else list(value)
