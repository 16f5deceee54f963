"""The page that proves the policies of `hyperpod-ebs policy`.

Every line of its tables is a result, so a section is equal to the page's, or the page is out of date.
"""

import asyncio
import itertools
import json
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import aiohttp

from hyperpod_ebs.access.policy.documents import ATTACH, DETACH, attach_document, detach_document
from hyperpod_ebs.access.policy.key_documents import KeyUsers, key_policy
from hyperpod_ebs.access.policy.statements import Document, Setting
from hyperpod_ebs.access.policy.trust_documents import AUDIENCE, trust_policy_irsa, trust_policy_pod_identity
from hyperpod_ebs.emulator.emulator import Emulator
from tests.support.emulator_clients import GROUP, Aws, cloud
from tests.support.iam_users import allow, create_user
from tests.support.key_users import MANAGE
from tests.support.missing_permissions import INLINE, Job, without_ids
from tests.support.permission_removals import Documents, Removal, parts, with_other_resources, without_statements
from tests.support.permissions_page import TABLES, Rounds, used_parts
from tests.support.pod_tokens import pod_claims, pod_token
from tests.support.policy_proof import Attempt, Proof
from tests.support.roles import ACCOUNT, TRUST_ACCOUNT, assume, connect, policy

PAGE: Final = "docs/reference/policies.md"
HEAD: Final = """\
<!-- Made by make permissions, which tries each policy without each of its parts; do not edit. -->

# Policies and their proof

[`hyperpod-ebs policy`](command-line.md#hyperpod-ebs-policy) prints the policies for the driver's role, for callers of
the two HyperPod APIs by hand, and for a customer-managed key. This page shows that they allow what they are for, and
nothing else:

- With each policy on a new role in the embedded cloud, all steps succeed.
- The steps use every action of every statement, as the call record of the embedded cloud shows. The one exception is
  `kms:*` for the account in a key's policy, which lets policies in IAM decide.
- Each statement, action, resource and condition was taken away in turn, and a step failed. The step succeeded when it
  was repeated with the whole policy. An action is taken away on its own where its statement has others.

[The page of permissions](permissions.md) has the same for the role with AWS's managed policies, for the statements that
the driver needs in a key's policy, and what the user reads.

The policies are for one cluster. With `--scope account`, they have `cluster/*` in place of the cluster.
"""

