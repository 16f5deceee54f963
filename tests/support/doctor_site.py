"""An account and a Kubernetes cluster in which all is in order, which the doctor looks at, and a test can restore."""

import copy
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final

import pytest

from hyperpod_ebs.access.aws import session as access
from hyperpod_ebs.access.doctor.checks import Check, run_checks
from hyperpod_ebs.access.doctor.context import Context, Wanted
from hyperpod_ebs.access.doctor.findings import Finding
from hyperpod_ebs.access.policy.documents import driver_documents
from hyperpod_ebs.access.policy.key_documents import KeyUsers, key_policy
from hyperpod_ebs.access.policy.statements import Setting
from hyperpod_ebs.access.policy.trust_documents import trust_policy_pod_identity
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.tags import TagPolicy
from hyperpod_ebs.emulator.emulator import Emulator
from hyperpod_ebs.emulator.identity_records import Role
from hyperpod_ebs.emulator.state.store import Table
from tests.support.emulator_clients import GROUP, ZONE, Aws, cloud
from tests.support.roles import put_user

Object = dict[str, Any]  # JSON as the API server writes it

ACCOUNT: Final = "123456789012"
ROLE: Final = "driver"
ROLE_ARN: Final = f"arn:aws:iam::{ACCOUNT}:role/{ROLE}"
ACCOUNT_OF_THE_DRIVER: Final = "ebs-csi-controller-sa"
EKS: Final = "eks"
DRIVER: Final = "ebs.csi.aws.com"
SETTING: Final = Setting(partition="aws", region="us-west-2", account=ACCOUNT)

NODES: Final = "/api/v1/nodes"
VOLUMES: Final = "/api/v1/persistentvolumes"
CLASSES: Final = "/apis/storage.k8s.io/v1/storageclasses"
CSINODES: Final = "/apis/storage.k8s.io/v1/csinodes"
CONTENTS: Final = "/apis/snapshot.storage.k8s.io/v1/volumesnapshotcontents"
DEPLOYMENTS: Final = "/apis/apps/v1/deployments"
ACCOUNT_PATH: Final = f"/api/v1/namespaces/kube-system/serviceaccounts/{ACCOUNT_OF_THE_DRIVER}"
_PAGE: Final = 500

_WANTED: Final = Wanted(namespace="kube-system", service_account=ACCOUNT_OF_THE_DRIVER)


@dataclass(slots=True)
class KubernetesObjects:
    """The objects that the API server answers, by the paths of their lists."""

    lists: dict[str, list[Object]] = field(default_factory=dict)
    account: Object = field(default_factory=lambda: {"metadata": {"name": ACCOUNT_OF_THE_DRIVER}})
    """The service account of the driver."""

    logs: dict[str, str] = field(default_factory=dict)

    async def get(self, path: str, **query: str) -> Object:
        """A page of the list at `path`."""
        if path == ACCOUNT_PATH:
            return self.account
        if path not in self.lists:
            raise errors.NotFound(f"the API server has no {path}")
        items, begin = self.lists[path], int(query.get("continue", "0"))
        end = begin + int(query.get("limit", _PAGE))
        return {"metadata": {"continue": str(end) if end < len(items) else ""}, "items": items[begin:end]}

    async def get_text(self, path: str, **query: str) -> str:
        """The log of a pod."""
        if path not in self.logs:
            raise errors.NotFound(f"the API server has no {path}")
        return f"{query['container']}: {self.logs[path]}"


