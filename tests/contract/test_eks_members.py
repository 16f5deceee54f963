"""Access entries and add-ons of EKS clusters, through the AWS SDK."""

from collections.abc import Mapping
from typing import Any, Final

import aiohttp
import pytest

from hyperpod_ebs.emulator.eks.access_policies import NAMES
from hyperpod_ebs.emulator.emulator import Emulator
from tests.support.emulator_clients import ROLE, Aws
from tests.support.iam_users import allow, create_user
from tests.support.pod_tokens import create_role, pod_token

ONE: Final = {"clusterName": "eks"}
EDIT: Final = "arn:aws:eks::aws:cluster-access-policy/AmazonEKSEditPolicy"


async def create_cluster(aws: Aws) -> None:
    """Create a cluster `eks` that uses access entries, without an entry of its creator."""
    access = {"authenticationMode": "API", "bootstrapClusterCreatorAdminPermissions": False}
    await aws("eks", "create_cluster", name="eks", roleArn=ROLE, resourcesVpcConfig={}, accessConfig=access)


async def test_an_entry_of_a_role_gets_the_name_of_its_sessions(aws: Aws) -> None:
    """EKS User Guide, "Create access entries"."""
    await create_cluster(aws)
    role = await create_role(aws, "dev", path="/teams/")

    entry = (await aws("eks", "create_access_entry", **ONE, principalArn=role, kubernetesGroups=["dev"]))["accessEntry"]

    assert entry["username"] == "arn:aws:sts::123456789012:assumed-role/dev/{{SessionName}}"
    assert entry["accessEntryArn"].startswith(
        "arn:aws:eks:us-west-2:123456789012:access-entry/eks/role/123456789012/dev/"
    )
    assert (entry["type"], entry["kubernetesGroups"]) == ("STANDARD", ["dev"])
    assert (await aws("eks", "describe_access_entry", **ONE, principalArn=role))["accessEntry"] == entry


async def test_an_entry_of_nodes_has_names_of_its_own(aws: Aws) -> None:
    """AWS CLI Command Reference, create-access-entry, example 2."""
    await create_cluster(aws)
    role = await create_role(aws, "node")

    entry = (await aws("eks", "create_access_entry", **ONE, principalArn=role, type="EC2_LINUX"))["accessEntry"]
    policy = {"policyArn": EDIT, "accessScope": {"type": "cluster"}}
    refused = await aws.expect_error("eks", "associate_access_policy", **ONE, principalArn=role, **policy)

    assert entry["username"] == "system:node:{{EC2PrivateDNSName}}"
    assert entry["kubernetesGroups"] == ["system:nodes"]
    assert refused[0] == "InvalidRequestException"


@pytest.mark.parametrize(
    "members",
    [
        {"principalArn": "arn:aws:iam::123456789012:role/missing"},
        {"principalArn": "arn:aws:sts::123456789012:assumed-role/dev/me"},
        {"type": "TOASTER"},
        {"type": "EC2_LINUX", "kubernetesGroups": ["dev"]},
        {"kubernetesGroups": ["system:masters"]},
        {"username": "aws:me"},
    ],
    ids=["missing role", "session", "type", "groups of nodes", "reserved group", "reserved name"],
)
async def test_an_invalid_entry_is_refused(aws: Aws, members: Mapping[str, Any]) -> None:
    """EKS API Reference, CreateAccessEntry, InvalidParameterException."""
    await create_cluster(aws)
    request = {**ONE, "principalArn": await create_role(aws, "dev"), **members}

    assert (await aws.expect_error("eks", "create_access_entry", **request))[0] == "InvalidParameterException"

    assert (await aws("eks", "list_access_entries", **ONE))["accessEntries"] == []


async def test_a_principal_has_one_entry_in_a_cluster(aws: Aws) -> None:
    """EKS API Reference, CreateAccessEntry, ResourceInUseException."""
    await create_cluster(aws)
    role = await create_role(aws, "dev")
    await aws("eks", "create_access_entry", **ONE, principalArn=role)

    refused = await aws.expect_error("eks", "create_access_entry", **ONE, principalArn=role)

    assert refused[0] == "ResourceInUseException"


