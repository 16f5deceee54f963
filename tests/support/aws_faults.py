"""Faults of an AWS account, each planted in the site on which all is in order."""

import json
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from hyperpod_ebs.access.policy.key_documents import KeyUsers, key_policy
from hyperpod_ebs.access.policy.trust_documents import trust_policy_irsa, trust_policy_pod_identity
from hyperpod_ebs.driver.model.tags import TagPolicy
from hyperpod_ebs.emulator.eks_records import PodIdentityAssociation
from hyperpod_ebs.emulator.identity_records import OidcProvider
from hyperpod_ebs.emulator.records import Instance
from hyperpod_ebs.emulator.state.store import Store
from tests.support.doctor_faults import Fault
from tests.support.doctor_site import (
    ACCOUNT,
    CLASSES,
    CSINODES,
    DEPLOYMENTS,
    DRIVER,
    EKS,
    NODES,
    ROLE,
    ROLE_ARN,
    SETTING,
    VOLUMES,
    DoctorSite,
    node_object,
    volume_object,
)
from tests.support.iam_users import document
from tests.support.permission_removals import parts, without

Plant = Callable[[DoctorSite], Awaitable[object]]

_UNUSED: Final = "vol-0000000000000000f"
SCOPED: Final = "arn:aws:iam::aws:policy/AmazonEBSCSIDriverEKSClusterScopedPolicy"
_AUDIENCE: Final = "sts.amazonaws.com"
_SUBJECT: Final = "system:serviceaccount:kube-system:ebs-csi-controller-sa"
_PODS: Final = "pods.eks.amazonaws.com"
_UNKNOWN: Final = "0123456789abcdef0"


def _plant(change: Callable[[DoctorSite], object]) -> Plant:
    async def plant(site: DoctorSite) -> None:
        change(site)

    return plant


def _store(change: Callable[[Store, DoctorSite], object]) -> Plant:
    return _plant(lambda site: change(site.emulator.world.store, site))


def _without(action: str) -> Plant:
    """Take an action from all policies of the role."""

    def change(site: DoctorSite) -> None:
        documents = {name: json.loads(text) for name, text in site.role.inline.items()}
        for given in documents.values():
            for statement in given["Statement"]:
                actions = statement["Action"]
                statement["Action"] = [actions] if isinstance(actions, str) else actions
        removed = [part for part in parts(documents) if part.action == action]
        assert removed, action
        site.change_role(
            inline={
                name: json.dumps(given) for name, given in without(documents, removed).items() if given["Statement"]
            }
        )

    return _plant(change)


def _change_cluster(**fields: Any) -> Plant:
    return _store(lambda store, site: store.clusters.put(replace(_cluster(store, site), **fields)))


def _cluster(store: Store, site: DoctorSite) -> Any:
    return store.clusters[site.cluster.rpartition("/")[2]]


def _restrict_group(store: Store, site: DoctorSite) -> None:
    cluster = _cluster(store, site)
    groups = tuple({**group, "restricted": True, "settings": {}} for group in cluster.groups)
    store.clusters.put(replace(cluster, groups=groups))


def _change_node(instance: Callable[[DoctorSite], str], **fields: Any) -> Plant:
    return _store(lambda store, site: store.instances.put(replace(store.instances[instance(site)], **fields)))


def _add_node(provider: str) -> Plant:
    return _plant(lambda site: site.kubernetes.lists[NODES].append(node_object("planted", provider)))


def _trust(statement: Mapping[str, Any]) -> Plant:
    return _plant(lambda site: site.change_role(trust=document(statement)))


def _pod_trust(**members: Any) -> Mapping[str, Any]:
    actions = ["sts:AssumeRole", "sts:TagSession"]
    return {"Effect": "Allow", "Principal": {"Service": _PODS}, "Action": actions, **members}


def _association(store: Store) -> PodIdentityAssociation:
    (association,) = store.pod_identity_associations.values()
    return association


def _irsa(break_it: Callable[[DoctorSite, str, str], object]) -> Plant:
    """Give the driver its role by a token, and then break that: with the site, the issuer's host and the provider."""

    async def plant(site: DoctorSite) -> None:
        issuer = (await site.aws("eks", "describe_cluster", name="eks"))["cluster"]["identity"]["oidc"]["issuer"]
        give_role_by_token(site, issuer)
        host = issuer.partition("://")[2]
        break_it(site, host, f"arn:aws:iam::{ACCOUNT}:oidc-provider/{host}")

    return plant


