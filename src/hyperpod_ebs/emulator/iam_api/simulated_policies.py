"""The policies of a simulation: those in the request, and those of a user, group or role."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from hyperpod_ebs.emulator.iam_api import faults
from hyperpod_ebs.emulator.iam_api.attachable import policy_name
from hyperpod_ebs.emulator.iam_api.entities import Owner, kind_of
from hyperpod_ebs.emulator.identity.identities import Identities
from hyperpod_ebs.emulator.identity_records import Group, User
from hyperpod_ebs.emulator.state.store import Store
from hyperpod_ebs.iam import documents
from hyperpod_ebs.iam.documents import Kind, MalformedPolicy, Policy

Exclusions = Sequence[Mapping[str, Any]]  # Any: the members of a PolicyIdentifier


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedPolicy:
    """A policy and its source, as results name it."""

    id: str
    """PolicyInputList.1, the name of a managed policy, or user_ann_NAME for an inline one."""

    document: str
    compiled: Policy


def input_policies(member: str, given: Sequence[str], kind: Kind = Kind.IDENTITY) -> Sequence[SimulatedPolicy]:
    """The policies that a request contains.

    Raises:
        AwsFault: InvalidInput for a document that is not a policy.
    """
    return [_compile(f"{member}.{number}", document, kind) for number, document in enumerate(given, 1)]


def resource_policy(document: str) -> SimulatedPolicy:
    """The policy of the resources.

    Raises:
        AwsFault: InvalidInput for a document that is not such a policy.
    """
    return _compile("ResourcePolicy", document, Kind.RESOURCE)


def policies_of(
    owner: Owner, store: Store, identities: Identities, exclusions: Exclusions = ()
) -> Sequence[SimulatedPolicy]:
    """The policies of a user and its groups, of a group, or of a role, without those that the request excludes."""
    owners: list[Owner] = [owner]
    if isinstance(owner, User):
        owners += [store.groups[name] for name in owner.groups]
    return [policy for each in owners for policy in _own_policies(each, identities, exclusions)]


def boundary_of(owner: Owner, identities: Identities, exclusions: Exclusions = ()) -> Sequence[SimulatedPolicy] | None:
    """The permissions boundary of a user or role; None without one."""
    if isinstance(owner, Group) or not owner.boundary:
        return None
    if any(each.get("PolicyType") == "permission-boundary" for each in exclusions):
        return None
    document = identities.document(owner.boundary)
    return [_compile(policy_name(owner.boundary), document, Kind.IDENTITY)] if document else []


def _own_policies(owner: Owner, identities: Identities, exclusions: Exclusions) -> Iterator[SimulatedPolicy]:
    kind = kind_of(owner)
    for name, document in owner.inline.items():
        if not any(_excludes_inline(each, kind, owner.id, name) for each in exclusions):
            yield _compile(f"{kind}_{owner.id}_{name}", document, Kind.IDENTITY)
    for arn in owner.attached:
        if not any(_excludes_managed(each, arn) for each in exclusions) and (managed := identities.document(arn)):
            yield _compile(policy_name(arn), managed, Kind.IDENTITY)


def _excludes_inline(exclusion: Mapping[str, Any], kind: str, owner: str, name: str) -> bool:  # Any: as `Exclusions`
    if exclusion.get("PolicyType") == "inline":
        return True
    inline = exclusion.get("InlinePolicyIdentifier")
    return (
        inline is not None
        and inline["AttachmentType"] == kind
        and inline["PolicyName"] == name
        and fnmatchcase(owner, inline["AttachmentName"])
    )


def _excludes_managed(exclusion: Mapping[str, Any], arn: str) -> bool:  # Any: as `Exclusions`
    kind = "aws-managed" if ":iam::aws:" in arn else "user-managed"
    return exclusion.get("PolicyType") == kind or fnmatchcase(arn, exclusion.get("PolicyArn", ""))


def _compile(id_: str, document: str, kind: Kind) -> SimulatedPolicy:
    try:
        compiled = documents.parse(document, kind=kind, name=id_)
    except MalformedPolicy as error:
        raise faults.invalid_input(f"Invalid Input Policy {id_}: {error}") from error
    return SimulatedPolicy(id=id_, document=document, compiled=compiled)