_CALLER: Final = "caller"
_NODE: Final = "node"
_PODS: Final = "driver"
_KEY: Final = "key"
_TRUST: Final = "trust"
_SERVICE_ACCOUNT: Final = "ebs-csi-controller-sa"
_numbers: Final = itertools.count(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """An account with a HyperPod cluster, and a role of a caller that may do nothing yet."""

    emulator: Emulator
    aws: Aws
    """The administrator's clients."""

    caller: Aws
    """The clients of the role."""

    http: aiohttp.ClientSession
    setting: Setting
    cluster: str
    """The ARN of the HyperPod cluster."""

    node: str

    @classmethod
    @asynccontextmanager
    async def start(cls, region: str = "us-west-2") -> AsyncGenerator[Self]:
        """Start an emulator with a cluster and the role."""
        async with cloud(rate="off", region=region) as (emulator, aws), aiohttp.ClientSession(emulator.url) as http:
            arn, (node,) = await aws.create_cluster(InstanceGroups=[GROUP])
            created = await aws("iam", "create_role", RoleName=_CALLER, AssumeRolePolicyDocument=policy(TRUST_ACCOUNT))
            credentials = await assume(aws, created["Role"]["Arn"])
            caller = await connect(emulator, credentials, "ec2", "sagemaker")
            setting = Setting(
                partition=arn.split(":")[1],
                region=region,
                account=ACCOUNT,
                eks_cluster="eks",
                hyperpod_cluster=arn.rpartition("/")[2],
            )
            yield cls(emulator=emulator, aws=aws, caller=caller, http=http, setting=setting, cluster=arn, node=node)

    def proof(
        self,
        documents: Documents,
        put: Callable[[Documents], Coroutine[Any, Any, Any]],
        *attempts: Attempt,
        principal: str = f":assumed-role/{_CALLER}/",
    ) -> Proof:
        """A proof at this place."""
        return Proof(documents=documents, attempts=attempts, put=put, http=self.http, principal=principal)

    async def put_caller_policy(self, documents: Documents) -> None:
        """Give the caller's role policies, in place of those that it has."""
        for name, document in documents.items():
            names = {"RoleName": _CALLER, "PolicyName": name}
            await self.aws("iam", "put_role_policy", **names, PolicyDocument=json.dumps(document))

    async def create_key(self) -> str:
        """Create a key with a policy that lets the caller attach volumes; its ARN."""
        users = KeyUsers(callers=(self.setting.iam_arn(f"role/{_CALLER}"),))
        document = json.dumps(key_policy(self.setting, users).json)
        return str((await self.aws("kms", "create_key", Policy=document))["KeyMetadata"]["Arn"])

    async def create_volume(self, **members: Any) -> str:
        """Create a volume in the zone of the node; its id."""
        return await self.aws.create_volume(AvailabilityZone=f"{self.setting.region}a", **members)

    def attach(self, what: str, **volume: Any) -> Attempt:
        """The caller attaches a volume."""
        cluster, node = self.cluster, self.node
        return Attempt(
            name=f"attach {what}",
            prepare=lambda: self.create_volume(**volume),
            call=lambda id_: self.caller.attach_to_node(cluster, node, id_),
            undo=lambda id_: self.aws.detach_from_node(cluster, node, id_),
        )

    def detach(self, what: str, **volume: Any) -> Attempt:
        """The caller detaches a volume."""
        cluster, node = self.cluster, self.node

        async def create_attached() -> str:
            id_ = await self.create_volume(**volume)
            await self.aws.attach_to_node(cluster, node, id_)
            return id_

        return Attempt(
            name=f"detach {what}",
            prepare=create_attached,
            call=lambda id_: self.caller.detach_from_node(cluster, node, id_),
        )

    def describe(self) -> Attempt:
        """The caller asks for the state of a volume."""
        return Attempt(
            name="see a volume's state",
            prepare=self.create_volume,
            call=lambda id_: self.caller.ec2("describe_volumes", VolumeIds=[id_]),
        )


async def attach_proof(place: Place) -> Proof:
    """Callers of attach."""
    encrypted = {"Encrypted": True, "KmsKeyId": await place.create_key()}
    attempts = (place.attach("a volume"), place.attach("a volume under a customer-managed key", **encrypted))
    document = _json(ATTACH, attach_document(place.setting))
    return place.proof(document, place.put_caller_policy, *attempts, place.describe())


async def detach_proof(place: Place) -> Proof:
    """Callers of detach."""
    key = (await place.aws("kms", "create_key"))["KeyMetadata"]["Arn"]
    encrypted = {"Encrypted": True, "KmsKeyId": key}
    attempts = (place.detach("a volume"), place.detach("a volume under a customer-managed key", **encrypted))
    document = _json(DETACH, detach_document(place.setting))
    return place.proof(document, place.put_caller_policy, *attempts, place.describe())


async def key_proof(place: Place) -> Proof:
    """The policy of a key for callers by hand and for the cluster's own volumes."""
    setting, aws = place.setting, place.aws
    await place.put_caller_policy(_json(ATTACH, attach_document(setting)))
    trust = {"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:AssumeRole"}
    await aws("iam", "create_role", RoleName=_NODE, AssumeRolePolicyDocument=policy(trust))
    administrator = await create_user(place.emulator, aws, "administrator", allow("kms:*"))
    users = KeyUsers(callers=(setting.iam_arn(f"role/{_CALLER}"),), execution_roles=(setting.iam_arn(f"role/{_NODE}"),))
    key = str((await aws("kms", "create_key"))["KeyMetadata"]["Arn"])

    async def put(documents: Documents) -> None:
        (document,) = documents.values()
        own = {**document, "Statement": [*document["Statement"], MANAGE]}
        await aws("kms", "put_key_policy", KeyId=key, Policy=json.dumps(own))

    async def name() -> str:
        name = f"own-{next(_numbers)}"
        await aws.create_eks_cluster(name)
        return name

    async def create_cluster(name: str) -> None:
        eks = {"Eks": {"ClusterArn": f"arn:aws:eks:us-west-2:{ACCOUNT}:cluster/{name}"}}
        volume = {"EbsVolumeConfig": {"VolumeSizeInGB": 1, "VolumeKmsKeyId": key}}
        groups = [{**GROUP, "InstanceStorageConfigs": [volume]}]
        members = {"ClusterName": name, "InstanceGroups": groups, "Orchestrator": eks}
        await aws("sagemaker", "create_cluster", **members, NodeProvisioningMode="Continuous")

    return place.proof(
        _json(_KEY, key_policy(setting, users)),
        put,
        Attempt(
            name="manage the key",
            prepare=_no_preparation,
            call=lambda _: administrator("kms", "describe_key", KeyId=key),
        ),
        place.attach("a volume under the key", Encrypted=True, KmsKeyId=key),
        Attempt(name="create a cluster whose volumes have the key", prepare=name, call=create_cluster),
        principal=f":{ACCOUNT}:",
    )


async def pod_identity_proof(place: Place) -> Proof:
    """The trust policy for EKS Pod Identity."""
    document = trust_policy_pod_identity(place.setting)
    arn, put = await _driver_role(place, document)
    names = {"namespace": "kube-system", "serviceAccount": _SERVICE_ACCOUNT}
    await place.aws("eks", "create_pod_identity_association", clusterName="eks", roleArn=arn, **names)
    (issuer,) = place.emulator.world.store.oidc_issuers.where("cluster", "eks")
    token = pod_token(place.emulator, "eks", **pod_claims(issuer.id, service_account=_SERVICE_ACCOUNT))
    attempt = Attempt(
        name="a pod of the driver gets the role",
        prepare=_no_preparation,
        call=lambda _: place.aws("eks-auth", "assume_role_for_pod_identity", clusterName="eks", token=token),
    )
    return place.proof(_json(_TRUST, document), put, attempt, principal="pods.eks.amazonaws.com")


async def irsa_proof(place: Place) -> Proof:
    """The trust policy for IRSA."""
    url = (await place.aws("eks", "describe_cluster", name="eks"))["cluster"]["identity"]["oidc"]["issuer"]
    await place.aws("iam", "create_open_id_connect_provider", Url=url, ClientIDList=[AUDIENCE])
    document = trust_policy_irsa(place.setting, url)
    arn, put = await _driver_role(place, document)
    claims = {**pod_claims(url, service_account=_SERVICE_ACCOUNT), "aud": [AUDIENCE]}
    token = pod_token(place.emulator, "eks", **claims)
    members = {"RoleArn": arn, "RoleSessionName": "driver", "WebIdentityToken": token}
    attempt = Attempt(
        name="a pod of the driver gets the role",
        prepare=_no_preparation,
        call=lambda _: place.aws("sts", "assume_role_with_web_identity", **members),
    )
    return place.proof(_json(_TRUST, document), put, attempt, principal="")


async def _driver_role(place: Place, trust: Document) -> tuple[str, Callable[[Documents], Coroutine[Any, Any, None]]]:
    """Create a role with a trust policy; its ARN, and what changes the trust policy."""
    document = json.dumps(trust.json)
    created = await place.aws("iam", "create_role", RoleName=_PODS, AssumeRolePolicyDocument=document)

    async def put(documents: Documents) -> None:
        (changed,) = documents.values()
        # A trust policy needs a statement, and IAM lets no service account match this one.
        trusted = json.dumps(changed) if changed["Statement"] else policy(TRUST_ACCOUNT)
        await place.aws("iam", "update_assume_role_policy", RoleName=_PODS, PolicyDocument=trusted)

    return str(created["Role"]["Arn"]), put


async def _no_preparation() -> None:
    pass


def _json(name: str, document: Document) -> Documents:
    return {name: document.json}


INLINE_HEADING: Final = "The driver's role, with --inline"

_DRIVER_TABLES: Final = {**TABLES, "resource that is another one": with_other_resources}

PROOFS: Final[Mapping[str, Callable[[Place], Coroutine[Any, Any, Proof]]]] = {
    "Callers of attach": attach_proof,
    "Callers of detach": detach_proof,
    "The policy of a key": key_proof,
    "Trust of EKS Pod Identity": pod_identity_proof,
    "Trust of IRSA": irsa_proof,
}


async def inline_section(directory: Path, *, is_brief: bool = False) -> str:
    """The section about the driver's role without AWS's policies.

    Args:
        directory: An empty directory.
        is_brief: Whether to take away only statements, and none for whose absence the driver waits long.

    Raises:
        AssertionError: The role has an action in a statement that the driver does not use, or nothing is refused
            without a part of the policies.
    """
    tables = {"statement taken away": _short_removals} if is_brief else _DRIVER_TABLES
    async with Job.start(directory, INLINE) as job:
        used, refused = await used_parts(job, INLINE)
        assert frozenset().union(*used.values()) == frozenset(parts(job.documents))
        rounds = Rounds(job=job, used=used)
        lines = [f"## {INLINE_HEADING}", ""]
        for head, removals in tables.items():
            rows = [without_ids(await rounds.row(removal)) for removal in removals(job.documents)]
            assert not [row for row in rows if "| nothing" in row]
            lines += [f"| {head} | what is refused |", "|---|---|", *rows, ""]
        lines += [f"Not allowed: {', '.join(step.title for step in refused)}.", ""]
    return "\n".join(lines)


def _short_removals(documents: Documents) -> Iterator[Removal]:
    for removal in without_statements(documents):
        if not any(part.action.startswith("ec2:Describe") for part in removal.parts):
            yield removal


async def page(directory: Path) -> str:
    """The whole page.

    Args:
        directory: An empty directory.
    """
    async with asyncio.TaskGroup() as group:
        driver = group.create_task(inline_section(directory))
        others = [group.create_task(section(heading)) for heading in PROOFS]
    return "\n".join([HEAD, driver.result(), *(other.result() for other in others)])


async def section(heading: str) -> str:
    """A section of the page."""
    async with Place.start() as place:
        proof = await PROOFS[heading](place)
        return "\n".join([f"## {heading}", "", *await proof.tables()])
