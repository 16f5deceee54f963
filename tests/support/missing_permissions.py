"""Run the driver's job while permissions of its role are missing, and collect what its callers read."""

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Callable, Collection, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self, TypeVar

import aiohttp
import grpc

from hyperpod_ebs.access.policy.documents import VOLUMES, driver_documents
from hyperpod_ebs.access.policy.statements import Setting
from hyperpod_ebs.emulator.emulator import Emulator
from tests.support.api_server import ApiServer
from tests.support.controller_process import ControllerProcess, environment, start_controller
from tests.support.driver_job import INSTANCE_TAGS, LookupFailed, Site, Step
from tests.support.emulator_clients import GROUP, ZONE, Aws, cloud
from tests.support.permission_removals import Document, Documents, Part
from tests.support.roles import TRUST_ACCOUNT, policy
from tests.support.waiting import retry_while_unavailable

T = TypeVar("T")

CLUSTER: Final = "training"
ROLE: Final = "hyperpod-ebs"
ACCOUNT: Final = "123456789012"
_TAGGED: Final = {"ebs.csi.aws.com/cluster": "true"}
OWN_TAGS: Final[Mapping[str, Mapping[str, str]]] = {
    "AmazonEBSCSIDriverPolicyV2": _TAGGED,
    "AmazonEBSCSIDriverEKSClusterScopedPolicy": {"ebs.csi.aws.com/cluster-name": CLUSTER},
    "AmazonEBSCSIDriverPolicy": {},
}
"""AWS's policies for the driver, and the tags with which they let the driver use a volume that a user created."""

INLINE: Final = VOLUMES
"""The policy of `hyperpod-ebs policy driver --inline`, which replaces AWS's."""

_CONFIGMAP: Final = "ebs-csi-attach-limits"

_IDS: Final = {
    r"\bkey/[0-9a-f-]{36}\b": "key/1234abcd-12ab-34cd-56ef-1234567890ab",
    r"\bus-west-2[abc]\b": "us-west-2a",
    r"\bvol-[0-9a-f]{17}": "vol-0123456789abcdef0",
    r"\bsnap-[0-9a-f]{17}": "snap-0123456789abcdef0",
    r"\bhyperpod-[a-z0-9]{12}-i-[0-9a-f]{17}": "hyperpod-abcdefghijkl-i-0123456789abcdef0",
    r"\bcluster/[a-z0-9]{12}\b": "cluster/abcdefghijkl",
    r"\bi-[0-9a-f]{17}": "i-0123456789abcdef0",
    r"\b(pvc|snapshot)-(of-\w+-\w+|\d+)": r"\1-1",
}
"""What differs in each run, and what the page has instead."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """What the caller of a step reads."""

    code: str
    """The gRPC code as Kubernetes' sidecars write it: PermissionDenied."""

    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """The driver's job under one policy."""

    emulator: Emulator
    site: Site
    documents: Documents
    http: aiohttp.ClientSession

    @classmethod
    @asynccontextmanager
    async def start(cls, directory: Path, managed: str) -> AsyncGenerator[Self]:
        """Start an emulator, and a controller process whose role has the policies of `hyperpod-ebs policy driver`.

        Args:
            directory: An empty directory.
            managed: The policy of AWS's that the role has, or `INLINE`.
        """
        async with (
            cloud(rate="off") as (emulator, aws),
            aiohttp.ClientSession(emulator.url) as http,
            ApiServer.start(directory) as api,
        ):
            cluster, (node,) = await aws.create_cluster(InstanceGroups=[GROUP])
            instances = {tag: await _run_instance(aws, tag) for tag in INSTANCE_TAGS}
            documents = await _documents(aws, managed, cluster)
            await _create_role(aws, documents)
            env = {**environment(emulator), **await _assume_role(aws)}
            api.configmaps[_CONFIGMAP] = {"metadata": {"name": _CONFIGMAP}}
            flags = (
                f"--k8s-tag-cluster-id={CLUSTER}",
                f"--attach-limits-configmap=kube-system/{_CONFIGMAP}",
                f"--kubeconfig={api.write_kubeconfig()}",
            )
            async with start_controller(directory, env, *flags) as controller, asyncio.TaskGroup() as tasks:
                draining = tasks.create_task(_drain(controller))
                site = Site(
                    csi=controller.csi,
                    aws=aws,
                    hyperpod_node=f"hyperpod-{cluster.rpartition('/')[2]}-{node}",
                    ec2_nodes=instances,
                    own_tags=OWN_TAGS.get(managed, _TAGGED),
                    api=api,
                    log=controller.process.log,
                )
                yield cls(emulator=emulator, site=site, documents=documents, http=http)
                draining.cancel()

    async def run(self, steps: Collection[Step], documents: Documents, *, slowly: bool = False) -> dict[Step, Refusal]:
        """Run the steps at once with these policies; those that were refused, run again with all permissions.

        With `slowly`, states take as long as at AWS, so that the driver has to wait for them.

        Raises:
            AioRpcError: A step fails although the permission was given back.
        """
        objects = await for_each(steps, lambda step: step.prepare(self.site))
        await self.put_policies(documents)
        self.emulator.world.clock.profile = "aws" if slowly else "instant"
        results = await for_each(steps, lambda step: refusal(step, self.site, objects[step]))
        self.emulator.world.clock.profile = "instant"
        await self.put_policies(self.documents)
        refused = {step: result for step, result in results.items() if result}
        # A sidecar repeats a call, too, that meets the change which the refused call had begun.
        await for_each(refused, lambda step: retry_while_unavailable(lambda: step.call(self.site, objects[step])))
        await for_each(steps, lambda step: step.undo(self.site, objects[step]))
        return refused

    async def used_parts(self, step: Step) -> frozenset[Part]:
        """The actions of statements that allow the step; the step succeeds."""
        object_ = await step.prepare(self.site)
        before = (await self._calls())["last"]
        await step.call(self.site, object_)
        calls = (await self._calls(before))["calls"]
        await step.undo(self.site, object_)
        return frozenset(
            self._part(decision)
            for call in calls
            if f":assumed-role/{ROLE}/" in (call["caller"] or "")
            for decision in call["decisions"]
        )

    async def put_policies(self, documents: Documents) -> None:
        """Give the role these policies, in place of those that it has."""
        for name in self.documents:
            document = documents[name]
            names = {"RoleName": ROLE, "PolicyName": _policy_name(name)}
            if document["Statement"]:
                await self.site.aws("iam", "put_role_policy", **names, PolicyDocument=json.dumps(document))
            else:
                await self.site.aws("iam", "delete_role_policy", **names)

    async def _calls(self, after: int = 0) -> dict[str, Any]:
        async with self.http.get(f"/_emulator/calls/latest?after={after}") as answer:
            calls: dict[str, Any] = await answer.json()
            return calls

    def _part(self, decision: Mapping[str, str]) -> Part:
        (policy_,) = (name for name in self.documents if _policy_name(name) == decision["policy"])
        statements = self.documents[policy_]["Statement"]
        names = [statement.get("Sid") or f"statement {index + 1}" for index, statement in enumerate(statements)]
        return Part(policy_, names.index(decision["statement"]), decision["action"])


