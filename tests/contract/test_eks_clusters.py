"""EKS clusters: what DescribeCluster returns, issuers of tokens, pages, tags and deletion, through the AWS SDK."""

import asyncio
import base64
import json
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from hyperpod_ebs.emulator.emulator import Emulator
from hyperpod_ebs.emulator.records import EksCluster
from tests.support.emulator_clients import ROLE, Aws, cloud
from tests.support.pod_tokens import create_role, pod_claims, pod_token, sign

GIVEN: Final[dict[str, Any]] = {
    "version": "1.33",
    "resourcesVpcConfig": {
        "subnetIds": ["subnet-0000000000000000a"],
        "securityGroupIds": ["sg-1"],
        "endpointPublicAccess": False,
        "endpointPrivateAccess": True,
        "publicAccessCidrs": ["192.0.2.0/24"],
    },
    "kubernetesNetworkConfig": {"serviceIpv4Cidr": "172.20.0.0/16", "ipFamily": "ipv4"},
    "encryptionConfig": [
        {"resources": ["secrets"], "provider": {"keyArn": "arn:aws:kms:us-west-2:123456789012:key/k"}}
    ],
    "accessConfig": {"authenticationMode": "API", "bootstrapClusterCreatorAdminPermissions": False},
    "upgradePolicy": {"supportType": "STANDARD"},
    "zonalShiftConfig": {"enabled": True},
    "deletionProtection": True,
    "storageConfig": {"blockStorage": {"enabled": True}},
    "tags": {"team": "storage"},
}


async def read(url: str) -> Any:
    """The JSON document at a URL, fetched without credentials.

    Raises:
        LookupError: The server answers an error.
    """

    def get() -> Any:
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - http, to the emulator
                return json.load(answer)
        except urllib.error.HTTPError as error:
            error.close()
            raise LookupError(error.code) from None

    return await asyncio.to_thread(get)


async def issuer_of(aws: Aws, cluster: str = "eks") -> str:
    """The issuer that DescribeCluster shows."""
    return str((await aws("eks", "describe_cluster", name=cluster))["cluster"]["identity"]["oidc"]["issuer"])


async def test_a_described_cluster_has_what_its_creation_was_given(aws: Aws) -> None:
    """EKS API Reference, CreateCluster and Cluster."""
    logging = {"clusterLogging": [{"types": ["audit", "api"], "enabled": True}]}
    created = await aws("eks", "create_cluster", name="one", roleArn=ROLE, logging=logging, **GIVEN)

    shown = (await aws("eks", "describe_cluster", name="one"))["cluster"]

    for name, value in GIVEN.items():
        assert shown[name] == (shown[name] | value if isinstance(value, dict) else value)
    assert shown["logging"]["clusterLogging"] == [
        {"types": ["api", "audit"], "enabled": True},
        {"types": ["authenticator", "controllerManager", "scheduler"], "enabled": False},
    ]
    assert {**created["cluster"], "status": "ACTIVE"} == {**shown, "status": "ACTIVE"}


async def test_an_issuer_publishes_its_configuration_and_the_key_of_its_tokens(emulator: Emulator, aws: Aws) -> None:
    """OpenID Connect Discovery 1.0, section 4; the documents need no credentials."""
    await aws.create_eks_cluster()
    issuer = await issuer_of(aws)

    configuration = await read(f"{issuer}/.well-known/openid-configuration")
    (key,) = (await read(configuration["jwks_uri"]))["keys"]

    assert configuration["issuer"] == issuer
    assert issuer.startswith(f"{emulator.url}/oidc/")
    token = pod_token(emulator, "eks")
    assert jwt.get_unverified_header(token)["kid"] == key["kid"]
    claims = jwt.decode(token, jwt.PyJWK(key).key, algorithms=[key["alg"]], audience="pods.eks.amazonaws.com")
    assert claims["iss"] == issuer


async def test_an_unknown_issuer_has_no_documents(emulator: Emulator) -> None:
    """OpenID Connect Discovery 1.0, section 4."""
    with pytest.raises(LookupError, match="404"):
        await read(f"{emulator.url}/oidc/{'0' * 32}/keys")


