"""The permissions that calls of EKS need: actions, resources and condition keys.

Source of all tests: Service Authorization Reference, "Actions, resources, and condition keys for
Amazon Elastic Kubernetes Service".
"""

from collections.abc import Mapping
from typing import Any, Final

import pytest
from botocore import xform_name

from hyperpod_ebs.emulator.emulator import Emulator
from tests.support.emulator_clients import ROLE, Aws
from tests.support.every_eks_operation import EKS_OPERATIONS
from tests.support.iam_users import allow, create_user
from tests.support.pod_tokens import create_role

START: Final = "arn:aws:eks:us-west-2:123456789012:"
CLUSTER: Final = f"{START}cluster/eks"
POLICY: Final = "arn:aws:eks::aws:cluster-access-policy/AmazonEKSViewPolicy"


def calls(*, role: str, association: str, entry: str, addon: str) -> Mapping[str, tuple[Mapping[str, Any], str]]:
    """The parameters of each operation, and the resource on which it needs permission; empty if on none."""
    one = {"clusterName": "eks"}
    with_association = {**one, "associationId": association.rpartition("/")[2]}
    with_entry, with_addon = {**one, "principalArn": role}, {**one, "addonName": "coredns"}
    associating = {"namespace": "default", "serviceAccount": "app", "roleArn": role}
    return {
        "CreateCluster": ({"name": "new", "roleArn": ROLE, "resourcesVpcConfig": {}}, f"{START}cluster/new"),
        "DescribeCluster": ({"name": "eks"}, CLUSTER),
        "DeleteCluster": ({"name": "eks"}, CLUSTER),
        "ListClusters": ({}, ""),
        "ListAccessPolicies": ({}, ""),
        "TagResource": ({"resourceArn": addon, "tags": {"a": "b"}}, addon),
        "UntagResource": ({"resourceArn": entry, "tagKeys": ["a"]}, entry),
        "ListTagsForResource": ({"resourceArn": association}, association),
        "CreatePodIdentityAssociation": ({**one, **associating}, CLUSTER),
        "ListPodIdentityAssociations": (one, CLUSTER),
        "CreateAccessEntry": (with_entry, CLUSTER),
        "ListAccessEntries": (one, CLUSTER),
        "CreateAddon": ({**one, "addonName": "vpc-cni"}, CLUSTER),
        "ListAddons": (one, CLUSTER),
        **{
            f"{verb}PodIdentityAssociation": (with_association, association)
            for verb in ("Describe", "Update", "Delete")
        },
        **{f"{verb}AccessEntry": (with_entry, entry) for verb in ("Describe", "Update", "Delete")},
        "AssociateAccessPolicy": ({**with_entry, "policyArn": POLICY, "accessScope": {"type": "cluster"}}, entry),
        "DisassociateAccessPolicy": ({**with_entry, "policyArn": POLICY}, entry),
        "ListAssociatedAccessPolicies": (with_entry, entry),
        **{f"{verb}Addon": (with_addon, addon) for verb in ("Describe", "Update", "Delete")},
    }


async def test_every_call_of_eks_is_denied_on_its_own_resource(emulator: Emulator, aws: Aws) -> None:
    """The message names the action and the resource, as IAM's do."""
    access = {"authenticationMode": "API"}
    await aws("eks", "create_cluster", name="eks", roleArn=ROLE, resourcesVpcConfig={}, accessConfig=access)
    role, one = await create_role(aws, "pods"), {"clusterName": "eks"}
    pods = {"namespace": "kube-system", "serviceAccount": "ebs", "roleArn": role}
    association = (await aws("eks", "create_pod_identity_association", **one, **pods))["association"]
    entry = (await aws("eks", "create_access_entry", **one, principalArn=role))["accessEntry"]
    addon = (await aws("eks", "create_addon", **one, addonName="coredns"))["addon"]
    stranger = await create_user(emulator, aws, "stranger")

    table = calls(
        role=role,
        association=association["associationArn"],
        entry=entry["accessEntryArn"],
        addon=addon["addonArn"],
    )
    texts = {
        operation: await stranger.expect_error("eks", xform_name(operation), **members)
        for operation, (members, _) in table.items()
    }

    assert set(table) == EKS_OPERATIONS
    for operation, (_, resource) in table.items():
        where = f" on resource: {resource}" if resource else ""
        assert texts[operation][0] == "AccessDeniedException"
        assert f"not authorized to perform: eks:{operation}{where} because" in texts[operation][1]
    assert (await aws("eks", "list_clusters"))["clusters"] == ["eks"]


