"""EKS Pod Identity: associations, and credentials for tokens of pods, through the AWS SDK."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import jwt
import pytest

from hyperpod_ebs.emulator.eks_records import PodIdentityAssociation
from hyperpod_ebs.emulator.emulator import Emulator
from tests.support.emulator_clients import Aws, clients
from tests.support.iam_users import allow, create_user, document
from tests.support.pod_tokens import POD_TRUST, create_role, pod_claims, pod_token, sign

CLUSTER_ARN: Final = "arn:aws:eks:us-west-2:123456789012:cluster/eks"
ONE: Final = {"clusterName": "eks"}
PODS: Final = {"clusterName": "eks", "namespace": "kube-system", "serviceAccount": "ebs"}


async def associate(aws: Aws, *, trust: Mapping[str, Any] = POD_TRUST, **members: Any) -> str:
    """Create a cluster `eks`, a role that may describe volumes, and their association; return the association's id."""
    await aws.create_eks_cluster()
    role = await create_role(aws, "pods", trust=trust, allows="ec2:DescribeVolumes")
    created = await aws("eks", "create_pod_identity_association", **PODS, roleArn=role, **members)
    return str(created["association"]["associationId"])


async def assume(aws: Aws, token: str) -> Any:
    """Exchange a token for credentials."""
    return await aws("eks-auth", "assume_role_for_pod_identity", clusterName="eks", token=token)


async def refusal(aws: Aws, token: str) -> tuple[str, str]:
    """The code and message of the error to a token."""
    return await aws.expect_error("eks-auth", "assume_role_for_pod_identity", clusterName="eks", token=token)


def clients_of(emulator: Emulator, credentials: Mapping[str, Any]) -> Aws:
    """Clients with the credentials of a pod."""
    env = {
        "AWS_ACCESS_KEY_ID": credentials["accessKeyId"],
        "AWS_SECRET_ACCESS_KEY": credentials["secretAccessKey"],
        "AWS_SESSION_TOKEN": credentials["sessionToken"],
    }
    return clients(emulator.env | env)


async def test_a_pods_token_gives_the_credentials_of_the_associated_role(emulator: Emulator, aws: Aws) -> None:
    """EKS Auth API Reference, AssumeRoleForPodIdentity."""
    id_ = await associate(aws)

    assumed = await assume(aws, pod_token(emulator, "eks"))
    pod = clients_of(emulator, assumed["credentials"])

    assert assumed["subject"] == {"namespace": "kube-system", "serviceAccount": "ebs"}
    assert assumed["audience"] == "pods.eks.amazonaws.com"
    assert assumed["podIdentityAssociation"]["associationId"] == id_
    assert 5.9 * 3600 < assumed["credentials"]["expiration"].timestamp() - time.time() <= 6 * 3600
    identity = await pod("sts", "get_caller_identity")
    assert identity["Arn"] == assumed["assumedRoleUser"]["arn"]
    assert identity["Arn"].startswith("arn:aws:sts::123456789012:assumed-role/pods/eks-eks-ebs-csi-controller-0-")
    assert (await pod.ec2("describe_volumes"))["Volumes"] == []
    assert (await pod.expect_error("ec2", "describe_instances"))[0] == "UnauthorizedOperation"


async def test_the_session_has_six_tags_that_policies_can_compare(emulator: Emulator, aws: Aws) -> None:
    """EKS User Guide, "List of session tags added by EKS Pod Identity"."""
    await associate(aws)

    assumed = await assume(aws, pod_token(emulator, "eks"))

    session = emulator.world.store.sessions[assumed["credentials"]["accessKeyId"]]
    assert session.tags == {
        "eks-cluster-arn": CLUSTER_ARN,
        "eks-cluster-name": "eks",
        "kubernetes-namespace": "kube-system",
        "kubernetes-service-account": "ebs",
        "kubernetes-pod-name": "ebs-csi-controller-0",
        "kubernetes-pod-uid": "9c1e",
    }
    assert set(session.transitive) == set(session.tags)


async def test_disabled_session_tags_need_no_tag_session(emulator: Emulator, aws: Aws) -> None:
    """EKS User Guide, "EKS Pod Identity role trust policy"."""
    trust = {**POD_TRUST, "Action": "sts:AssumeRole"}
    await associate(aws, trust=trust, disableSessionTags=True)

    assumed = await assume(aws, pod_token(emulator, "eks"))

    assert emulator.world.store.sessions[assumed["credentials"]["accessKeyId"]].tags == {}


