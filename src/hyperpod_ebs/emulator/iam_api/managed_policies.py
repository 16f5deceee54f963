"""Managed policies: the customer's, which have up to five versions, and AWS's, which callers can only read."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from hyperpod_ebs.emulator.iam_api import documents, faults, tags
from hyperpod_ebs.emulator.iam_api.attachable import PolicyUse
from hyperpod_ebs.emulator.iam_api.entities import Entities, check_quota
from hyperpod_ebs.emulator.iam_api.pages import page
from hyperpod_ebs.emulator.identity import aws_managed
from hyperpod_ebs.emulator.identity.administrator import new_unique_id
from hyperpod_ebs.emulator.identity_records import ManagedPolicy, PolicyVersion
from hyperpod_ebs.emulator.state.world import World, now, tag_list, to_datetime
from hyperpod_ebs.emulator.wire.operations import Answer, AwsFault, Call, Operations, Parameters
from hyperpod_ebs.iam.documents import Kind

Members = Mapping[str, Any]  # Any: the members of a Policy

MAX_POLICIES: Final = 1500
"""Customer-managed policies of an account (IAM User Guide, "IAM and AWS STS quotas")."""

MAX_SIZE: Final = 6144
"""Characters of a document, without white space."""


def check_document(document: str) -> None:
    """Refuse a document that is not an identity policy, or too long.

    Raises:
        AwsFault: MalformedPolicyDocument or LimitExceeded.
    """
    documents.compile_document(document, Kind.IDENTITY)
    if documents.size(document) > MAX_SIZE:
        raise faults.limit_exceeded("PolicySize", MAX_SIZE)


def require_own_policy(world: World, arn: str) -> ManagedPolicy:
    """The customer's policy with this ARN.

    Raises:
        AwsFault: NoSuchEntity, or AccessDenied for a policy of AWS.
    """
    if aws_managed.find(arn, world.region.partition) is not None:
        raise AwsFault("AccessDenied", "Cannot perform the operation on an AWS managed policy.", 403)
    if (policy := world.store.managed_policies.get(arn)) is None:
        raise faults.no_such_entity(f"Policy {arn} was not found.")
    return policy


class ManagedPolicies:
    """The operations on managed policies; those on their versions are `PolicyVersions`."""

    operations = Operations["ManagedPolicies"]()

    def __init__(self, world: World, entities: Entities) -> None:
        self._world = world
        self._store = world.store
        self._entities = entities

    @operations("CreatePolicy")
    async def create(self, parameters: Parameters, _: Call) -> Answer:
        """Create a policy, with version v1."""
        name, path, document = parameters["PolicyName"], parameters.get("Path", "/"), parameters["PolicyDocument"]
        check_document(document)
        if any(policy.name.lower() == name.lower() for policy in self._store.managed_policies.values()):
            raise faults.already_exists(f"A policy called {name} already exists. Duplicate names are not allowed.")
        check_quota(self._store.managed_policies, "PoliciesPerAccount", MAX_POLICIES)
        created = now()
        policy = ManagedPolicy(
            id=self._entities.arn_of("policy", path, name),
            name=name,
            path=path,
            unique_id=new_unique_id("ANPA"),
            created=created,
            updated=created,
            description=parameters.get("Description", ""),
            tags=tags.merge_tags({}, parameters.get("Tags", [])),
        )
        self._store.policy_versions.put(PolicyVersion(policy=policy.id, number=1, document=document, created=created))
        self._store.managed_policies.put(policy)
        use = PolicyUse.count(self._store).members(policy.id)
        return await self._world.acknowledge({"Policy": {**policy_members(policy), **use}})

    @operations("GetPolicy")
    async def get(self, parameters: Parameters, _: Call) -> Answer:
        """Describe a policy."""
        arn = parameters["PolicyArn"]
        managed = aws_managed.find(arn, self._world.region.partition)
        if (policy := self._store.managed_policies.get(arn)) is None and managed is None:
            raise faults.no_such_entity(f"Policy {arn} was not found.")
        use = PolicyUse.count(self._store).members(arn)
        members = policy_members(policy) if policy else aws_policy_members(arn, managed) if managed else {}
        return await self._world.acknowledge({"Policy": {**members, **use}})

    @operations("ListPolicies")
    async def list(self, parameters: Parameters, _: Call) -> Answer:
        """List policies by their owner, path and use."""
        prefix, scope = parameters.get("PathPrefix", "/"), parameters.get("Scope", "All")
        counts = {"PermissionsPolicy": ("AttachmentCount",), "PermissionsBoundary": ("PermissionsBoundaryUsageCount",)}
        counted = counts.get(parameters.get("PolicyUsageFilter", ""), tuple(each for (each,) in counts.values()))
        is_filtered = parameters.get("OnlyAttached") or "PolicyUsageFilter" in parameters
        policies = [
            policy
            for policy in self._all(scope)
            if policy["Path"].startswith(prefix) and (not is_filtered or any(policy[count] for count in counted))
        ]
        return await self._world.acknowledge(
            page(parameters, "Policies", policies, key=lambda policy: str(policy["Arn"]), show=_as_listed)
        )

    @operations("DeletePolicy")
    async def delete(self, parameters: Parameters, _: Call) -> Answer:
        """Delete a policy that is not in use and has one version."""
        policy = require_own_policy(self._world, parameters["PolicyArn"])
        if PolicyUse.count(self._store).has(policy.id):
            raise AwsFault("DeleteConflict", "Cannot delete a policy attached to entities.", 409)
        versions = self._store.policy_versions.where("policy", policy.id)
        if len(versions) > 1:
            raise AwsFault(
                "DeleteConflict",
                "This policy has more than one version. Before you delete a policy, you must delete the policy's "
                "versions. The default version is deleted with the policy.",
                409,
            )
        self._store.managed_policies.drop(policy.id)
        for version in versions:
            self._store.policy_versions.drop(version.id)
        return await self._world.acknowledge({})

    def _all(self, scope: str) -> Iterator[Members]:
        use = PolicyUse.count(self._store)
        if scope != "AWS":
            for policy in self._store.managed_policies.values():
                yield {**policy_members(policy), **use.members(policy.id)}
        if scope != "Local":
            partition = self._world.region.partition
            for resource, managed in aws_managed.all_policies().items():
                arn = f"arn:{partition}:iam::aws:{resource}"
                yield {**aws_policy_members(arn, managed), **use.members(arn)}


def policy_members(policy: ManagedPolicy) -> Members:
    """A customer's policy as answers show it, without its uses."""
    return {
        "PolicyName": policy.name,
        "PolicyId": policy.unique_id,
        "Arn": policy.id,
        "Path": policy.path,
        "DefaultVersionId": f"v{policy.default}",
        "IsAttachable": True,
        "Description": policy.description or None,
        "CreateDate": to_datetime(policy.created),
        "UpdateDate": to_datetime(policy.updated),
        "Tags": tag_list(policy.tags) or [],
    }


def aws_policy_members(arn: str, policy: aws_managed.AwsManagedPolicy) -> Members:
    """A policy of AWS as answers show it, without its uses."""
    return {
        "PolicyName": policy.name,
        "PolicyId": policy.unique_id,
        "Arn": arn,
        "Path": policy.path,
        "DefaultVersionId": f"v{policy.version}",
        "IsAttachable": policy.is_attachable,
        "CreateDate": policy.created,
        "UpdateDate": policy.updated,
        "Tags": [],
    }


def _as_listed(members: Members) -> Members:
    """A policy in a list, which has neither description nor tags."""
    return {name: value for name, value in members.items() if name not in {"Description", "Tags"}}
