"""The policies of access entries: what a principal may do in Kubernetes.

Source: EKS User Guide, "Review access policy permissions". They decide nothing here, as the
emulator runs no Kubernetes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from hyperpod_ebs.emulator.eks.access_entries import STANDARD, AccessEntries
from hyperpod_ebs.emulator.eks.arns import policy_arn
from hyperpod_ebs.emulator.eks.pages import page
from hyperpod_ebs.emulator.state.world import World, now, to_datetime
from hyperpod_ebs.emulator.wire.operations import Answer, AwsFault, Call, Operations, Parameters

NAMES: Final = (
    "AmazonEKSAdminPolicy",
    "AmazonEKSAdminViewPolicy",
    "AmazonEKSAutoNodePolicy",
    "AmazonEKSBlockStorageClusterPolicy",
    "AmazonEKSBlockStoragePolicy",
    "AmazonEKSClusterAdminPolicy",
    "AmazonEKSComputeClusterPolicy",
    "AmazonEKSComputePolicy",
    "AmazonEKSEditPolicy",
    "AmazonEKSHybridPolicy",
    "AmazonEKSLoadBalancingClusterPolicy",
    "AmazonEKSLoadBalancingPolicy",
    "AmazonEKSNetworkingClusterPolicy",
    "AmazonEKSNetworkingPolicy",
    "AmazonEKSViewPolicy",
    "AmazonEMRJobPolicy",
    "AmazonSagemakerHyperpodClusterPolicy",
    "AmazonSagemakerHyperpodControllerPolicy",
    "AmazonSagemakerHyperpodSystemNamespacePolicy",
)
"""The policies that EKS has."""

Members = Mapping[str, Any]  # Any: members of EKS's shapes


class AccessPolicies:
    """The operations on the policies of access entries."""

    operations = Operations["AccessPolicies"]()

    def __init__(self, world: World, entries: AccessEntries) -> None:
        self._world = world
        self._store = world.store
        self._entries = entries

    @operations("AssociateAccessPolicy")
    async def associate(self, parameters: Parameters, _: Call) -> Answer:
        """Add a policy to an entry, or change the scope of one that it has."""
        entry, policy = self._entries.require_entry(parameters), self._known_policy(parameters["policyArn"])
        if entry.kind != STANDARD:
            text = f"An access entry of type {entry.kind} cannot have access policies."
            raise AwsFault("InvalidRequestException", text)
        scope, namespaces = _scope(parameters["accessScope"])
        old = next((each for each in entry.policies if each["arn"] == policy), None)
        new: dict[str, str | float | Sequence[str]] = {
            "arn": policy,
            "scope": scope,
            "namespaces": namespaces,
            "associated": old["associated"] if old else now(),
            "modified": now(),
        }
        others = tuple(each for each in entry.policies if each["arn"] != policy)
        self._store.access_entries.put(replace(entry, policies=(*others, new)))
        return await self._world.acknowledge(
            {
                "clusterName": entry.cluster,
                "principalArn": entry.principal,
                "associatedAccessPolicy": _policy_members(new),
            }
        )

    @operations("DisassociateAccessPolicy")
    async def disassociate(self, parameters: Parameters, _: Call) -> Answer:
        """Remove a policy from an entry."""
        entry, policy = self._entries.require_entry(parameters), parameters["policyArn"]
        rest = tuple(each for each in entry.policies if each["arn"] != policy)
        if len(rest) == len(entry.policies):
            text = "The specified policyArn is not associated with the access entry."
            raise AwsFault("ResourceNotFoundException", text, 404)
        self._store.access_entries.put(replace(entry, policies=rest))
        return await self._world.acknowledge({})

    @operations("ListAssociatedAccessPolicies")
    async def list_associated(self, parameters: Parameters, _: Call) -> Answer:
        """List the policies of an entry."""
        entry = self._entries.require_entry(parameters)
        policies = {str(each["arn"]): each for each in entry.policies}
        arns, token = page(policies, parameters)
        return await self._world.acknowledge(
            {
                "clusterName": entry.cluster,
                "principalArn": entry.principal,
                "associatedAccessPolicies": [_policy_members(policies[arn]) for arn in arns],
                "nextToken": token,
            }
        )

    @operations("ListAccessPolicies")
    async def list_policies(self, parameters: Parameters, _: Call) -> Answer:
        """List the policies that EKS has."""
        names, token = page(NAMES, parameters)
        partition = self._world.region.partition
        policies = [{"name": name, "arn": policy_arn(partition, name)} for name in names]
        return {"accessPolicies": policies, "nextToken": token}

    def _known_policy(self, arn: str) -> str:
        """The ARN, if EKS has a policy with it.

        Raises:
            AwsFault: EKS has none.
        """
        partition = self._world.region.partition
        if arn not in {policy_arn(partition, name) for name in NAMES}:
            raise AwsFault("InvalidParameterException", "The specified policyArn is invalid: invalid policy.")
        return arn


def _scope(scope: Members) -> tuple[str, Sequence[str]]:
    """The type and the namespaces of an access scope.

    Raises:
        AwsFault: A scope of namespaces names none, or one of the cluster names some.
    """
    type_, namespaces = scope.get("type", "cluster"), scope.get("namespaces", [])
    if (type_ == "namespace") != bool(namespaces):
        text = f"The specified accessScope of type {type_} is invalid with {len(namespaces)} namespaces."
        raise AwsFault("InvalidParameterException", text)
    return type_, namespaces


def _policy_members(policy: Mapping[str, Any]) -> Members:  # Any: AccessEntry.policies
    return {
        "policyArn": policy["arn"],
        "accessScope": {"type": policy["scope"], "namespaces": list(policy["namespaces"])},
        "associatedAt": to_datetime(policy["associated"]),
        "modifiedAt": to_datetime(policy["modified"]),
    }
