"""Access entries: which IAM principals may use a cluster's Kubernetes API.

Source: EKS User Guide, "Grant IAM users access to Kubernetes with EKS access entries". The
emulator keeps the entries; they decide nothing here, as it runs no Kubernetes.
"""

import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from hyperpod_ebs.emulator.eks import lookup
from hyperpod_ebs.emulator.eks.arns import entry_arn, policy_arn, principal_parts
from hyperpod_ebs.emulator.eks.cluster_answers import access_config
from hyperpod_ebs.emulator.eks.lookup import check_tags, is_repeated
from hyperpod_ebs.emulator.eks.pages import page
from hyperpod_ebs.emulator.eks_records import AccessEntry
from hyperpod_ebs.emulator.identity.identities import Identities
from hyperpod_ebs.emulator.records import EksCluster
from hyperpod_ebs.emulator.state.world import World, now, to_datetime
from hyperpod_ebs.emulator.wire.operations import Answer, AwsFault, Call, Operations, Parameters

STANDARD: Final = "STANDARD"
"""The kind of entry for people and programs; the others are for nodes."""

_NODE_USERNAMES: Final[Mapping[str, str]] = {
    "EC2_LINUX": "system:node:{{EC2PrivateDNSName}}",
    "EC2_WINDOWS": "system:node:{{EC2PrivateDNSName}}",
    "EC2": "system:node:{{EC2PrivateDNSName}}",
    "FARGATE_LINUX": "system:node:{{SessionName}}",
    "HYBRID_LINUX": "system:node:{{SessionName}}",
    "HYPERPOD_LINUX": "system:node:{{SessionName}}",
}
"""The usernames of nodes by kind of entry."""

_PRINCIPAL: Final = re.compile(r"arn:[a-z-]+:iam::[0-9]{12}:(user|role)/[\w+=,.@/-]+", re.ASCII)

ADMINISTRATOR: Final = "AmazonEKSClusterAdminPolicy"
"""The access policy of the principal that created a cluster."""

_RESERVED: Final = ("system:", "eks:", "aws:", "amazon:", "iam:")
"""Prefixes that usernames and groups must not have."""