@dataclass(slots=True, kw_only=True)
class DoctorSite:
    """The account and the cluster."""

    emulator: Emulator
    aws: Aws
    kubernetes: KubernetesObjects
    cluster: str
    """The ARN of the HyperPod cluster."""

    nodes: Sequence[str]
    """The instances of its two nodes."""

    instance: str
    """The EC2 instance that is a node, too."""

    key: str
    """The ARN of the KMS key of the StorageClass `fast`."""

    volume: str
    """The volume of PersistentVolume `dynamic`, on the HyperPod node."""

    static: str
    """The volume of PersistentVolume `static`, on the EC2 instance."""

    snapshot: str
    caller: access.Aws
    """The doctor's clients."""

    @property
    def node(self) -> str:
        """The HyperPod node that has a volume."""
        return self.nodes[0]

    @property
    def csi_id(self) -> str:
        """The CSI id of the HyperPod node."""
        return f"hyperpod-{self.cluster.rpartition('/')[2]}-{self.node}"

    @property
    def role(self) -> Role:
        """The record of the driver's role."""
        return self.emulator.world.store.roles[ROLE]

    def change_role(self, **fields: Any) -> None:
        """Change the record of the driver's role."""
        self.emulator.world.store.roles.put(replace(self.role, **fields))

    async def examine(self, checks: Sequence[Check], wanted: Wanted = _WANTED) -> list[Finding]:
        """What the doctor finds, without what is in order."""
        return [finding for finding in await self.report(checks, wanted) if finding.status != "ok"]

    async def report(self, checks: Sequence[Check], wanted: Wanted = _WANTED) -> list[Finding]:
        """All that the doctor says."""

        @asynccontextmanager
        async def open_reader() -> AsyncGenerator[KubernetesObjects]:
            yield self.kubernetes

        async with AsyncExitStack() as stack:
            context = Context(wanted, self._share_caller, open_reader, stack)
            return await run_checks(checks, context)

    @asynccontextmanager
    async def as_user(self, *actions: str) -> AsyncGenerator["DoctorSite"]:
        """The site as a user sees it who is allowed these actions."""
        statement = {"Effect": "Allow", "Action": actions, "Resource": "*"}
        keys = put_user(self.emulator, "operator", statement)
        names = {"AWS_ACCESS_KEY_ID": keys["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": keys["SecretAccessKey"]}
        async with _open_caller(self.emulator.env | names) as caller:
            yield replace(self, caller=caller)

    @asynccontextmanager
    async def as_driver(self) -> AsyncGenerator["DoctorSite"]:
        """The site as a process with the driver's role sees it."""
        arn = {"Effect": "Allow", "Principal": {"AWS": ACCOUNT}, "Action": "sts:AssumeRole"}
        trust = json.loads(self.role.trust)
        self.change_role(trust=json.dumps({**trust, "Statement": [*trust["Statement"], arn]}))
        keys = (await self.aws("sts", "assume_role", RoleArn=ROLE_ARN, RoleSessionName="pod"))["Credentials"]
        names = {
            "AWS_ACCESS_KEY_ID": keys["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": keys["SecretAccessKey"],
            "AWS_SESSION_TOKEN": keys["SessionToken"],
        }
        async with _open_caller(self.emulator.env | names) as caller:
            yield replace(self, caller=caller)

    @asynccontextmanager
    async def _share_caller(self) -> AsyncGenerator[access.Aws]:
        """The doctor's clients, which take a second to create, for all examinations."""
        yield self.caller

    @asynccontextmanager
    async def undo_changes(self) -> AsyncGenerator[None]:
        """Undo at the end of the block what the block changes in records and objects."""
        tables = [table for table in vars(self.emulator.world.store).values() if isinstance(table, Table)]
        rows, kubernetes = [dict(table) for table in tables], copy.deepcopy(self.kubernetes)
        try:
            yield
        finally:
            self.kubernetes = kubernetes
            for table, before in zip(tables, rows, strict=True):
                for id_ in table.keys() - before.keys():
                    table.drop(id_)
                for id_, record in before.items():
                    if table.get(id_) is not record:
                        table.put(record)
            await self.emulator.world.store.commit()


@asynccontextmanager
async def healthy_site() -> AsyncGenerator[DoctorSite]:
    """Start an emulator with a HyperPod cluster, an EC2 node, and a driver with its role, key, volumes and snapshot."""
    async with cloud() as (emulator, aws), AsyncExitStack() as stack:
        caller = await stack.enter_async_context(_open_caller(emulator.env))
        cluster, nodes = await aws.create_cluster(InstanceGroups=[{**GROUP, "InstanceCount": 2}])
        await _create_role(aws)
        key = await _create_key(aws)
        instance = await aws.run_instance(Placement={"AvailabilityZone": ZONE})
        await aws.ec2("create_tags", Resources=[instance], Tags=[{"Key": "eks:cluster-name", "Value": EKS}])
        own = TagPolicy(cluster=EKS).volume_tags("pvc-1", {}, ())
        volume = await aws.create_volume(Encrypted=True, KmsKeyId=key, **_tag_specification("volume", own))
        static = await aws.create_volume(**_tag_specification("volume", {"ebs.csi.aws.com/cluster": "true"}))
        await aws.attach_to_node(cluster, nodes[0], volume)
        await aws.ec2("attach_volume", VolumeId=static, InstanceId=instance, Device="/dev/xvdba")
        snapshot = (await aws.ec2("create_snapshot", VolumeId=volume))["SnapshotId"]
        site = DoctorSite(
            emulator=emulator,
            aws=aws,
            kubernetes=KubernetesObjects(),
            cluster=cluster,
            nodes=nodes,
            instance=instance,
            key=key,
            volume=volume,
            static=static,
            snapshot=snapshot,
            caller=caller,
        )
        site.kubernetes.lists = _objects(site)
        yield site


@asynccontextmanager
async def _open_caller(env: Mapping[str, str]) -> AsyncGenerator[access.Aws]:
    """The clients of the caller whose credentials the environment has; created while it has them."""
    async with AsyncExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in env.items():
                patch.setenv(name, value)
            aws = await stack.enter_async_context(access.open_aws())
            for create in (aws.ec2, aws.eks, aws.iam, aws.kms, aws.quotas, aws.sagemaker, aws.sts):
                await create()
        yield aws


async def _create_role(aws: Aws) -> None:
    trust = json.dumps(trust_policy_pod_identity(SETTING).json)
    await aws("iam", "create_role", RoleName=ROLE, AssumeRolePolicyDocument=trust)
    for name, document in driver_documents(SETTING, inline=True).items():
        members = {"PolicyName": name, "PolicyDocument": json.dumps(document.json)}
        await aws("iam", "put_role_policy", RoleName=ROLE, **members)
    pods = {"namespace": "kube-system", "serviceAccount": ACCOUNT_OF_THE_DRIVER, "roleArn": ROLE_ARN}
    await aws("eks", "create_pod_identity_association", clusterName=EKS, **pods)
    await aws("eks", "create_addon", clusterName=EKS, addonName="eks-pod-identity-agent")


async def _create_key(aws: Aws) -> str:
    policy = json.dumps(key_policy(SETTING, KeyUsers(driver=ROLE_ARN)).json)
    return str((await aws("kms", "create_key", Policy=policy))["KeyMetadata"]["Arn"])


def _tag_specification(kind: str, tags: Mapping[str, str]) -> Mapping[str, Any]:
    listed = [{"Key": key, "Value": value} for key, value in tags.items()]
    return {"TagSpecifications": [{"ResourceType": kind, "Tags": listed}]}


def _objects(site: DoctorSite) -> dict[str, list[Object]]:
    hyperpod, plain = f"hyperpod-{site.node}", "ip-10-0-0-1.us-west-2.compute.internal"
    return {
        NODES: [
            node_object(hyperpod, f"aws:///usw2-az1/sagemaker/cluster/{site.csi_id}"),
            node_object(plain, f"aws:///{ZONE}/{site.instance}"),
        ],
        CSINODES: [csinode(hyperpod, site.csi_id, 24), csinode(plain, site.instance, 25)],
        CLASSES: [{"metadata": {"name": "fast"}, "provisioner": DRIVER, "parameters": {"kmsKeyId": site.key}}],
        VOLUMES: [volume_object("dynamic", site.volume), volume_object("static", site.static)],
        CONTENTS: [
            {"metadata": {"name": "s"}, "spec": {"driver": DRIVER}, "status": {"snapshotHandle": site.snapshot}}
        ],
        DEPLOYMENTS: [_deployment(EKS)],
    }


def node_object(name: str, provider: str) -> Object:
    """A Node."""
    labels = {"topology.kubernetes.io/zone": ZONE, "node.kubernetes.io/instance-type": "m5.large"}
    return {"metadata": {"name": name, "labels": labels}, "spec": {"providerID": provider}}


def csinode(name: str, node_id: str, count: int) -> Object:
    """A CSINode with the driver."""
    driver = {"name": DRIVER, "nodeID": node_id, "allocatable": {"count": count}}
    return {"metadata": {"name": name}, "spec": {"drivers": [driver]}}


def volume_object(name: str, volume: str, zone: str = ZONE) -> Object:
    """A PersistentVolume."""
    expression = {"key": "topology.kubernetes.io/zone", "operator": "In", "values": [zone]}
    return {
        "metadata": {"name": name},
        "spec": {
            "csi": {"driver": DRIVER, "volumeHandle": volume},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}},
        },
    }