def give_role_by_token(site: DoctorSite, issuer: str) -> None:
    """Replace the pod identity association with the annotation, the provider and the trust policy of IRSA."""
    store, host = site.emulator.world.store, issuer.partition("://")[2]
    store.pod_identity_associations.drop(_association(store).id)
    store.addons.drop("eks/eks-pod-identity-agent")
    site.kubernetes.account["metadata"]["annotations"] = {"eks.amazonaws.com/role-arn": ROLE_ARN}
    arn = f"arn:aws:iam::{ACCOUNT}:oidc-provider/{host}"
    store.oidc_providers.put(OidcProvider(id=arn, url=host, created=time.time(), audiences=(_AUDIENCE,)))
    site.change_role(trust=json.dumps(trust_policy_irsa(SETTING, issuer).json))


def _token_trust(provider: str, conditions: Mapping[str, str]) -> str:
    return document(
        {
            "Effect": "Allow",
            "Principal": {"Federated": provider},
            "Action": "sts:AssumeRoleWithWebIdentity",
            "Condition": {"StringEquals": conditions},
        }
    )


def _scope(*, tag: str = "eks", has_session_tags: bool = True) -> Plant:
    """Replace the role's policy for volumes with AWS's cluster-scoped one."""

    def change(site: DoctorSite) -> None:
        inline = {name: text for name, text in site.role.inline.items() if name != "hyperpod-ebs-volumes"}
        site.change_role(inline=inline, attached=(SCOPED,))
        pod = site.kubernetes.lists[DEPLOYMENTS][0]["spec"]["template"]["spec"]
        pod["containers"][0]["args"] = ["controller", f"--k8s-tag-cluster-id={tag}"]
        store = site.emulator.world.store
        store.pod_identity_associations.put(replace(_association(store), has_session_tags=has_session_tags))
        if not has_session_tags:
            site.change_role(trust=document(_pod_trust()))
        static = store.volumes[site.static]
        store.volumes.put(replace(static, tags={**static.tags, "ebs.csi.aws.com/cluster-name": tag}))

    return _plant(change)


def _tag_static_for_another(site: DoctorSite) -> None:
    store = site.emulator.world.store
    static = store.volumes[site.static]
    store.volumes.put(replace(static, tags={"ebs.csi.aws.com/cluster-name": "another"}))


async def _scope_with_foreign_static(site: DoctorSite) -> None:
    await _scope()(site)
    _tag_static_for_another(site)


def _key_id(site: DoctorSite) -> str:
    return site.key.rpartition("/")[2]


def _change_key(**fields: Any) -> Plant:
    return _store(lambda store, site: store.kms_keys.put(replace(store.kms_keys[_key_id(site)], **fields)))


def _class_key(key: str) -> Plant:
    item = {"metadata": {"name": "planted"}, "provisioner": DRIVER, "parameters": {"KmsKeyId": key}}
    return _plant(lambda site: site.kubernetes.lists[CLASSES].append(item))


def _key_policy(change: Callable[[list[dict[str, Any]]], object]) -> Plant:
    def plant(store: Store, site: DoctorSite) -> None:
        policy: Any = json.loads(json.dumps(key_policy(SETTING, KeyUsers(driver=ROLE_ARN)).json))
        change(policy["Statement"])
        store.kms_keys.put(replace(store.kms_keys[_key_id(site)], policy=json.dumps(policy)))

    return _store(plant)


def _without_sid(sid: str) -> Plant:
    def change(statements: list[dict[str, Any]]) -> None:
        statements[:] = [statement for statement in statements if statement["Sid"] != sid]

    return _key_policy(change)


def _condition(key: str, value: Any) -> Plant:
    """Change a condition of the statement for CreateGrant."""

    def change(statements: list[dict[str, Any]]) -> None:
        (statement,) = (each for each in statements if each["Sid"] == "AttachVolumes")
        for keys in statement["Condition"].values():
            if key in keys:
                keys[key] = value

    return _key_policy(change)


