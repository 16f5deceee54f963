"""The driver with EKS Pod Identity instead of IRSA: an agent on each node, and credentials that expire soon."""

import json
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from localcluster import cloud
from localcluster.driver_role import ROLE
from localcluster.kubernetes.chart import Release
from localcluster.machines import network
from localcluster.reconcile import AGENT_ADDON
from localcluster.record import NodeRecord
from tests.support import driver_pods
from tests.support.cluster_namespace import ClusterNamespace
from tests.support.driver_pods import CONTROLLER
from tests.support.iam_users import document
from tests.support.live_cluster import SYSTEM, LiveCluster
from tests.support.pod_manifests import COUNT
from tests.support.pod_tokens import AUDIENCE, POD_TRUST
from tests.support.waiting import wait_for_cluster

pytestmark = pytest.mark.exclusive

ACCOUNT: Final = "ebs-csi-controller-sa"
"""The controller's service account."""

TAGS: Final = {"eks-cluster-name": cloud.NAME, "kubernetes-namespace": SYSTEM, "kubernetes-service-account": ACCOUNT}
"""Some of the session tags of the controller's pods (EKS User Guide, "Grant Pods access to AWS resources based on
tags")."""

OWN_TAGS: Final = [
    {
        "Effect": "Deny",
        "Action": "*",
        "Resource": "*",
        "Condition": {"StringNotEquals": {f"aws:PrincipalTag/{key}": value}},
    }
    for key, value in TAGS.items()
]
"""Statements that deny everything to sessions without these tags."""


ASK_AGENT: Final = (
    f'busybox wget -q -O - --header "Authorization: $TOKEN" http://{network.AGENT}/v1/credentials 2>&1 || true'
)
"""A shell command that sends the token in TOKEN to the agent of the node, and prints the answer or the error."""


@asynccontextmanager
async def pod_identity_agents(live: LiveCluster) -> AsyncGenerator[None]:
    """Run an agent on each node while the block runs."""
    addon = {"clusterName": cloud.NAME, "addonName": AGENT_ADDON}
    async with live.client("eks") as eks:
        await eks.create_addon(**addon)
        try:
            for node in live.record.nodes:
                await _wait_for_agent(live, node, runs=True)
            yield
        finally:
            await eks.delete_addon(**addon)
            for node in live.record.nodes:
                await _wait_for_agent(live, node, runs=False)


async def _wait_for_agent(live: LiveCluster, node: NodeRecord, *, runs: bool) -> None:
    async def is_so() -> bool:
        answer = await live.run_on_node(node.name, "busybox", "sh", "-c", ASK_AGENT)
        return ("400 Bad Request" in answer) == runs

    await wait_for_cluster(is_so)


@asynccontextmanager
async def driver_through_pod_identity(live: LiveCluster) -> AsyncGenerator[None]:
    """Give the driver its role through Pod Identity, and no longer through IRSA, while the block runs."""
    release = Release(live.kubectl, Path(live.record.directory))
    account = {"clusterName": cloud.NAME, "namespace": SYSTEM, "serviceAccount": ACCOUNT}
    async with AsyncExitStack() as stack:
        iam = await stack.enter_async_context(live.client("iam"))
        eks = await stack.enter_async_context(live.client("eks"))
        role = (await iam.get_role(RoleName=ROLE))["Role"]
        values = release.values(live.record.environment["AWS_REGION"], role["Arn"])
        stack.push_async_callback(_upgrade, live, release, values)
        trust = json.dumps(role["AssumeRolePolicyDocument"])
        stack.push_async_callback(iam.update_assume_role_policy, RoleName=ROLE, PolicyDocument=trust)
        await iam.update_assume_role_policy(RoleName=ROLE, PolicyDocument=document(POD_TRUST))
        stack.push_async_callback(iam.delete_role_policy, RoleName=ROLE, PolicyName="tags")
        await iam.put_role_policy(RoleName=ROLE, PolicyName="tags", PolicyDocument=document(*OWN_TAGS))
        created = await eks.create_pod_identity_association(**account, roleArn=role["Arn"])
        id_ = created["association"]["associationId"]
        delete = eks.delete_pod_identity_association
        stack.push_async_callback(delete, clusterName=cloud.NAME, associationId=id_)
        through = {"hyperpod": {"role": {"arn": role["Arn"], "through": "podIdentity"}}}
        await _upgrade(live, release, {**values, **through})
        yield