async def test_tags_of_a_resource_and_of_a_request_decide(emulator: Emulator, aws: Aws) -> None:
    """`aws:ResourceTag` and `aws:RequestTag`."""
    for team in ("storage", "other"):
        tags = {"team": team}
        await aws("eks", "create_cluster", name=team, roleArn=ROLE, resourcesVpcConfig={}, tags=tags)
    own = {"StringEquals": {"aws:ResourceTag/team": "storage"}}
    wanted = {"StringEquals": {"aws:RequestTag/team": "storage"}, "ForAllValues:StringEquals": {"aws:TagKeys": "team"}}
    user = await create_user(
        emulator,
        aws,
        "ann",
        allow("eks:DescribeCluster", Condition=own),
        allow("eks:CreateAddon", Condition=wanted),
    )
    addon = {"clusterName": "other", "addonName": "coredns"}

    assert (await user("eks", "describe_cluster", name="storage"))["cluster"]["name"] == "storage"
    assert (await user.expect_error("eks", "describe_cluster", name="other"))[0] == "AccessDeniedException"
    for tags in ({"team": "other"}, {"team": "storage", "more": ""}):
        assert (await user.expect_error("eks", "create_addon", **addon, tags=tags))[0] == "AccessDeniedException"
    assert (await user("eks", "create_addon", **addon, tags={"team": "storage"}))["addon"]["tags"]["team"] == "storage"


async def test_a_cluster_needs_the_permission_to_pass_its_role(emulator: Emulator, aws: Aws) -> None:
    """IAM User Guide, "Grant a user permissions to pass a role to an AWS service"."""
    passed = {"StringEquals": {"iam:PassedToService": "eks.amazonaws.com"}}
    for_pods = {"StringEquals": {"iam:PassedToService": "pods.eks.amazonaws.com"}}
    create = allow("eks:CreateCluster")
    user = await create_user(emulator, aws, "ann", create, allow("iam:PassRole", resource=ROLE, Condition=passed))
    other = await create_user(emulator, aws, "bob", create, allow("iam:PassRole", resource=ROLE, Condition=for_pods))
    request = {"name": "one", "roleArn": ROLE, "resourcesVpcConfig": {}}

    code, text = await other.expect_error("eks", "create_cluster", **request)

    assert (code, f"perform: iam:PassRole on resource: {ROLE}" in text) == ("AccessDeniedException", True)
    assert (await user("eks", "create_cluster", **request))["cluster"]["status"] == "CREATING"


async def test_a_cluster_needs_the_permission_to_pass_the_role_of_its_nodes(emulator: Emulator, aws: Aws) -> None:
    """EKS User Guide, "Create an EKS Auto Mode cluster": the role is given to the nodes that EKS starts."""
    node_role = "arn:aws:iam::123456789012:role/auto-node"
    user = await create_user(emulator, aws, "ann", allow("eks:CreateCluster"), allow("iam:PassRole", resource=ROLE))
    compute = {"enabled": True, "nodeRoleArn": node_role}
    request = {"name": "one", "roleArn": ROLE, "resourcesVpcConfig": {}, "computeConfig": compute}

    code, text = await user.expect_error("eks", "create_cluster", **request)

    assert (code, f"perform: iam:PassRole on resource: {node_role}" in text) == ("AccessDeniedException", True)
    assert (await aws("eks", "list_clusters"))["clusters"] == []