async def test_a_session_policy_limits_the_role(emulator: Emulator, aws: Aws) -> None:
    """EKS API Reference, CreatePodIdentityAssociation, `policy`: it demands disableSessionTags."""
    policy = document(allow("ec2:DescribeInstances"))
    role = await create_role(aws, "other")
    await aws.create_eks_cluster()
    untagged = await aws.expect_error("eks", "create_pod_identity_association", **PODS, roleArn=role, policy=policy)
    await associate(aws, policy=policy, disableSessionTags=True)

    pod = clients_of(emulator, (await assume(aws, pod_token(emulator, "eks")))["credentials"])

    assert untagged[0] == "InvalidParameterException"
    assert (await pod.expect_error("ec2", "describe_volumes"))[0] == "UnauthorizedOperation"


async def test_a_trust_policy_can_ask_for_a_namespace(emulator: Emulator, aws: Aws) -> None:
    """EKS User Guide, "EKS Pod Identity role trust policy"; conditions decide when a pod asks."""
    condition = {"StringEquals": {"aws:RequestTag/kubernetes-namespace": "default"}}
    await associate(aws, trust={**POD_TRUST, "Condition": condition})
    role = await create_role(aws, "others", trust={**POD_TRUST, "Condition": condition})

    denied = await refusal(aws, pod_token(emulator, "eks"))
    await aws("eks", "create_pod_identity_association", **PODS | {"namespace": "default"}, roleArn=role)
    other = pod_claims((await aws("eks", "describe_cluster", name="eks"))["cluster"]["identity"]["oidc"]["issuer"],
                       namespace="default")  # fmt: skip

    assert denied == (
        "AccessDeniedException",
        "Unauthorized Exception! EKS does not have permissions to assume the associated role.",
    )
    assert (await assume(aws, sign(emulator, "eks", other)))["subject"]["namespace"] == "default"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"aud": ["sts.amazonaws.com"]}, "InvalidTokenException"),
        ({"aud": "https://kubernetes.default.svc"}, "InvalidTokenException"),
        ({"exp": 1_700_000_000}, "ExpiredTokenException"),
        ({"nbf": 4_000_000_000}, "InvalidTokenException"),
        ({"iss": "https://oidc.eks.us-west-2.amazonaws.com/id/0"}, "InvalidTokenException"),
        ({"sub": "system:serviceaccount:kube-system:other"}, "InvalidTokenException"),
        ({"kubernetes.io": {"namespace": "kube-system", "serviceaccount": {"name": "ebs"}}}, "InvalidTokenException"),
        ({"kubernetes.io": []}, "InvalidTokenException"),
        ({"exp": "soon"}, "InvalidTokenException"),
        ({"exp": float("inf")}, "InvalidTokenException"),
    ],
    ids=[
        "audience",
        "one audience",
        "expired",
        "early",
        "issuer",
        "subject",
        "no pod",
        "no claims",
        "text",
        "infinite",
    ],
)
async def test_a_wrong_token_gives_nothing(emulator: Emulator, aws: Aws, changes: Mapping[str, Any], code: str) -> None:
    """EKS Auth API Reference, AssumeRoleForPodIdentity, Errors."""
    await associate(aws)
    calls = len(emulator.world.store.sessions)

    answered = await refusal(aws, pod_token(emulator, "eks", **changes))

    assert answered[0] == code
    assert len(emulator.world.store.sessions) == calls


@pytest.mark.parametrize("without", ["aud", "exp", "sub", "iss", "kubernetes.io"])
async def test_a_token_without_a_claim_gives_nothing(emulator: Emulator, aws: Aws, without: str) -> None:
    """EKS Auth API Reference, InvalidTokenException."""
    await associate(aws)

    assert (await refusal(aws, pod_token(emulator, "eks", without=[without])))[0] == "InvalidTokenException"