def _deployment(cluster: str) -> Object:
    container = {"name": "ebs-plugin", "args": ["controller", f"--k8s-tag-cluster-id={cluster}"]}
    pod = {"serviceAccountName": ACCOUNT_OF_THE_DRIVER, "containers": [container]}
    return {"metadata": {"name": "ebs-csi-controller", "namespace": "kube-system"}, "spec": {"template": {"spec": pod}}}


def add_nodes(site: DoctorSite, count: int) -> None:
    """Add HyperPod nodes, each with two volumes of the driver, to the account and the Kubernetes cluster."""
    store, lists = site.emulator.world.store, site.kubernetes.lists
    machine, volume = store.instances[site.node], store.volumes[site.volume]
    (attachment,) = store.attachments.where("volume", site.volume)
    for number in range(count):
        instance = f"i-{number:017x}"
        store.instances.put(replace(machine, id=instance, address=f"10.{number // 250}.{number % 250}.7"))
        csi_id = site.csi_id.replace(site.node, instance)
        lists[NODES].append(node_object(f"hyperpod-{instance}", f"aws:///usw2-az1/sagemaker/cluster/{csi_id}"))
        lists[CSINODES].append(csinode(f"hyperpod-{instance}", csi_id, 24))
        for of_node in range(2):
            id_ = f"vol-{2 * number + of_node:017x}"
            store.volumes.put(replace(volume, id=id_, tags={**volume.tags, "CSIVolumeName": f"pvc-{id_}"}))
            store.attachments.put(replace(attachment, volume=id_, instance=instance))
            lists[VOLUMES].append(volume_object(f"pvc-{id_}", id_))