async def refusal(step: Step, site: Site, object_: str) -> Refusal | None:
    """Run a step; what its caller reads if it is refused."""
    try:
        await step.call(site, object_)
    except grpc.aio.AioRpcError as error:
        name = "".join(word.capitalize() for word in error.code().name.split("_"))
        return Refusal(name, without_ids(error.details() or ""))
    except LookupFailed as error:
        return Refusal("", without_ids(str(error)))
    return None


def without_ids(text: str) -> str:
    """The text with ids that are the same in each run."""
    for pattern, replacement in _IDS.items():
        text = re.sub(pattern, replacement, text)
    return text


async def for_each(steps: Collection[Step], act: Callable[[Step], Coroutine[Any, Any, T]]) -> dict[Step, T]:
    """Act on all steps at once; the results."""
    async with asyncio.TaskGroup() as group:
        tasks = {step: group.create_task(act(step)) for step in steps}
    return {step: task.result() for step, task in tasks.items()}


async def _run_instance(aws: Aws, tag: str) -> str:
    """Run an EC2 instance in the zone of the volumes, with the cluster's name in this tag."""
    instance = await aws.run_instance(Placement={"AvailabilityZone": ZONE})
    await aws.ec2("create_tags", Resources=[instance], Tags=[{"Key": tag, "Value": CLUSTER}])
    return instance


async def _documents(aws: Aws, managed: str, cluster: str) -> Documents:
    """The policies of the role, one of which is AWS's or replaces it."""
    setting = Setting(
        partition="aws",
        region="us-west-2",
        account=ACCOUNT,
        eks_cluster="eks",
        hyperpod_cluster=cluster.rpartition("/")[2],
    )
    of_aws = {} if managed == INLINE else {managed: await _document_of(aws, managed)}
    generated = driver_documents(setting, inline=managed == INLINE)
    return {**of_aws, **{name: document.json for name, document in generated.items()}}


async def _document_of(aws: Aws, managed: str) -> Document:
    """The document of a policy of AWS."""
    policies = (await aws("iam", "list_policies", Scope="AWS"))["Policies"]
    found = next(each for each in policies if each["PolicyName"] == managed)
    names = {"PolicyArn": found["Arn"], "VersionId": found["DefaultVersionId"]}
    document: Document = (await aws("iam", "get_policy_version", **names))["PolicyVersion"]["Document"]
    return document


async def _create_role(aws: Aws, documents: Documents) -> None:
    tags = [{"Key": "eks-cluster-name", "Value": CLUSTER}]
    await aws("iam", "create_role", RoleName=ROLE, AssumeRolePolicyDocument=policy(TRUST_ACCOUNT), Tags=tags)
    for name, document in documents.items():
        members = {"PolicyName": _policy_name(name), "PolicyDocument": json.dumps(document)}
        await aws("iam", "put_role_policy", RoleName=ROLE, **members)


async def _assume_role(aws: Aws) -> dict[str, str]:
    """The environment of a process that has assumed the role."""
    arn = f"arn:aws:iam::{ACCOUNT}:role/{ROLE}"
    answer = (await aws("sts", "assume_role", RoleArn=arn, RoleSessionName="controller"))["Credentials"]
    return {
        "AWS_ACCESS_KEY_ID": answer["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": answer["SecretAccessKey"],
        "AWS_SESSION_TOKEN": answer["SessionToken"],
    }


def _policy_name(name: str) -> str:
    """The name in IAM of one of the role's inline policies."""
    return re.sub(r"\W+", "-", name)


async def _drain(controller: ControllerProcess) -> None:
    """Read the controller's log, so that its pipe never fills."""
    stderr = controller.process.subprocess.stderr
    assert stderr is not None
    while line := await stderr.readline():
        controller.process.log.append(line.decode())
