"""Scenarios for any AWS client: every operation of EKS and EKS Auth once with success, and once with an error."""

from collections.abc import Mapping
from typing import Any, Final, Protocol

from hyperpod_ebs.emulator.emulator import Emulator
from tests.support.iam_users import document
from tests.support.pod_tokens import POD_TRUST, pod_token

EKS_OPERATIONS: Final = frozenset(
    {
        *("CreateCluster", "DescribeCluster", "ListClusters", "DeleteCluster"),
        *("TagResource", "UntagResource", "ListTagsForResource"),
        *(f"{verb}PodIdentityAssociation" for verb in ("Create", "Describe", "Update", "Delete")),
        *(f"{verb}AccessEntry" for verb in ("Create", "Describe", "Update", "Delete")),
        *("ListPodIdentityAssociations", "ListAccessEntries", "ListAccessPolicies", "ListAssociatedAccessPolicies"),
        *("AssociateAccessPolicy", "DisassociateAccessPolicy"),
        *("CreateAddon", "DescribeAddon", "ListAddons", "UpdateAddon", "DeleteAddon"),
    }
)
EKS_AUTH_OPERATIONS: Final = frozenset({"AssumeRoleForPodIdentity"})

_VIEW: Final = "arn:aws:eks::aws:cluster-access-policy/AmazonEKSViewPolicy"


class Client(Protocol):
    """An AWS client."""

    async def __call__(self, service: str, operation: str, **members: Any) -> Any:
        """Call the operation and return its answer."""
        ...


async def call_every_eks_operation(aws: Client, emulator: Emulator) -> None:
    """Call each operation of EKS and EKS Auth, and check the answers; what is created is deleted."""
    trust = document(POD_TRUST)
    role = (await aws("iam", "CreateRole", RoleName="pods", AssumeRolePolicyDocument=trust))["Role"]["Arn"]
    access = {"authenticationMode": "API"}
    created = await aws("eks", "CreateCluster", name="k", roleArn=role, resourcesVpcConfig={}, accessConfig=access)
    cluster = (await aws("eks", "DescribeCluster", name="k"))["cluster"]
    names = (await aws("eks", "ListClusters"))["clusters"]
    assert (cluster["status"], cluster["accessConfig"]["authenticationMode"]) == ("ACTIVE", "API")
    assert cluster["arn"] == created["cluster"]["arn"]
    assert names == ["k"]

    await _call_operations_on_tags(aws, cluster["arn"])
    await _call_operations_on_associations(aws, emulator, role)
    await _call_operations_on_entries(aws, role)
    await _call_operations_on_addons(aws)

    deleted = await aws("eks", "DeleteCluster", name="k")
    await aws("iam", "DeleteRole", RoleName="pods")
    assert deleted["cluster"]["status"] == "DELETING"


async def _call_operations_on_tags(aws: Client, arn: str) -> None:
    await aws("eks", "TagResource", resourceArn=arn, tags={"team": "a b&c", "more": ""})
    await aws("eks", "UntagResource", resourceArn=arn, tagKeys=["more"])
    assert (await aws("eks", "ListTagsForResource", resourceArn=arn))["tags"] == {"team": "a b&c"}


async def _call_operations_on_associations(aws: Client, emulator: Emulator, role: str) -> None:
    wanted = {"clusterName": "k", "namespace": "kube-system", "serviceAccount": "ebs", "roleArn": role}
    created = (await aws("eks", "CreatePodIdentityAssociation", **wanted))["association"]
    one = {"clusterName": "k", "associationId": created["associationId"]}
    token = pod_token(emulator, "k")
    assumed = await aws("eks-auth", "AssumeRoleForPodIdentity", clusterName="k", token=token)
    assert assumed["subject"] == {"namespace": "kube-system", "serviceAccount": "ebs"}
    assert assumed["podIdentityAssociation"]["associationArn"] == created["associationArn"]

    updated = await aws("eks", "UpdatePodIdentityAssociation", **one, disableSessionTags=True)
    shown = await aws("eks", "DescribePodIdentityAssociation", **one)
    (listed,) = (await aws("eks", "ListPodIdentityAssociations", clusterName="k"))["associations"]
    assert updated["association"]["disableSessionTags"] is shown["association"]["disableSessionTags"] is True
    assert listed["associationArn"] == created["associationArn"]
    await aws("eks", "DeletePodIdentityAssociation", **one)