async def test_a_cluster_has_a_certificate_authority(emulator: Emulator, aws: Aws) -> None:
    """EKS API Reference, Certificate: the certificate in PEM, encoded as base64."""
    await aws.create_eks_cluster()

    shown = (await aws("eks", "describe_cluster", name="eks"))["cluster"]["certificateAuthority"]["data"]

    authority = x509.load_pem_x509_certificate(base64.b64decode(shown))
    constraints = authority.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert constraints.ca
    assert isinstance(authority.public_key(), ec.EllipticCurvePublicKey)
    assert base64.b64decode(shown).decode() == (emulator.state / "eks" / "eks" / "ca.crt").read_text()


async def test_only_the_owner_of_the_state_directory_can_read_a_clusters_private_keys(
    emulator: Emulator, aws: Aws
) -> None:
    """docs/reference/fidelity.md: a control plane on this machine signs with these files."""
    await aws.create_eks_cluster()

    files = sorted((emulator.state / "eks" / "eks").iterdir())

    assert [file.name for file in files] == ["ca.crt", "ca.key", "sa.key", "sa.pub"]
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    described = str(await aws("eks", "describe_cluster", name="eks"))
    assert "PRIVATE KEY" not in described
    assert files[2].read_text().splitlines()[1] not in described
    (issuer,) = emulator.world.store.oidc_issuers.values()
    assert "PRIVATE KEY" not in f"{issuer} {emulator.world.store.eks_clusters['eks']}"


async def test_clusters_are_listed_in_pages(aws: Aws) -> None:
    """EKS API Reference, ListClusters."""
    for name in ("c", "a", "b"):
        await aws("eks", "create_cluster", name=name, roleArn=ROLE, resourcesVpcConfig={})

    first = await aws("eks", "list_clusters", maxResults=2)
    rest = await aws("eks", "list_clusters", maxResults=2, nextToken=first["nextToken"])

    assert (first["clusters"], rest["clusters"]) == (["a", "b"], ["c"])
    assert "nextToken" not in rest


async def test_a_deleted_cluster_takes_its_issuer_its_keys_and_its_members_along(emulator: Emulator, aws: Aws) -> None:
    """EKS User Guide, "Delete a cluster"; the issuer's tokens are worthless from then on."""
    await aws.create_eks_cluster()
    role = await create_role(aws, "pods")
    association = {"clusterName": "eks", "namespace": "kube-system", "serviceAccount": "ebs", "roleArn": role}
    await aws("eks", "create_pod_identity_association", **association)
    await aws("eks", "create_addon", clusterName="eks", addonName="eks-pod-identity-agent")
    issuer, token = await issuer_of(aws), pod_token(emulator, "eks")

    await aws("eks", "delete_cluster", name="eks")

    assert (await aws.expect_error("eks", "describe_cluster", name="eks"))[0] == "ResourceNotFoundException"
    with pytest.raises(LookupError):
        await read(f"{issuer}/keys")
    assert not (emulator.state / "eks" / "eks").exists()
    await aws.create_eks_cluster()
    assert (await aws("eks", "list_addons", clusterName="eks"))["addons"] == []
    assert (await aws("eks", "list_pod_identity_associations", clusterName="eks"))["associations"] == []
    refusal = await aws.expect_error("eks-auth", "assume_role_for_pod_identity", clusterName="eks", token=token)
    assert refusal[0] == "InvalidTokenException"


async def test_a_cluster_that_hyperpod_uses_cannot_be_deleted(aws: Aws) -> None:
    """docs/reference/fidelity.md: EKS refuses clusters with node groups, and the emulator those of HyperPod."""
    await aws.create_cluster()

    code, text = await aws.expect_error("eks", "delete_cluster", name="eks")

    assert (code, text) == ("ResourceInUseException", "Cluster has HyperPod cluster attached: hp")
    assert (await aws("eks", "describe_cluster", name="eks"))["cluster"]["status"] == "ACTIVE"


async def test_a_protected_cluster_cannot_be_deleted(aws: Aws) -> None:
    """EKS API Reference, CreateCluster, `deletionProtection`."""
    await aws("eks", "create_cluster", name="one", roleArn=ROLE, resourcesVpcConfig={}, deletionProtection=True)

    assert (await aws.expect_error("eks", "delete_cluster", name="one"))[0] == "InvalidRequestException"
    assert (await aws("eks", "list_clusters"))["clusters"] == ["one"]