@pytest.mark.parametrize(
    ("key", "value", "members"),
    [
        ("eks:authenticationMode", "API", {"accessConfig": {"authenticationMode": "API"}}),
        ("eks:blockStorageEnabled", "true", {"storageConfig": {"blockStorage": {"enabled": True}}}),
        ("eks:computeConfigEnabled", "false", {"computeConfig": {"enabled": False}}),
        (
            "eks:elasticLoadBalancingEnabled",
            "true",
            {"kubernetesNetworkConfig": {"elasticLoadBalancing": {"enabled": True}}},
        ),
        ("eks:controlPlaneScalingTier", "tier-xl", {"controlPlaneScalingConfig": {"tier": "tier-xl"}}),
        ("eks:loggingType/audit", "true", {"logging": {"clusterLogging": [{"types": ["audit"], "enabled": True}]}}),
        ("eks:loggingType/api", "false", {"logging": {"clusterLogging": [{"types": ["api"], "enabled": False}]}}),
        ("eks:endpointPublicAccess", "false", {"resourcesVpcConfig": {"endpointPublicAccess": False}}),
    ],
)
async def test_the_setting_of_a_new_cluster_decides(
    emulator: Emulator, aws: Aws, key: str, value: str, members: Mapping[str, Any]
) -> None:
    """The condition keys of CreateCluster."""
    condition = {"StringEquals": {key: value}}
    create = allow("eks:CreateCluster", Condition=condition)
    user = await create_user(emulator, aws, "ann", create, allow("iam:PassRole"))
    request = {"name": "one", "roleArn": ROLE, "resourcesVpcConfig": {}}

    denied = await user.expect_error("eks", "create_cluster", **request)
    created = await user("eks", "create_cluster", **{**request, **members})

    assert denied[0] == "AccessDeniedException"
    assert created["cluster"]["name"] == "one"


async def test_an_addon_with_associations_needs_the_permission_on_them(emulator: Emulator, aws: Aws) -> None:
    """`podidentityassociation` is a resource type of CreateAddon and DeleteAddon."""
    await aws("eks", "create_cluster", name="eks", roleArn=ROLE, resourcesVpcConfig={})
    role, addon = await create_role(aws, "pods"), {"clusterName": "eks", "addonName": "aws-ebs-csi-driver"}
    wanted = [{"serviceAccount": "ebs", "roleArn": role}]
    on_addon = [allow("eks:CreateAddon", resource=CLUSTER), allow("eks:DeleteAddon", resource=f"{START}addon/eks/*")]
    pass_role = allow("iam:PassRole", "iam:GetRole")
    on_pods = allow("eks:CreateAddon", "eks:DeleteAddon", resource=f"{START}podidentityassociation/eks/*")
    ann = await create_user(emulator, aws, "ann", *on_addon, pass_role)
    bob = await create_user(emulator, aws, "bob", *on_addon, pass_role, on_pods)

    create = await ann.expect_error("eks", "create_addon", **addon, podIdentityAssociations=wanted)
    await bob("eks", "create_addon", **addon, podIdentityAssociations=wanted)
    delete = await ann.expect_error("eks", "delete_addon", **addon)
    await bob("eks", "delete_addon", **addon)

    for code, text in (create, delete):
        assert (code, "podidentityassociation/eks/" in text) == ("AccessDeniedException", True)


async def test_the_scope_of_a_policy_decides_who_may_take_it_away(emulator: Emulator, aws: Aws) -> None:
    """`eks:accessScope` and `eks:namespaces` of DisassociateAccessPolicy."""
    access = {"authenticationMode": "API"}
    await aws("eks", "create_cluster", name="eks", roleArn=ROLE, resourcesVpcConfig={}, accessConfig=access)
    entry = {"clusterName": "eks", "principalArn": await create_role(aws, "dev")}
    await aws("eks", "create_access_entry", **entry)
    scope = {"type": "namespace", "namespaces": ["a"]}
    await aws("eks", "associate_access_policy", **entry, policyArn=POLICY, accessScope=scope)
    action = "eks:DisassociateAccessPolicy"
    on_cluster = {"StringEquals": {"eks:accessScope": "cluster"}}
    on_namespace = {
        "StringEquals": {"eks:accessScope": "namespace"},
        "ForAnyValue:StringEquals": {"eks:namespaces": "a"},
    }
    ann = await create_user(emulator, aws, "ann", allow(action, Condition=on_cluster))
    bob = await create_user(emulator, aws, "bob", allow(action, Condition=on_namespace))

    refused = await ann.expect_error("eks", "disassociate_access_policy", **entry, policyArn=POLICY)
    await bob("eks", "disassociate_access_policy", **entry, policyArn=POLICY)

    assert refused[0] == "AccessDeniedException"