async def _default_key(site: DoctorSite) -> None:
    key = (await site.aws("kms", "create_key"))["KeyMetadata"]["Arn"]
    await site.aws("ec2", "enable_ebs_encryption_by_default")
    await site.aws("ec2", "modify_ebs_default_kms_key_id", KmsKeyId=key)
    await site.aws("kms", "disable_key", KeyId=key)


def _change_attachment(volume: Callable[[DoctorSite], str], **fields: Any) -> Plant:
    def plant(store: Store, site: DoctorSite) -> None:
        (attachment,) = store.attachments.where("volume", volume(site))
        store.attachments.put(replace(attachment, **fields))

    return _store(plant)


def _move_attachment(volume: Callable[[DoctorSite], str], instance: Callable[[Store, DoctorSite], Instance]) -> Plant:
    """Attach a volume to another machine."""

    def plant(store: Store, site: DoctorSite) -> None:
        (attachment,) = store.attachments.where("volume", volume(site))
        store.attachments.drop(attachment.id)
        store.instances.put(machine := instance(store, site))
        store.attachments.put(replace(attachment, instance=machine.id))

    return _store(plant)


def _fill_slots(site: DoctorSite) -> None:
    item = site.kubernetes.lists[CSINODES][1]
    item["spec"]["drivers"][0]["allocatable"]["count"] = 1


def _volume(site: DoctorSite) -> str:
    return site.volume


def _static(site: DoctorSite) -> str:
    return site.static


def _machine(source: Callable[[DoctorSite], str], **fields: Any) -> Callable[[Store, DoctorSite], Instance]:
    """Another machine like this one."""
    return lambda store, site: replace(store.instances[source(site)], id=f"i-{_UNKNOWN}", address="10.9.9.9", **fields)


def _permission_faults() -> Iterator[Fault[DoctorSite]]:
    described = ("AvailabilityZones", "Instances", "Snapshots", "Volumes", "VolumesModifications")
    changing = ("AttachVolume", "CreateSnapshot", "CreateTags", "CreateVolume", "DeleteSnapshot", "DeleteVolume")
    actions = [
        *(f"ec2:Describe{what}" for what in described),
        *(f"ec2:{what}" for what in (*changing, "DetachVolume", "ModifyVolume")),
        "sagemaker:AttachClusterNodeVolume",
        "sagemaker:DetachClusterNodeVolume",
        "eks:DescribeCluster",
    ]
    for action in actions:
        yield Fault(
            f"the driver's role lacks {action}", _without(action), "permissions", f"role {ROLE}", f"may not {action}"
        )
    yield Fault(
        "the driver's role lacks ec2:DescribeInstanceTypes",
        _without("ec2:DescribeInstanceTypes"),
        "permissions",
        f"role {ROLE}",
        "may not ec2:DescribeInstanceTypes",
        "may fail",
    )


def _leave_a_volume(store: Store, site: DoctorSite) -> None:
    used = store.volumes[site.volume]
    tags = TagPolicy(cluster=EKS).volume_tags("pvc-1", {}, ())
    month = 30 * 86_400
    store.volumes.put(replace(used, id=_UNUSED, tags=tags, created=used.created - month, state="available"))


async def _bind(site: DoctorSite) -> None:
    """Give the role a permissions boundary that allows all but the attachment to HyperPod nodes."""
    text = document({"Effect": "Allow", "NotAction": "sagemaker:AttachClusterNodeVolume", "Resource": "*"})
    policy = (await site.aws("iam", "create_policy", PolicyName="boundary", PolicyDocument=text))["Policy"]["Arn"]
    await site.aws("iam", "put_role_permissions_boundary", RoleName=ROLE, PermissionsBoundary=policy)


def _deny(site: DoctorSite) -> None:
    denial = {"Effect": "Deny", "Action": "ec2:DeleteVolume", "Resource": "*"}
    site.change_role(inline={**site.role.inline, "denial": document(denial)})


def _drop_volume_policy(site: DoctorSite) -> None:
    site.change_role(inline={name: text for name, text in site.role.inline.items() if name != "hyperpod-ebs-volumes"})