async def test_policies_of_an_entry_are_added_changed_found_and_removed(aws: Aws) -> None:
    """EKS API Reference, AssociateAccessPolicy and ListAccessEntries."""
    await create_cluster(aws)
    roles = [await create_role(aws, name) for name in ("dev", "ops")]
    for role in roles:
        await aws("eks", "create_access_entry", **ONE, principalArn=role)
    entry = {**ONE, "principalArn": roles[0]}
    scope = {"type": "namespace", "namespaces": ["default"]}

    first = await aws("eks", "associate_access_policy", **entry, policyArn=EDIT, accessScope={"type": "cluster"})
    second = await aws("eks", "associate_access_policy", **entry, policyArn=EDIT, accessScope=scope)
    (listed,) = (await aws("eks", "list_associated_access_policies", **entry))["associatedAccessPolicies"]
    found = await aws("eks", "list_access_entries", **ONE, associatedPolicyArn=EDIT)
    await aws("eks", "disassociate_access_policy", **entry, policyArn=EDIT)
    again = await aws.expect_error("eks", "disassociate_access_policy", **entry, policyArn=EDIT)

    assert listed == second["associatedAccessPolicy"]
    assert listed["accessScope"] == scope
    assert listed["associatedAt"] == first["associatedAccessPolicy"]["associatedAt"]
    assert found["accessEntries"] == roles[:1]
    assert again[0] == "ResourceNotFoundException"


@pytest.mark.parametrize(
    "members",
    [
        {"policyArn": "arn:aws:iam::aws:policy/AdministratorAccess", "accessScope": {"type": "cluster"}},
        {"policyArn": EDIT, "accessScope": {"type": "namespace"}},
        {"policyArn": EDIT, "accessScope": {"type": "cluster", "namespaces": ["default"]}},
    ],
    ids=["policy of IAM", "no namespace", "namespace of a cluster"],
)
async def test_an_invalid_policy_or_scope_is_refused(aws: Aws, members: Mapping[str, Any]) -> None:
    """EKS API Reference, AssociateAccessPolicy, InvalidParameterException."""
    await create_cluster(aws)
    entry = {**ONE, "principalArn": await create_role(aws, "dev")}
    await aws("eks", "create_access_entry", **entry)

    refused = await aws.expect_error("eks", "associate_access_policy", **entry, **members)

    assert refused[0] == "InvalidParameterException"
    assert (await aws("eks", "list_associated_access_policies", **entry))["associatedAccessPolicies"] == []


async def test_access_policies_are_listed_in_pages(aws: Aws) -> None:
    """EKS API Reference, ListAccessPolicies."""
    first = await aws("eks", "list_access_policies", maxResults=10)
    rest = await aws("eks", "list_access_policies", nextToken=first["nextToken"])

    assert [policy["name"] for policy in [*first["accessPolicies"], *rest["accessPolicies"]]] == list(NAMES)


async def test_an_action_on_an_entry_is_granted_by_its_arn_and_its_kind(emulator: Emulator, aws: Aws) -> None:
    """Service Authorization Reference, "Actions defined by Amazon Elastic Kubernetes Service"."""
    await create_cluster(aws)
    role, node = await create_role(aws, "dev"), await create_role(aws, "node")
    await aws("eks", "create_access_entry", **ONE, principalArn=role)
    await aws("eks", "create_access_entry", **ONE, principalArn=node, type="EC2_LINUX")
    statement = allow(
        "eks:DescribeAccessEntry",
        resource="arn:aws:eks:us-west-2:123456789012:access-entry/eks/role/*",
        Condition={"StringEquals": {"eks:accessEntryType": "STANDARD"}},
    )
    user = await create_user(emulator, aws, "ann", statement)

    shown = await user("eks", "describe_access_entry", **ONE, principalArn=role)
    denied = await user.expect_error("eks", "describe_access_entry", **ONE, principalArn=node)

    assert shown["accessEntry"]["principalArn"] == role
    assert denied[0] == "AccessDeniedException"


async def test_an_addon_is_reported_as_installed_or_not(aws: Aws) -> None:
    """docs/guides/install.md, section 1: DescribeAddon must fail before this driver is installed."""
    await aws.create_eks_cluster()
    addon = {**ONE, "addonName": "aws-ebs-csi-driver"}

    before = await aws.expect_error("eks", "describe_addon", **addon)
    created = (await aws("eks", "create_addon", **addon))["addon"]
    shown = (await aws("eks", "describe_addon", **addon))["addon"]
    again = await aws.expect_error("eks", "create_addon", **addon)
    await aws("eks", "delete_addon", **addon)
    after = await aws.expect_error("eks", "describe_addon", **addon)

    assert before == after == ("ResourceNotFoundException", "No addon: aws-ebs-csi-driver found in cluster: eks")
    assert (created["status"], shown["status"]) == ("CREATING", "ACTIVE")
    assert created["addonArn"].startswith("arn:aws:eks:us-west-2:123456789012:addon/eks/aws-ebs-csi-driver/")
    assert again == ("ResourceInUseException", "Addon already exists.")