async def _call_operations_on_entries(aws: Client, role: str) -> None:
    one = {"clusterName": "k", "principalArn": role}
    await aws("eks", "CreateAccessEntry", **one, kubernetesGroups=["viewers"])
    updated = await aws("eks", "UpdateAccessEntry", **one, kubernetesGroups=["editors"])
    shown = await aws("eks", "DescribeAccessEntry", **one)
    assert updated["accessEntry"]["kubernetesGroups"] == shown["accessEntry"]["kubernetesGroups"] == ["editors"]
    assert role in (await aws("eks", "ListAccessEntries", clusterName="k"))["accessEntries"]

    policies = (await aws("eks", "ListAccessPolicies"))["accessPolicies"]
    assert _VIEW in [policy["arn"] for policy in policies]
    await aws("eks", "AssociateAccessPolicy", **one, policyArn=_VIEW, accessScope={"type": "cluster"})
    (associated,) = (await aws("eks", "ListAssociatedAccessPolicies", **one))["associatedAccessPolicies"]
    assert associated["policyArn"] == _VIEW
    await aws("eks", "DisassociateAccessPolicy", **one, policyArn=_VIEW)
    await aws("eks", "DeleteAccessEntry", **one)


async def _call_operations_on_addons(aws: Client) -> None:
    one = {"clusterName": "k", "addonName": "eks-pod-identity-agent"}
    created = await aws("eks", "CreateAddon", **one)
    shown = await aws("eks", "DescribeAddon", **one)
    updated = await aws("eks", "UpdateAddon", **one, configurationValues="{}")
    assert shown["addon"]["addonArn"] == created["addon"]["addonArn"]
    assert updated["update"]["params"] == [{"type": "ConfigurationValues", "value": "{}"}]
    assert (await aws("eks", "ListAddons", clusterName="k"))["addons"] == ["eks-pod-identity-agent"]
    assert (await aws("eks", "DeleteAddon", **one))["addon"]["status"] == "DELETING"


def eks_error_cases(role: str) -> Mapping[str, tuple[Mapping[str, Any], str]]:
    """The members of a call of each operation of EKS, and the code of its error.

    The emulator must have an EKS cluster `eks` without access entries, which a HyperPod cluster uses.
    """
    nowhere, eks, token = {"clusterName": "nowhere"}, {"clusterName": "eks"}, {"nextToken": "é"}
    resource = {"resourceArn": "arn:aws:eks:us-west-2:123456789012:cluster/nowhere"}
    association = {**eks, "associationId": "a-12345678901234567"}
    service_account = {"namespace": "kube-system", "serviceAccount": "ebs", "roleArn": role}
    entry, addon = {**eks, "principalArn": role}, {**eks, "addonName": "aws-ebs-csi-driver"}
    lost = "ResourceNotFoundException"
    return {
        "CreateCluster": ({"name": "eks", "roleArn": role, "resourcesVpcConfig": {}}, "ResourceInUseException"),
        "DescribeCluster": ({"name": "nowhere"}, lost),
        "ListClusters": (token, "InvalidParameterException"),
        "DeleteCluster": ({"name": "eks"}, "ResourceInUseException"),
        "TagResource": ({**resource, "tags": {"a": "b"}}, "NotFoundException"),
        "UntagResource": ({**resource, "tagKeys": ["a"]}, "NotFoundException"),
        "ListTagsForResource": (resource, "NotFoundException"),
        "CreatePodIdentityAssociation": ({**eks, **service_account}, "InvalidParameterException"),
        "DescribePodIdentityAssociation": (association, lost),
        "ListPodIdentityAssociations": (nowhere, lost),
        "UpdatePodIdentityAssociation": (association, lost),
        "DeletePodIdentityAssociation": (association, lost),
        "CreateAccessEntry": (entry, "InvalidRequestException"),
        "DescribeAccessEntry": ({**nowhere, "principalArn": role}, lost),
        "ListAccessEntries": (eks, "InvalidRequestException"),
        "UpdateAccessEntry": (entry, "InvalidRequestException"),
        "DeleteAccessEntry": (entry, "InvalidRequestException"),
        "ListAccessPolicies": (token, "InvalidParameterException"),
        "ListAssociatedAccessPolicies": (entry, "InvalidRequestException"),
        "AssociateAccessPolicy": ({**entry, "policyArn": _VIEW, "accessScope": {}}, "InvalidRequestException"),
        "DisassociateAccessPolicy": ({**entry, "policyArn": _VIEW}, "InvalidRequestException"),
        "CreateAddon": ({**eks, "addonName": "no-such-addon"}, "InvalidParameterException"),
        "DescribeAddon": (addon, lost),
        "ListAddons": (nowhere, lost),
        "UpdateAddon": (addon, lost),
        "DeleteAddon": (addon, lost),
    }


def eks_auth_error_cases() -> Mapping[str, tuple[Mapping[str, Any], str]]:
    """The same for EKS Auth."""
    return {"AssumeRoleForPodIdentity": ({"clusterName": "eks", "token": "a.b.c"}, "InvalidTokenException")}