@pytest.mark.parametrize(
    "members",
    [{"tags": {"aws:x": ""}}, {"version": "latest"}, {"resourcesVpcConfig": {"subnetIds": ["subnet-0"]}}],
    ids=["reserved tag", "version", "subnet"],
)
async def test_a_refused_creation_leaves_nothing(emulator: Emulator, aws: Aws, members: dict[str, Any]) -> None:
    """EKS API Reference, CreateCluster, InvalidParameterException."""
    request = {"name": "one", "roleArn": ROLE, "resourcesVpcConfig": {}} | members

    assert (await aws.expect_error("eks", "create_cluster", **request))[0] == "InvalidParameterException"

    assert (await aws("eks", "list_clusters"))["clusters"] == []
    assert not emulator.world.store.oidc_issuers


async def test_an_account_has_at_most_100_clusters(emulator: Emulator, aws: Aws) -> None:
    """EKS User Guide, "View and manage Amazon EKS and Fargate service quotas"; pulumi-eks, issue 1311, has the text."""
    request = {"name": "new", "roleArn": ROLE, "resourcesVpcConfig": {}}
    for number in range(100):
        emulator.world.store.eks_clusters.put(EksCluster(id=f"old{number}", created=0, role=ROLE, version="1.35"))

    refused = await aws.expect_error("eks", "create_cluster", **request)
    emulator.world.store.eks_clusters.drop("old7")
    created = await aws("eks", "create_cluster", **request)

    assert refused == ("ResourceLimitExceededException", "Cluster limit exceeded for account.")
    assert created["cluster"]["name"] == "new"


@pytest.mark.parametrize(
    "network",
    [
        {"securityGroupIds": [f"sg-{number}" for number in range(5)]},
        {"publicAccessCidrs": [f"10.0.{number}.0/24" for number in range(41)]},
    ],
    ids=["security groups", "CIDR ranges"],
)
async def test_a_cluster_has_few_security_groups_and_cidr_ranges(aws: Aws, network: dict[str, Any]) -> None:
    """EKS User Guide, "View and manage Amazon EKS and Fargate service quotas": 4 and 40."""
    request = {"name": "new", "roleArn": ROLE, "resourcesVpcConfig": network}

    assert (await aws.expect_error("eks", "create_cluster", **request))[0] == "ResourceLimitExceededException"

    (few,) = ({name: values[:-1]} for name, values in network.items())
    await aws("eks", "create_cluster", **{**request, "resourcesVpcConfig": few})


async def test_a_creation_whose_answer_was_lost_can_be_sent_again(aws: Aws) -> None:
    """EKS API Reference, `clientRequestToken`; another request for the name is refused."""
    request = {"name": "one", "roleArn": ROLE, "resourcesVpcConfig": {}}

    first = await aws("eks", "create_cluster", **request, clientRequestToken="t")
    again = await aws("eks", "create_cluster", **request, clientRequestToken="t")
    other = await aws.expect_error("eks", "create_cluster", **request, clientRequestToken="u")

    assert again["cluster"]["identity"] == first["cluster"]["identity"]
    assert other == ("ResourceInUseException", "Cluster already exists with name: one")


async def test_tags_of_every_kind_of_resource_change_and_are_listed(aws: Aws) -> None:
    """EKS API Reference, TagResource, UntagResource and ListTagsForResource."""
    role = await create_role(aws, "pods")
    access = {"authenticationMode": "API"}
    await aws("eks", "create_cluster", name="eks", roleArn=ROLE, resourcesVpcConfig={}, accessConfig=access)
    one = {"clusterName": "eks", "tags": {"old": "1"}}
    pods = {"namespace": "kube-system", "serviceAccount": "ebs", "roleArn": role}
    association = await aws("eks", "create_pod_identity_association", **one, **pods)
    entry = await aws("eks", "create_access_entry", **one, principalArn=role)
    addon = await aws("eks", "create_addon", **one, addonName="coredns")

    for arn in (
        association["association"]["associationArn"],
        entry["accessEntry"]["accessEntryArn"],
        addon["addon"]["addonArn"],
    ):
        await aws("eks", "tag_resource", resourceArn=arn, tags={"new": "a/b c"})
        await aws("eks", "untag_resource", resourceArn=arn, tagKeys=["old", "missing"])
        assert (await aws("eks", "list_tags_for_resource", resourceArn=arn))["tags"] == {"new": "a/b c"}
        refusal = await aws.expect_error("eks", "tag_resource", resourceArn=arn, tags={"aws:x": ""})
        assert refusal[0] == "BadRequestException"