async def test_the_emulators_status_shows_addons(emulator: Emulator, aws: Aws) -> None:
    """`hyperpod-ebs emulator status`; the local cluster runs the Pod Identity agent while it has the add-on."""
    await aws.create_eks_cluster()
    await aws("eks", "create_addon", **ONE, addonName="eks-pod-identity-agent")
    await aws("eks", "describe_addon", **ONE, addonName="eks-pod-identity-agent")

    async with aiohttp.request("GET", f"{emulator.url}/_emulator/status") as answer:
        status = await answer.json()

    assert status["addons"] == [{"name": "eks-pod-identity-agent", "state": "ACTIVE", "cluster": "eks"}]


async def test_an_addon_has_pod_identity_associations_of_its_own(emulator: Emulator, aws: Aws) -> None:
    """EKS API Reference, CreateAddon, `podIdentityAssociations`."""
    await aws.create_eks_cluster()
    role = await create_role(aws, "pods")
    addon, wanted = {**ONE, "addonName": "aws-ebs-csi-driver"}, {"serviceAccount": "ebs", "roleArn": role}

    created = (await aws("eks", "create_addon", **addon, podIdentityAssociations=[wanted]))["addon"]
    (listed,) = (await aws("eks", "list_pod_identity_associations", **ONE))["associations"]
    assumed = await aws("eks-auth", "assume_role_for_pod_identity", **ONE, token=pod_token(emulator, "eks"))
    await aws("eks", "delete_addon", **addon)

    assert created["podIdentityAssociations"] == [listed["associationArn"]]
    assert listed["ownerArn"] == created["addonArn"]
    assert assumed["podIdentityAssociation"]["associationArn"] == listed["associationArn"]
    assert (await aws("eks", "list_pod_identity_associations", **ONE))["associations"] == []


async def test_a_preserved_addon_leaves_its_association(aws: Aws) -> None:
    """docs/guides/migrate.md, "Or: keep its objects until the installation"."""
    await aws.create_eks_cluster()
    wanted = {"serviceAccount": "ebs", "roleArn": await create_role(aws, "pods")}
    addon = {**ONE, "addonName": "aws-ebs-csi-driver"}
    await aws("eks", "create_addon", **addon, podIdentityAssociations=[wanted])

    await aws("eks", "delete_addon", **addon, preserve=True)

    (listed,) = (await aws("eks", "list_pod_identity_associations", **ONE))["associations"]
    assert "ownerArn" not in listed
    assert (await aws("eks", "list_addons", **ONE))["addons"] == []


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({"addonName": "toaster"}, "InvalidParameterException"),
        ({"addonVersion": "latest"}, "InvalidParameterException"),
        ({"podIdentityAssociations": [{"serviceAccount": "ebs", "roleArn": ROLE}]}, "InvalidParameterException"),
        ({"clusterName": "nowhere"}, "ResourceNotFoundException"),
    ],
    ids=["name", "version", "missing role", "cluster"],
)
async def test_an_invalid_addon_is_refused(aws: Aws, members: Mapping[str, Any], code: str) -> None:
    """EKS API Reference, CreateAddon."""
    await aws.create_eks_cluster()
    request = {**ONE, "addonName": "aws-ebs-csi-driver", **members}

    assert (await aws.expect_error("eks", "create_addon", **request))[0] == code

    assert (await aws("eks", "list_addons", **ONE))["addons"] == []
    assert (await aws("eks", "list_pod_identity_associations", **ONE))["associations"] == []


async def test_an_updated_addon_has_its_new_version(aws: Aws) -> None:
    """EKS API Reference, UpdateAddon."""
    await aws.create_eks_cluster()
    addon = {**ONE, "addonName": "coredns"}
    await aws("eks", "create_addon", **addon)

    update = (await aws("eks", "update_addon", **addon, addonVersion="v1.13.0-eksbuild.1"))["update"]
    shown = (await aws("eks", "describe_addon", **addon))["addon"]

    assert (update["type"], update["params"]) == (
        "AddonUpdate",
        [{"type": "AddonVersion", "value": "v1.13.0-eksbuild.1"}],
    )
    assert (shown["status"], shown["addonVersion"]) == ("ACTIVE", "v1.13.0-eksbuild.1")
