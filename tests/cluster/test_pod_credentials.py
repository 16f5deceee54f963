"""AWS credentials of pods, through the issuer of the API server's tokens and the webhook, as on EKS."""

import asyncio
import base64
import json
import ssl
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jwt
import pytest
from botocore.exceptions import ClientError

from localcluster import cloud
from localcluster.driver_role import ROLE
from tests.support import driver_pods
from tests.support.cluster_namespace import ClusterNamespace
from tests.support.driver_pods import CONTROLLER
from tests.support.iam_users import document
from tests.support.live_cluster import LiveCluster
from tests.support.pod_tokens import POD_TRUST


@pytest.mark.requirement("cluster.no-static-keys")
async def test_the_controller_has_no_keys_but_calls_aws_under_its_role(
    namespace: ClusterNamespace, live: LiveCluster
) -> None:
    """EKS User Guide, "IAM roles for service accounts"."""
    before = await live.last_call()

    await namespace.create_claim("data", of=await namespace.create_storage_class())
    await namespace.create_pod("user", "data", on=live.record.nodes[0].name)
    await namespace.wait_for_pod("user")

    calls = await live.driver_calls(after=before)
    assert {"ec2:CreateVolume", "sagemaker:AttachClusterNodeVolume"} <= {call["operation"] for call in calls}
    role = f"arn:aws:sts::123456789012:assumed-role/{ROLE}/"
    assert [call for call in calls if not call["caller"].startswith(role)] == []
    for pod in await driver_pods.list_pods(live, CONTROLLER):
        environment = await driver_pods.process_environment(live, pod)
        assert "AWS_WEB_IDENTITY_TOKEN_FILE" in environment
        assert environment.keys() & {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} == set()
    secrets = await live.kubectl.get("secrets,configmaps", "--all-namespaces")
    assert live.record.environment["AWS_SECRET_ACCESS_KEY"] not in plain_values(secrets)


def plain_values(objects: Any) -> str:  # as Kubernetes has it
    """All values of Secrets and ConfigMaps as one text."""
    values = [
        base64.b64decode(value).decode(errors="replace") if each["kind"] == "Secret" else value
        for each in objects["items"]
        for value in each.get("data", {}).values()
    ]
    return "\n".join(values)


async def create_pod(namespace: ClusterNamespace, annotations: Mapping[str, str]) -> Any:  # as Kubernetes has it
    """Create a pod with a service account of its own that has these annotations; the pod."""
    metadata = {"name": "caller", "annotations": annotations}
    await namespace.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})
    container: dict[str, Any] = {"volumeMounts": []}
    await namespace.create_pod("caller", "", serviceAccountName="caller", volumes=[], container=container)
    return await namespace.wait_for_pod("caller")


async def read_token(namespace: ClusterNamespace, variable: str) -> dict[str, Any]:
    """The claims of the token in the file that a variable of the pod names."""
    token = await namespace.run_script("caller", f"cat ${variable}")
    claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return claims


def variables(pod: Any) -> dict[str, str]:  # as Kubernetes has it
    """The environment variables of a pod's only container."""
    (container,) = pod["spec"]["containers"]
    return {variable["name"]: variable["value"] for variable in container.get("env", ())}


@asynccontextmanager
async def associate_role(live: LiveCluster, namespace: str) -> AsyncGenerator[None]:
    """Associate a new role with the service account `caller` of the namespace while the block runs."""
    name = f"pods-{namespace}"
    account = {"clusterName": cloud.NAME, "namespace": namespace, "serviceAccount": "caller"}
    async with live.client("iam") as iam, live.client("eks") as eks:
        role = (await iam.create_role(RoleName=name, AssumeRolePolicyDocument=document(POD_TRUST)))["Role"]["Arn"]
        created = await eks.create_pod_identity_association(**account, roleArn=role)
        try:
            yield
        finally:
            id_ = created["association"]["associationId"]
            await eks.delete_pod_identity_association(clusterName=cloud.NAME, associationId=id_)
            await iam.delete_role(RoleName=name)


async def test_a_pod_of_a_service_account_with_a_role_has_a_token_of_the_clusters_issuer_for_sts(
    namespace: ClusterNamespace, live: LiveCluster
) -> None:
    """EKS User Guide, "Configure Pods to use a Kubernetes service account"."""
    role = "arn:aws:iam::123456789012:role/any"

    pod = await create_pod(namespace, {"eks.amazonaws.com/role-arn": role})

    async with live.client("eks") as eks:
        described = await eks.describe_cluster(name=cloud.NAME)
    assert variables(pod)["AWS_ROLE_ARN"] == role
    assert variables(pod)["AWS_REGION"] == live.record.environment["AWS_REGION"]
    token = await read_token(namespace, "AWS_WEB_IDENTITY_TOKEN_FILE")
    assert token["iss"] == described["cluster"]["identity"]["oidc"]["issuer"]
    assert token["aud"] == ["sts.amazonaws.com"]
    assert token["sub"] == f"system:serviceaccount:{namespace.name}:caller"
    assert token["exp"] - token["iat"] == 86400


async def test_another_service_account_cannot_assume_the_drivers_role(
    namespace: ClusterNamespace, live: LiveCluster
) -> None:
    """EKS User Guide, "Assign IAM roles to Kubernetes service accounts": the trust policy names one account."""
    role = f"arn:aws:iam::123456789012:role/{ROLE}"
    await create_pod(namespace, {"eks.amazonaws.com/role-arn": role})
    token = await namespace.run_script("caller", "cat $AWS_WEB_IDENTITY_TOKEN_FILE")

    async with live.client("sts") as sts:
        with pytest.raises(ClientError) as refused:
            await sts.assume_role_with_web_identity(RoleArn=role, RoleSessionName="me", WebIdentityToken=token)

    assert refused.value.response.get("Error", {}).get("Code") == "AccessDenied"


async def test_the_api_server_has_a_certificate_of_the_authority_of_its_eks_cluster(live: LiveCluster) -> None:
    """EKS API Reference, "Cluster", certificateAuthority; `aws eks update-kubeconfig` writes it to a kubeconfig."""
    async with live.client("eks") as eks:
        described = await eks.describe_cluster(name=cloud.NAME)
    authority = base64.b64decode(described["cluster"]["certificateAuthority"]["data"]).decode()
    server = urlsplit(json.loads(Path(live.record.kubeconfig).read_text())["clusters"][0]["cluster"]["server"])

    trusting = ssl.create_default_context(cadata=authority)
    _, connection = await asyncio.open_connection(server.hostname, server.port, ssl=trusting)

    connection.close()
    await connection.wait_closed()


async def test_a_pod_of_a_service_account_with_an_association_has_a_token_for_the_pod_identity_agent(
    namespace: ClusterNamespace, live: LiveCluster
) -> None:
    """EKS User Guide, "Understand how EKS Pod Identity works"; the association wins over the annotation."""
    async with associate_role(live, namespace.name):
        pod = await create_pod(namespace, {"eks.amazonaws.com/role-arn": "arn:aws:iam::123456789012:role/any"})

    assert variables(pod)["AWS_CONTAINER_CREDENTIALS_FULL_URI"] == "http://169.254.170.23/v1/credentials"
    assert "AWS_ROLE_ARN" not in variables(pod)
    token = await read_token(namespace, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")
    assert token["aud"] == ["pods.eks.amazonaws.com"]


async def test_a_pod_of_a_service_account_without_a_role_has_no_credentials(namespace: ClusterNamespace) -> None:
    pod = await create_pod(namespace, {})

    assert variables(pod) == {}