async def test_a_token_that_the_issuer_did_not_sign_gives_nothing(emulator: Emulator, aws: Aws) -> None:
    """RFC 8725, section 2.1: no algorithm, a public key as a secret, and a changed payload."""
    await associate(aws)
    (issuer,) = emulator.world.store.oidc_issuers.values()
    claims, headers = pod_claims(issuer.id), {"kid": issuer.key_id}
    head, _, signature = pod_token(emulator, "eks").split(".")
    _, payload, _ = pod_token(emulator, "eks", sub="system:serviceaccount:kube-system:root").split(".")

    for token in (
        jwt.encode(claims, "", algorithm="none", headers=headers),
        _with_hmac(claims, issuer.public_key, headers),
        f"{head}.{payload}.{signature}",
        sign(emulator, "eks", claims, key_id="another"),
        f"{head}.{_encode(b'[' * 100_000)}.{signature}",
        "a.b.c",
    ):
        assert (await refusal(aws, token))[0] in {"InvalidTokenException", "ValidationException"}
    assert not emulator.world.store.sessions


def _with_hmac(claims: Mapping[str, Any], secret: str, headers: Mapping[str, str]) -> str:
    """A token signed with the text of a public key as the secret; PyJWT refuses to make one."""
    signed = ".".join(_encode(json.dumps(part).encode()) for part in ({"alg": "HS256", **headers}, claims))
    return f"{signed}.{_encode(hmac.digest(secret.encode(), signed.encode(), hashlib.sha256))}"