async def test_a_resource_has_at_most_50_tags(aws: Aws) -> None:
    """EKS User Guide, "Tag restrictions"."""
    arn = await aws.create_eks_cluster()
    await aws("eks", "tag_resource", resourceArn=arn, tags={f"key-{number}": "" for number in range(50)})

    refusal = await aws.expect_error("eks", "tag_resource", resourceArn=arn, tags={"one more": ""})

    assert refusal[0] == "BadRequestException"
    assert len((await aws("eks", "list_tags_for_resource", resourceArn=arn))["tags"]) == 50


async def test_a_restarted_emulator_knows_its_issuers_and_members(tmp_path: Path) -> None:
    """Tokens that were issued before the restart are still good, also if the emulator has another port."""
    one = {"clusterName": "eks"}
    async with cloud(tmp_path / "state") as (emulator, aws):
        await aws.create_eks_cluster()
        role = await create_role(aws, "pods")
        pods = {"namespace": "kube-system", "serviceAccount": "ebs", "roleArn": role}
        await aws("eks", "create_pod_identity_association", **one, **pods)
        await aws("eks", "create_addon", **one, addonName="coredns")
        before, token = await issuer_of(aws), pod_token(emulator, "eks")

    async with cloud(tmp_path / "state") as (emulator, aws):
        after = await issuer_of(aws)
        assumed = await aws("eks-auth", "assume_role_for_pod_identity", clusterName="eks", token=token)
        addons = await aws("eks", "list_addons", **one)

    assert after == before
    assert assumed["subject"]["serviceAccount"] == "ebs"
    assert addons["addons"] == ["coredns"]


async def test_a_cluster_of_an_older_emulator_gets_an_issuer_when_it_is_described(emulator: Emulator, aws: Aws) -> None:
    """State directories from before clusters had issuers stay usable."""
    await aws.create_eks_cluster()
    store = emulator.world.store
    (issuer,) = store.oidc_issuers.values()
    store.oidc_issuers.drop(issuer.id)
    store.eks_clusters.put(replace(store.eks_clusters["eks"], unique_id="", authority="", authority_key=""))

    url = await issuer_of(aws)

    assert (await read(f"{url}/keys"))["keys"][0]["kid"] != issuer.key_id
    assert (await aws("eks", "describe_cluster", name="eks"))["cluster"]["status"] == "ACTIVE"
    assert jwt.get_unverified_header(pod_token(emulator, "eks"))["kid"] != issuer.key_id


async def test_the_creator_of_a_cluster_with_access_entries_is_its_administrator(aws: Aws) -> None:
    """EKS API Reference, `bootstrapClusterCreatorAdminPermissions`."""
    access = {"authenticationMode": "API_AND_CONFIG_MAP"}
    await aws("eks", "create_cluster", name="one", roleArn=ROLE, resourcesVpcConfig={}, accessConfig=access)

    (principal,) = (await aws("eks", "list_access_entries", clusterName="one"))["accessEntries"]
    policies = await aws("eks", "list_associated_access_policies", clusterName="one", principalArn=principal)

    assert principal == (await aws("sts", "get_caller_identity"))["Arn"]
    assert [policy["policyArn"].rpartition("/")[2] for policy in policies["associatedAccessPolicies"]] == [
        "AmazonEKSClusterAdminPolicy"
    ]


async def test_a_token_of_another_cluster_is_worthless(emulator: Emulator, aws: Aws) -> None:
    """EKS Auth API Reference, InvalidTokenException: the issuer must be that of the named cluster."""
    await aws.create_eks_cluster()
    await aws.create_eks_cluster("other")
    token = sign(emulator, "other", pod_claims(await issuer_of(aws, "other")))
    forged = sign(emulator, "other", pod_claims(await issuer_of(aws, "eks")))

    for each in (token, forged):
        refusal = await aws.expect_error("eks-auth", "assume_role_for_pod_identity", clusterName="eks", token=each)
        assert refusal[0] == "InvalidTokenException"