async def _upgrade(live: LiveCluster, release: Release, values: dict[str, Any]) -> None:
    """Upgrade the release, and restart the controller's pods, which get their credentials when they are created."""
    await release.upgrade(values)
    await live.kubectl("rollout", "restart", f"--namespace={SYSTEM}", CONTROLLER)
    await driver_pods.wait_until_ready(live)


async def test_the_driver_works_with_pod_identity_and_gets_new_credentials_when_the_old_ones_expire(
    namespace: ClusterNamespace, live: LiveCluster
) -> None:
    """EKS User Guide, "Learn how EKS Pod Identity grants Pods access to AWS services"."""
    class_ = await namespace.create_storage_class()
    async with pod_identity_agents(live), driver_through_pod_identity(live):
        before = await live.last_call()
        annotations = (await live.kubectl.get("serviceaccount", ACCOUNT, f"--namespace={SYSTEM}"))["metadata"]
        assert "eks.amazonaws.com/role-arn" not in annotations.get("annotations", {})

        await _use_volume(namespace, class_, "first", on=live.record.nodes[0])
        await _wait_until_expired(live, before)
        await _use_volume(namespace, class_, "second", on=live.record.nodes[-1])
        await namespace.delete("pod", "first", "second")

        calls = await live.driver_calls(after=before)

    role = f":assumed-role/{ROLE}/eks-{cloud.NAME}-ebs-csi-controller-"
    assert [call for call in calls if role not in call["caller"]] == []
    assert {"ec2:CreateVolume", "ec2:AttachVolume", "sagemaker:AttachClusterNodeVolume"} <= {
        call["operation"] for call in calls if call["outcome"] == "ok"
    }
    assert [call for call in calls if "Expired" in call["outcome"] or call["denied"]] == []


async def _use_volume(namespace: ClusterNamespace, class_: str, name: str, *, on: NodeRecord) -> None:
    """Create a claim, and a pod that writes to its volume."""
    await namespace.create_claim(name, of=class_)
    await namespace.create_pod(name, name, on=on.name, script=COUNT)
    await namespace.wait_for_pod(name)
    await namespace.wait_for_more_numbers(name)


async def _wait_until_expired(live: LiveCluster, after: int) -> None:
    """Wait until the credentials of the driver's first call after this one have expired."""
    first = (await live.driver_calls(after=after))[0]

    async def is_expired() -> bool:
        return time.time() > float(first["instant"]) + cloud.POD_SECONDS

    await wait_for_cluster(is_expired)


async def test_the_agent_gives_a_pod_only_the_role_of_its_own_service_account(
    namespace: ClusterNamespace, live: LiveCluster
) -> None:
    """EKS User Guide, "Understand how EKS Pod Identity works"; the token is for the agent, but has no association."""
    token = {"serviceAccountToken": {"audience": AUDIENCE, "expirationSeconds": 3600, "path": "token"}}
    volumes = [{"name": "token", "projected": {"sources": [token]}}]
    mounts = {"volumeMounts": [{"name": "token", "mountPath": "/token"}]}

    async with pod_identity_agents(live):
        before = await live.last_call()
        await namespace.create_pod("curious", "", volumes=volumes, container=mounts)
        await namespace.wait_for_pod("curious")
        answer = await namespace.run_script("curious", f"TOKEN=$(cat /token/token); {ASK_AGENT}")
        calls = [call for call in await live.calls() if call["number"] > before]

    assert "404 Not Found" in answer
    (asked,) = [call for call in calls if call["operation"] == "eks-auth:AssumeRoleForPodIdentity"]
    assert ":assumed-role/hyperpod/" in asked["caller"]
    assert asked["outcome"] == "ResourceNotFoundException"