def _encode(data: bytes) -> str:
    """Base64url without padding (RFC 7515, appendix C)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


async def test_a_service_account_without_an_association_gets_nothing(emulator: Emulator, aws: Aws) -> None:
    """EKS Auth API Reference, ResourceNotFoundException."""
    id_ = await associate(aws)
    await aws("eks", "delete_pod_identity_association", **ONE, associationId=id_)

    code, text = await refusal(aws, pod_token(emulator, "eks"))

    assert code == "ResourceNotFoundException"
    assert "kube-system/ebs" in text


async def test_a_service_account_has_one_association(aws: Aws) -> None:
    """EKS API Reference, CreatePodIdentityAssociation, ResourceInUseException."""
    id_ = await associate(aws)
    role = await create_role(aws, "other")

    again = await aws.expect_error("eks", "create_pod_identity_association", **PODS, roleArn=role)
    (listed,) = (await aws("eks", "list_pod_identity_associations", **ONE))["associations"]

    assert again == ("ResourceInUseException", f"Association already exists: {id_}")
    assert listed["associationArn"] == f"arn:aws:eks:us-west-2:123456789012:podidentityassociation/eks/{id_}"
    assert len(id_) == 19


async def test_a_cluster_has_at_most_5000_associations(emulator: Emulator, aws: Aws) -> None:
    """EKS User Guide, "Learn how EKS Pod Identity grants Pods access to AWS services": considerations."""
    await aws.create_eks_cluster()
    role, table = await create_role(aws, "pods"), emulator.world.store.pod_identity_associations
    sample = PodIdentityAssociation(
        id="", cluster="eks", namespace="a", service_account="", role=role, created=0, modified=0
    )
    for number in range(5000):
        table.put(replace(sample, id=f"a-{number}", service_account=f"old{number}"))
    request = {"clusterName": "eks", "namespace": "a", "serviceAccount": "new", "roleArn": role}

    refused = await aws.expect_error("eks", "create_pod_identity_association", **request)
    addon = {"clusterName": "eks", "addonName": "aws-ebs-csi-driver"}
    wanted = [{"serviceAccount": f"ebs{number}", "roleArn": role} for number in range(2)]
    by_addon = await aws.expect_error("eks", "create_addon", **addon, podIdentityAssociations=wanted)
    table.drop("a-7")
    with_one_left = await aws.expect_error("eks", "create_addon", **addon, podIdentityAssociations=wanted)
    await aws("eks", "create_pod_identity_association", **request)

    assert refused[0] == by_addon[0] == with_one_left[0] == "ResourceLimitExceededException"


async def test_associations_are_listed_by_namespace_and_service_account(aws: Aws) -> None:
    """EKS API Reference, ListPodIdentityAssociations."""
    await associate(aws)
    role = await create_role(aws, "others")
    await aws("eks", "create_pod_identity_association", **PODS | {"namespace": "default"}, roleArn=role)
    await aws("eks", "create_pod_identity_association", **PODS | {"serviceAccount": "fsx"}, roleArn=role)

    async def service_accounts(**members: Any) -> list[tuple[str, str]]:
        answer = await aws("eks", "list_pod_identity_associations", **ONE, **members)
        return sorted((each["namespace"], each["serviceAccount"]) for each in answer["associations"])

    first = await aws("eks", "list_pod_identity_associations", **ONE, maxResults=2)
    rest = await aws("eks", "list_pod_identity_associations", **ONE, maxResults=2, nextToken=first["nextToken"])
    assert await service_accounts(namespace="default") == [("default", "ebs")]
    assert await service_accounts(serviceAccount="ebs") == [("default", "ebs"), ("kube-system", "ebs")]
    assert await service_accounts(namespace="kube-system", serviceAccount="fsx") == [("kube-system", "fsx")]
    assert (len(first["associations"]), len(rest["associations"])) == (2, 1)


@pytest.mark.parametrize(
    "members",
    [
        {"roleArn": "arn:aws:iam::123456789012:role/missing"},
        {"roleArn": "arn:aws:iam::123456789012:role/untrusting"},
        {"targetRoleArn": "arn:aws:iam::210987654321:role/target"},
        {"policy": "{}", "disableSessionTags": True},
        {"namespace": ""},
        {"tags": {"aws:x": ""}},
    ],
    ids=["missing role", "role without trust", "target role", "malformed policy", "namespace", "reserved tag"],
)
async def test_an_invalid_association_is_refused(aws: Aws, members: Mapping[str, Any]) -> None:
    """EKS API Reference, CreatePodIdentityAssociation, InvalidParameterException."""
    await aws.create_eks_cluster()
    await create_role(aws, "untrusting", trust={**POD_TRUST, "Principal": {"Service": "ec2.amazonaws.com"}})
    request = {**PODS, "roleArn": await create_role(aws, "pods"), **members}

    refused = await aws.expect_error("eks", "create_pod_identity_association", **request)

    assert refused[0] == "InvalidParameterException"
    assert (await aws("eks", "list_pod_identity_associations", **ONE))["associations"] == []


async def test_an_updated_association_gives_the_new_role(emulator: Emulator, aws: Aws) -> None:
    """EKS API Reference, UpdatePodIdentityAssociation."""
    id_ = await associate(aws)
    role = await create_role(aws, "new", path="/teams/")

    updated = await aws("eks", "update_pod_identity_association", **ONE, associationId=id_, roleArn=role)

    assert updated["association"]["roleArn"] == role
    assumed = await assume(aws, pod_token(emulator, "eks"))
    assert "assumed-role/new/" in assumed["assumedRoleUser"]["arn"]


NEEDED: Final = {
    "eks:CreatePodIdentityAssociation": CLUSTER_ARN,
    "iam:PassRole": "arn:aws:iam::123456789012:role/pods",
    "iam:GetRole": "arn:aws:iam::123456789012:role/pods",
}


@pytest.mark.parametrize("missing", [None, *NEEDED])
async def test_associating_needs_three_permissions(emulator: Emulator, aws: Aws, missing: str | None) -> None:
    """EKS User Guide, "Assign an IAM role to a Kubernetes service account"."""
    await aws.create_eks_cluster()
    role = await create_role(aws, "pods")
    statements = [allow(action, resource=arn) for action, arn in NEEDED.items() if action != missing]
    user = await create_user(emulator, aws, "ann", *statements)

    if missing is None:
        await user("eks", "create_pod_identity_association", **PODS, roleArn=role)
        return
    code, text = await user.expect_error("eks", "create_pod_identity_association", **PODS, roleArn=role)

    assert code == "AccessDeniedException"
    assert f"perform: {missing} on resource: {NEEDED[missing]}" in text
    assert (await aws("eks", "list_pod_identity_associations", **ONE))["associations"] == []


async def test_a_node_needs_eks_auth_on_the_cluster(emulator: Emulator, aws: Aws) -> None:
    """Service Authorization Reference, "Actions defined by Amazon EKS Auth"."""
    await associate(aws)
    action = "eks-auth:AssumeRoleForPodIdentity"
    node = await create_user(emulator, aws, "node", allow(action, resource=CLUSTER_ARN))
    stranger = await create_user(emulator, aws, "stranger", allow(action, resource=f"{CLUSTER_ARN}-2"))
    token = pod_token(emulator, "eks")

    code, text = await refusal(stranger, token)

    assert (await assume(node, token))["subject"]["serviceAccount"] == "ebs"
    assert code == "AccessDeniedException"
    assert f"perform: {action} on resource: {CLUSTER_ARN}" in text
