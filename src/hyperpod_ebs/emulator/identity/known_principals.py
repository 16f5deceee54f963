"""Whether the principals that a resource's policy or a grant names exist, as AWS checks when it is saved.

Principals of other accounts cannot be looked up, and count as known. Source: IAM User Guide,
"AWS JSON policy elements: Principal".
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from hyperpod_ebs.emulator.identity_records import Role, User
from hyperpod_ebs.emulator.state.region import Region
from hyperpod_ebs.emulator.state.store import Store
from hyperpod_ebs.iam.documents import Policy
from hyperpod_ebs.iam.principals import EVERY_PRINCIPAL

_ACCOUNT: Final = re.compile(r"[0-9]{12}|arn:[a-z-]+:iam::[0-9]{12}:root", re.ASCII)
_UNIQUE_ID: Final = re.compile(r"A(IDA|ROA)[A-Z0-9]{16,}", re.ASCII)
_ARN: Final = re.compile(
    r"arn:(?P<partition>[a-z-]+):(?P<service>iam|sts)::(?P<account>[0-9]{12}):"
    r"(?P<type>[a-z-]+)/(?P<name>[\x21-\x7e]+)",
    re.ASCII,
)
_DOMAIN: Final = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)+", re.ASCII)
_PROVIDER: Final = re.compile(r"arn:[a-z-]+:iam::[0-9]{12}:(oidc-provider|saml-provider)/[\x21-\x7e]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class NamedPrincipal:
    """A principal as a policy names it."""

    type: str
    """AWS, SERVICE or FEDERATED, as IAM's error messages name the types."""

    name: str


def unknown_principals(policy: Policy, store: Store, region: Region) -> Iterator[NamedPrincipal]:
    """The principals in the policy that do not exist, or that cannot be principals."""
    for statement in policy.statements:
        if statement.principals is None:
            continue
        for name in sorted(statement.principals.aws):
            if not is_known(name, store, region):
                yield NamedPrincipal("AWS", name)
        for name in sorted(statement.principals.services):
            if not _DOMAIN.fullmatch(name):
                yield NamedPrincipal("SERVICE", name)
        for name in sorted(statement.principals.federated):
            if not _DOMAIN.fullmatch(name) and not _PROVIDER.fullmatch(name):
                yield NamedPrincipal("FEDERATED", name)


def is_known(name: str, store: Store, region: Region) -> bool:
    """Whether a principal of the type AWS exists: an account, a user, a role, or a session of a role that exists."""
    if name == EVERY_PRINCIPAL or _ACCOUNT.fullmatch(name):
        return True
    if _UNIQUE_ID.fullmatch(name):
        records: list[User | Role] = [*store.users.values(), *store.roles.values()]
        return any(record.unique_id == name for record in records)
    arn = _ARN.fullmatch(name)
    if arn is None or {*"*?"} & {*arn["name"]}:
        return False
    if arn["account"] != region.account:
        return True
    return arn["partition"] == region.partition and _exists(store, arn["service"], arn["type"], arn["name"])


def _exists(store: Store, service: str, type_: str, path_and_name: str) -> bool:
    match service, type_:
        case "iam", "user":
            return _has_record(store.users, path_and_name)
        case "iam", "role":
            return _has_record(store.roles, path_and_name)
        case "sts", "assumed-role":
            return path_and_name.partition("/")[0] in store.roles
        case "sts", "federated-user":
            return True
        case _:
            return False


def _has_record(records: Mapping[str, User | Role], path_and_name: str) -> bool:
    """Whether a record has this name and path."""
    path, _, name = path_and_name.rpartition("/")
    record = records.get(name)
    return record is not None and record.path == (f"/{path}/" if path else "/")