FAULTS: Final[tuple[Fault[DoctorSite], ...]] = (
    Fault(
        "the HyperPod cluster has failed",
        _change_cluster(state="Failed"),
        "cluster status",
        "HyperPod cluster hp",
        "its status is Failed",
    ),
    Fault(
        "the HyperPod cluster is being updated",
        _change_cluster(state="Updating"),
        "cluster status",
        "HyperPod cluster hp",
        "its status is Updating",
        "may fail",
    ),
    Fault(
        "the HyperPod cluster is rolled back",
        _change_cluster(state="RollingBack"),
        "cluster status",
        "HyperPod cluster hp",
        "its status is RollingBack",
    ),
    Fault(
        "the EKS cluster is being updated",
        _store(lambda store, _: store.eks_clusters.put(replace(store.eks_clusters["eks"], state="UPDATING"))),
        "orchestrator",
        "EKS cluster eks",
        "its status is UPDATING",
        "may fail",
    ),
    Fault(
        "the nodes are in a restricted instance group",
        _store(_restrict_group),
        "restricted groups",
        "instance group workers",
        "restricted instance group",
        "may fail",
    ),
    Fault(
        "a HyperPod node is not running",
        _change_node(lambda site: site.node, state="pending"),
        "cluster nodes",
        "node hyperpod-i-",
        "is Pending, not Running",
        "may fail",
    ),
    Fault(
        "Kubernetes has a HyperPod node that HyperPod does not have",
        _plant(
            lambda site: site.kubernetes.lists[NODES].append(
                node_object("planted", f"aws:///usw2-az1/sagemaker/cluster/{site.csi_id[:22]}i-{_UNKNOWN}")
            )
        ),
        "HyperPod nodes in Kubernetes",
        f"node hyperpod-i-{_UNKNOWN}",
        "HyperPod cluster hp does not have the node",
    ),
    Fault(
        "Kubernetes has a node of a HyperPod cluster in another account",
        _add_node(f"aws:///usw2-az1/sagemaker/cluster/hyperpod-zzzzzzzzzzzz-i-{_UNKNOWN}"),
        "HyperPod nodes in Kubernetes",
        f"node hyperpod-i-{_UNKNOWN}",
        f"cluster zzzzzzzzzzzz is not in account {ACCOUNT} in us-west-2",
    ),
    Fault(
        "the service account has no role",
        _store(lambda store, _: store.pod_identity_associations.drop(_association(store).id)),
        "service account",
        "service account kube-system/ebs-csi-controller-sa",
        "neither a pod identity association nor the annotation",
    ),
    Fault(
        "the role of the association does not exist",
        _store(lambda store, _: store.roles.drop(ROLE)),
        "service account",
        f"role {ROLE_ARN}",
        "does not exist",
    ),
    Fault(
        "association and annotation name different roles",
        _plant(
            lambda site: site.kubernetes.account["metadata"].update(
                annotations={"eks.amazonaws.com/role-arn": f"arn:aws:iam::{ACCOUNT}:role/old"}
            )
        ),
        "service account",
        "service account kube-system/ebs-csi-controller-sa",
        "role/old",
        "may fail",
    ),
    Fault(
        "the Pod Identity agent is not installed",
        _store(lambda store, _: store.addons.drop("eks/eks-pod-identity-agent")),
        "pod identity agent",
        "EKS cluster eks",
        "does not have the add-on eks-pod-identity-agent",
    ),
    Fault(
        "the Pod Identity agent is degraded",
        _store(
            lambda store, _: store.addons.put(replace(store.addons["eks/eks-pod-identity-agent"], state="DEGRADED"))
        ),
        "pod identity agent",
        "add-on eks-pod-identity-agent",
        "its status is DEGRADED",
        "may fail",
    ),
    Fault(
        "the role trusts another service",
        _trust(_pod_trust(Principal={"Service": "ec2.amazonaws.com"})),
        "trust",
        f"role {ROLE}",
        f"does not let {_PODS} sts:AssumeRole",
    ),
    Fault(
        "the role's trust lacks sts:TagSession",
        _trust(_pod_trust(Action="sts:AssumeRole")),
        "trust",
        f"role {ROLE}",
        "sts:TagSession",
    ),
    Fault(
        "the role trusts another namespace",
        _trust(_pod_trust(Condition={"StringEquals": {"aws:RequestTag/kubernetes-namespace": "storage"}})),
        "trust",
        f"role {ROLE}",
        "to be storage (StringEquals), and the driver has kube-system",
    ),
    Fault(
        "the role trusts another EKS cluster",
        _plant(
            lambda site: site.change_role(
                trust=json.dumps(trust_policy_pod_identity(replace(SETTING, eks_cluster="old")).json)
            )
        ),
        "trust",
        f"role {ROLE}",
        "cluster/old (StringEquals), and the driver has",
    ),
    Fault(
        "the association has no session tags, which the trust wants",
        _store(
            lambda store, _: store.pod_identity_associations.put(replace(_association(store), has_session_tags=False))
        ),
        "trust",
        f"role {ROLE}",
        "the association disables session tags",
    ),
    Fault(
        "the account has no OIDC provider for the EKS cluster",
        _irsa(lambda site, _, provider: site.emulator.world.store.oidc_providers.drop(provider)),
        "trust",
        f"role {ROLE}",
        "the account has no OIDC provider",
    ),
    Fault(
        "the OIDC provider has another audience",
        _irsa(
            lambda site, _, provider: site.emulator.world.store.oidc_providers.put(
                replace(site.emulator.world.store.oidc_providers[provider], audiences=("kubernetes",))
            )
        ),
        "trust",
        f"role {ROLE}",
        f"accepts the audience kubernetes, and the driver's token has {_AUDIENCE}",
    ),
    Fault(
        "the role trusts the OIDC provider of another EKS cluster",
        _irsa(
            lambda site, _, provider: site.change_role(
                trust=_token_trust(f"{provider[:-4]}dead", {f"{provider.partition('/')[2]}:aud": _AUDIENCE})
            )
        ),
        "trust",
        f"role {ROLE}",
        "sts:AssumeRoleWithWebIdentity",
    ),
    Fault(
        "the role trusts another audience",
        _irsa(
            lambda site, host, provider: site.change_role(
                trust=_token_trust(provider, {f"{host}:aud": "kubernetes", f"{host}:sub": _SUBJECT})
            )
        ),
        "trust",
        f"role {ROLE}",
        f"to be kubernetes (StringEquals), and the driver has {_AUDIENCE}",
    ),
    Fault(
        "the role trusts another service account",
        _irsa(
            lambda site, host, provider: site.change_role(
                trust=_token_trust(provider, {f"{host}:aud": _AUDIENCE, f"{host}:sub": f"{_SUBJECT}-old"})
            )
        ),
        "trust",
        f"role {ROLE}",
        f"to be {_SUBJECT}-old (StringEquals), and the driver has {_SUBJECT}",
    ),
    *_permission_faults(),
    Fault(
        "the role has no policy for volumes",
        _plant(_drop_volume_policy),
        "permissions",
        f"role {ROLE}",
        "it is allowed to change nothing in EC2",
    ),
    Fault(
        "a policy denies the driver's role an action",
        _plant(_deny),
        "permissions",
        f"role {ROLE}",
        "it is denied by policy",
    ),
    Fault(
        "a permissions boundary leaves an action out",
        _bind,
        "permissions",
        f"role {ROLE}",
        "the permissions boundary or no policy allows it",
    ),
    Fault(
        "the cluster-scoped policy gets no session tag",
        _scope(has_session_tags=False),
        "permissions",
        f"role {ROLE}",
        "the session has no such tag",
    ),
    Fault(
        "the driver tags volumes with another cluster than its session",
        _scope(tag="another"),
        "permissions",
        f"role {ROLE}",
        "the session has eks, and the driver sets another",
    ),
    Fault(
        "the key of a StorageClass is disabled",
        _change_key(state="Disabled"),
        "keys",
        "KMS key arn:aws:kms:us-west-2",
        "its state is Disabled, and StorageClass fast uses it",
    ),
    Fault(
        "the key of a StorageClass is to be deleted",
        _change_key(state="PendingDeletion", deletion=time.time() + 7 * 24 * 3600),
        "keys",
        "KMS key arn:aws:kms:us-west-2",
        "its state is PendingDeletion, until",
    ),
    Fault(
        "the key of a StorageClass does not exist",
        _class_key("alias/nothing"),
        "keys",
        "KMS key alias/nothing",
        "StorageClass planted names it, and it does not exist",
    ),
    Fault(
        "the key of a StorageClass is in another region",
        _class_key(f"arn:aws:kms:eu-west-1:{ACCOUNT}:key/00000000-0000-0000-0000-000000000000"),
        "keys",
        "KMS key arn:aws:kms:eu-west-1",
        "it is in eu-west-1, while the volumes are in us-west-2",
    ),
    Fault(
        "the key by default is disabled",
        _default_key,
        "keys",
        "KMS key arn:aws:kms:us-west-2",
        "its state is Disabled, and the default encryption of the account uses it",
    ),
    Fault(
        "the key policy lacks the statement for attaching",
        _without_sid("AttachVolumes"),
        "keys",
        "KMS key arn:aws:kms:us-west-2",
        "may not kms:CreateGrant",
    ),
    Fault(
        "the key policy lacks kms:DescribeKey",
        _without_sid("DescribeKey"),
        "keys",
        "KMS key arn:aws:kms:us-west-2",
        "may not kms:DescribeKey",
    ),
    Fault(
        "the key policy names another region in kms:ViaService",
        _condition("kms:ViaService", "ec2.eu-west-1.amazonaws.com"),
        "keys",
        "KMS key arn:aws:kms:us-west-2",
        "kms:ViaService",
    ),
    Fault(
        "the key policy allows grants for other operations only",
        _condition("kms:GrantOperations", ["Encrypt"]),
        "keys",
        "KMS key arn:aws:kms:us-west-2",
        "kms:GrantOperations",
    ),
    Fault(
        "the volume of a PersistentVolume does not exist",
        _plant(lambda site: site.kubernetes.lists[VOLUMES].append(volume_object("planted", f"vol-{_UNKNOWN}"))),
        "volumes",
        "PersistentVolume planted",
        f"vol-{_UNKNOWN} does not exist",
    ),
    Fault(
        "a PersistentVolume wants another zone than that of its volume",
        _plant(
            lambda site: site.kubernetes.lists[VOLUMES].__setitem__(
                1, volume_object("static", site.static, "us-west-2b")
            )
        ),
        "volumes",
        "PersistentVolume static",
        "topology.kubernetes.io/zone us-west-2b, and volume vol-",
    ),
    Fault(
        "a static volume lacks the tag that AWS's policy wants",
        _store(lambda store, site: store.volumes.put(replace(store.volumes[site.static], tags={}))),
        "volume tags",
        "volume vol-",
        "PersistentVolume static names it, and it lacks the tag ebs.csi.aws.com/cluster=true",
    ),
    Fault(
        "a static volume has the tag of another cluster",
        _scope_with_foreign_static,
        "volume tags",
        "volume vol-",
        "PersistentVolume static names it, and it lacks the tag ebs.csi.aws.com/cluster-name=eks",
    ),
    Fault(
        "a volume that the driver made for the cluster is not needed any more",
        _store(_leave_a_volume),
        "leftovers",
        "volume vol-",
        "no object names it",
        "may fail",
    ),
    Fault(
        "an attachment does not end",
        _change_attachment(_volume, state="attaching", since=time.time() - 3600),
        "attachments",
        "volume vol-",
        "it has been attaching to hyperpod-",
    ),
    Fault(
        "a detached device is still in use",
        _change_attachment(_static, state="busy"),
        "attachments",
        "volume vol-",
        "has state busy",
    ),
    Fault(
        "a volume is attached to a node of a HyperPod cluster that is gone",
        _move_attachment(_volume, _machine(lambda site: site.node, cluster="zzzzzzzzzzzz")),
        "attachments",
        "volume vol-",
        "AWS has no such machine any more",
    ),
    Fault(
        "a volume is attached to an EC2 instance that is gone",
        _move_attachment(_static, _machine(lambda site: site.instance, state="terminated")),
        "attachments",
        "volume vol-",
        "AWS has no such machine any more",
    ),
    Fault(
        "a volume is attached to an instance outside of the Kubernetes cluster",
        _move_attachment(_static, _machine(lambda site: site.instance)),
        "attachments",
        "volume vol-",
        "which is not a node of the Kubernetes cluster",
        "may fail",
    ),
    Fault(
        "a node has no attach slot left",
        _plant(_fill_slots),
        "attach slots",
        "node i-",
        "1 of 1 attach slots are in use",
        "may fail",
    ),
)
"""What the doctor finds at AWS."""