class AccessEntries:
    """The operations on access entries."""

    operations = Operations["AccessEntries"]()

    def __init__(self, world: World, identities: Identities) -> None:
        self._world = world
        self._store = world.store
        self._identities = identities

    @operations("CreateAccessEntry")
    async def create(self, parameters: Parameters, _: Call) -> Answer:
        """Create the entry of a principal, which has at most one in a cluster."""
        cluster, principal = self.require_cluster(parameters), parameters["principalArn"]
        existing = self._store.access_entries.get(f"{cluster.id}/{principal}")
        if existing is not None and is_repeated(existing.client_token, parameters):
            return await self._answer(existing)
        if not self._is_known(principal):
            raise _invalid("The specified principalArn is invalid: invalid principal.")
        kind, username, groups = parameters.get("type", STANDARD), parameters.get("username"), _groups(parameters)
        if kind not in {STANDARD, *_NODE_USERNAMES}:
            raise _invalid(f"The specified type is invalid: {kind}")
        if kind != STANDARD and (username or groups):
            raise _invalid(f"The username and kubernetesGroups of an access entry of type {kind} cannot be specified.")
        _check_names(username, groups)
        check_tags(parameters.get("tags", {}))
        entry = AccessEntry(
            cluster=cluster.id,
            principal=principal,
            unique_id=str(uuid.uuid4()),
            kind=kind,
            username=username or _default_username(kind, principal),
            groups=groups if kind == STANDARD else ("system:nodes",),
            created=(created := now()),
            modified=created,
            client_token=parameters.get("clientRequestToken", ""),
            tags=dict(parameters.get("tags", {})),
        )
        if existing is not None:
            text = "The specified access entry resource is already in use on this cluster."
            raise AwsFault("ResourceInUseException", text, 409)
        return await self._answer(self._store.access_entries.put(entry))

    @operations("DescribeAccessEntry")
    async def describe(self, parameters: Parameters, _: Call) -> Answer:
        """Describe the entry of a principal."""
        return await self._answer(self.require_entry(parameters))

    @operations("ListAccessEntries")
    async def list_principals(self, parameters: Parameters, _: Call) -> Answer:
        """List the principals that have an entry, or only those with a policy."""
        cluster, policy = self.require_cluster(parameters), parameters.get("associatedPolicyArn")
        principals, token = page(
            (
                entry.principal
                for entry in self._store.access_entries.where("cluster", cluster.id)
                if policy is None or any(each["arn"] == policy for each in entry.policies)
            ),
            parameters,
        )
        return await self._world.acknowledge({"accessEntries": principals, "nextToken": token})

    @operations("UpdateAccessEntry")
    async def update(self, parameters: Parameters, _: Call) -> Answer:
        """Replace the username or the groups of an entry."""
        entry = self.require_entry(parameters)
        username = parameters.get("username", entry.username)
        groups = _groups(parameters) if "kubernetesGroups" in parameters else entry.groups
        if entry.kind != STANDARD:
            raise _invalid_request(f"An access entry of type {entry.kind} cannot be updated.")
        _check_names(parameters.get("username"), groups)
        changed = replace(entry, username=username, groups=groups, modified=now())
        return await self._answer(self._store.access_entries.put(changed))

    @operations("DeleteAccessEntry")
    async def delete(self, parameters: Parameters, _: Call) -> Answer:
        """Delete the entry of a principal."""
        self._store.access_entries.drop(self.require_entry(parameters).id)
        return await self._world.acknowledge({})

    def add_administrator(self, cluster: EksCluster, call: Call) -> None:
        """Make the caller an administrator of the cluster that it creates."""
        principal = self._identities.require(call.key_id).principal
        arn, at = principal.role or principal.arn, now()
        policy: dict[str, str | float | Sequence[str]] = {
            "arn": policy_arn(self._world.region.partition, ADMINISTRATOR),
            "scope": "cluster",
            "namespaces": [],
            "associated": at,
            "modified": at,
        }
        self._store.access_entries.put(
            AccessEntry(
                cluster=cluster.id,
                principal=arn,
                unique_id=str(uuid.uuid4()),
                kind=STANDARD,
                username=_default_username(STANDARD, arn),
                policies=(policy,),
                created=at,
                modified=at,
            )
        )

    def require_cluster(self, parameters: Parameters) -> EksCluster:
        """The cluster that a request names.

        Raises:
            AwsFault: It does not exist, or does not use access entries.
        """
        cluster = lookup.require_cluster(self._store, parameters["clusterName"])
        if access_config(cluster)["authenticationMode"] == "CONFIG_MAP":
            text = (
                "The cluster's authentication mode must be set to one of [API, API_AND_CONFIG_MAP] to perform this "
                "operation."
            )
            raise _invalid_request(text)
        return cluster

    def require_entry(self, parameters: Parameters) -> AccessEntry:
        """The entry that a request names.

        Raises:
            AwsFault: The cluster or the entry does not exist, or the cluster does not use access entries.
        """
        cluster = self.require_cluster(parameters)
        if (entry := self._store.access_entries.get(f"{cluster.id}/{parameters['principalArn']}")) is None:
            text = (
                "The specified principalArn could not be found. You can view your available access entries with "
                "'list-access-entries'."
            )
            raise AwsFault("ResourceNotFoundException", text, 404)
        return entry

    def _is_known(self, principal: str) -> bool:
        """Whether the principal exists; EKS cannot know about those of other accounts."""
        if not _PRINCIPAL.fullmatch(principal):
            return False
        account, kind, name = principal_parts(principal)
        if account != self._world.region.account:
            return True
        if kind == "user":
            user = self._store.users.get(name)
            return user is not None and self._identities.user_arn(user) == principal
        role = self._store.roles.get(name)
        return role is not None and self._identities.role_arn(role) == principal

    async def _answer(self, entry: AccessEntry) -> Answer:
        members = {
            "clusterName": entry.cluster,
            "principalArn": entry.principal,
            "kubernetesGroups": list(entry.groups),
            "accessEntryArn": entry_arn(self._world.region, entry),
            "createdAt": to_datetime(entry.created),
            "modifiedAt": to_datetime(entry.modified),
            "tags": dict(entry.tags),
            "username": entry.username,
            "type": entry.kind,
        }
        return await self._world.acknowledge({"accessEntry": members})


def _groups(parameters: Parameters) -> tuple[str, ...]:
    return tuple(parameters.get("kubernetesGroups", ()))


def _check_names(username: str | None, groups: Sequence[str]) -> None:
    """Refuse names that only AWS and Kubernetes may give.

    Raises:
        AwsFault: The username or a group has a reserved prefix.
    """
    if username and username.startswith(_RESERVED):
        raise _invalid(f"The username {username} is not valid: it must not start with {', '.join(_RESERVED)}")
    if reserved := next((group for group in groups if group.startswith(_RESERVED)), None):
        raise _invalid(f"The kubernetes group name {reserved} is invalid, it cannot start with system:")


def _default_username(kind: str, principal: str) -> str:
    if kind in _NODE_USERNAMES:
        return _NODE_USERNAMES[kind]
    account, of, name = principal_parts(principal)
    if of == "user":
        return principal
    return f"arn:{principal.split(':')[1]}:sts::{account}:assumed-role/{name}/{{{{SessionName}}}}"


def _invalid(text: str) -> AwsFault:
    return AwsFault("InvalidParameterException", text)


def _invalid_request(text: str) -> AwsFault:
    return AwsFault("InvalidRequestException", text)
