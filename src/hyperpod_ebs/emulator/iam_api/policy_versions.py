"""The versions of managed policies."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from hyperpod_ebs.emulator.iam_api import documents, faults
from hyperpod_ebs.emulator.iam_api.managed_policies import check_document, require_own_policy
from hyperpod_ebs.emulator.iam_api.pages import page
from hyperpod_ebs.emulator.identity import aws_managed
from hyperpod_ebs.emulator.identity_records import PolicyVersion
from hyperpod_ebs.emulator.state.world import World, now, to_datetime
from hyperpod_ebs.emulator.wire.operations import Answer, AwsFault, Call, Operations, Parameters

MAX_VERSIONS: Final = 5
"""Versions of a policy (IAM User Guide, "Versioning IAM policies")."""

_VERSION: Final = re.compile(r"v(?P<number>[1-9][0-9]{0,8})", re.ASCII)


class PolicyVersions:
    """The operations on versions."""

    operations = Operations["PolicyVersions"]()

    def __init__(self, world: World) -> None:
        self._world = world
        self._store = world.store

    @operations("CreatePolicyVersion")
    async def create(self, parameters: Parameters, _: Call) -> Answer:
        """Add a version, and make it the default if the request asks for that."""
        policy = require_own_policy(self._world, parameters["PolicyArn"])
        check_document(parameters["PolicyDocument"])
        if len(self._store.policy_versions.where("policy", policy.id)) >= MAX_VERSIONS:
            raise AwsFault(
                "LimitExceeded",
                f"A managed policy can have up to {MAX_VERSIONS} versions. Before you create a new version, you must "
                "delete an existing version.",
                409,
            )
        number, created = policy.latest + 1, now()
        version = PolicyVersion(policy=policy.id, number=number, document=parameters["PolicyDocument"], created=created)
        default = number if parameters.get("SetAsDefault") else policy.default
        self._store.policy_versions.put(version)
        self._store.managed_policies.put(replace(policy, latest=number, default=default, updated=created))
        return await self._world.acknowledge({"PolicyVersion": version_members(version, default)})

    @operations("GetPolicyVersion")
    async def get(self, parameters: Parameters, _: Call) -> Answer:
        """Return a version with its document; of AWS's policies only the default version."""
        arn = parameters["PolicyArn"]
        if (managed := aws_managed.find(arn, self._world.region.partition)) is not None:
            if parameters["VersionId"] != f"v{managed.version}":
                raise _not_found(arn, parameters["VersionId"])
            members = {**aws_version_members(managed), "Document": documents.url_encode(managed.document)}
        else:
            policy = require_own_policy(self._world, arn)
            version = self._version(arn, parameters["VersionId"])
            members = {**version_members(version, policy.default), "Document": documents.url_encode(version.document)}
        return await self._world.acknowledge({"PolicyVersion": members})

    @operations("ListPolicyVersions")
    async def list(self, parameters: Parameters, _: Call) -> Answer:
        """List the versions of a policy; of AWS's policies only the default version."""
        arn = parameters["PolicyArn"]
        if (managed := aws_managed.find(arn, self._world.region.partition)) is not None:
            versions = [aws_version_members(managed)]
        else:
            policy = require_own_policy(self._world, arn)
            versions = [
                version_members(version, policy.default) for version in self._store.policy_versions.where("policy", arn)
            ]
        return await self._world.acknowledge(page(parameters, "Versions", versions, key=_order, show=dict))

    @operations("SetDefaultPolicyVersion")
    async def set_default(self, parameters: Parameters, _: Call) -> Answer:
        """Make a version the one that applies."""
        policy = require_own_policy(self._world, parameters["PolicyArn"])
        version = self._version(policy.id, parameters["VersionId"])
        self._store.managed_policies.put(replace(policy, default=version.number, updated=now()))
        return await self._world.acknowledge({})

    @operations("DeletePolicyVersion")
    async def delete(self, parameters: Parameters, _: Call) -> Answer:
        """Delete a version that is not the default."""
        policy = require_own_policy(self._world, parameters["PolicyArn"])
        version = self._version(policy.id, parameters["VersionId"])
        if version.number == policy.default:
            raise AwsFault("DeleteConflict", "Cannot delete the default version of a policy.", 409)
        self._store.policy_versions.drop(version.id)
        return await self._world.acknowledge({})

    def _version(self, arn: str, id_: str) -> PolicyVersion:
        match = _VERSION.fullmatch(id_)
        version = self._store.policy_versions.get(f"{arn}:v{match['number']}") if match else None
        if version is None:
            raise _not_found(arn, id_)
        return version


def _not_found(arn: str, version: str) -> AwsFault:
    return faults.no_such_entity(f"Policy {arn} version {version} does not exist or is not attachable.")


def version_members(version: PolicyVersion, default: int) -> dict[str, Any]:  # Any: the members of a PolicyVersion
    """A version of a customer's policy as answers show it, without the document."""
    return {
        "VersionId": f"v{version.number}",
        "IsDefaultVersion": version.number == default,
        "CreateDate": to_datetime(version.created),
    }


def aws_version_members(policy: aws_managed.AwsManagedPolicy) -> dict[str, Any]:  # Any: as above
    """The default version of a policy of AWS as answers show it, without the document."""
    return {"VersionId": f"v{policy.version}", "IsDefaultVersion": True, "CreateDate": policy.updated}


def _order(members: Mapping[str, Any]) -> str:  # Any: the members of a PolicyVersion
    """The newest version is first."""
    return f"{10**9 - int(members['VersionId'][1:]):09}"
