"""Trust policies, key policies and grants that name a user or role, when the user or role is renamed or deleted.

AWS stores the unique id of a user or role in place of its ARN. So a policy follows a renamed user,
shows the id of a deleted one, and does not trust a new one of the same name (IAM User Guide,
"AWS JSON policy elements: Principal"). So does a grant of KMS. A session is named by its role's
name and its own, and goes with the role.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from hyperpod_ebs.emulator.state.store import Store


def rename_principal(store: Store, old: str, new: str) -> None:
    """Replace a principal in all policies of roles and keys, and in all grants.

    Args:
        store: The records of the account.
        old: The ARN of a user or role.
        new: Its new ARN, or its unique id if it is deleted.
    """
    rename = _Renaming(old, new, _start_of_sessions(old))
    for role in list(store.roles.values()):
        if (trust := rename.document(role.trust)) != role.trust:
            store.roles.put(replace(role, trust=trust))
    for key in list(store.kms_keys.values()):
        if (policy := rename.document(key.policy)) != key.policy:
            store.kms_keys.put(replace(key, policy=policy))
    for grant in list(store.kms_grants.values()):
        grantee, retiree = rename.name(grant.grantee), rename.name(grant.retiree)
        if (grantee, retiree) != (grant.grantee, grant.retiree):
            store.kms_grants.put(replace(grant, grantee=grantee, retiree=retiree))


def _start_of_sessions(arn: str) -> str:
    """The start of the ARNs of the sessions of a role: arn:aws:sts::123456789012:assumed-role/NAME/."""
    scope, _, resource = arn.rpartition(":")
    return f"{scope.replace(':iam:', ':sts:')}:assumed-role/{resource.rpartition('/')[2]}/"


@dataclass(frozen=True, slots=True)
class _Renaming:
    """The replacement of a user or role by its new ARN or its unique id."""

    old: str
    new: str
    sessions: str
    """The start of the ARNs of the sessions, if it is a role."""

    def name(self, name: str) -> str:
        """The name of a principal after the replacement; sessions are AROA...:SESSION, as in `aws:userid`."""
        if name == self.old:
            return self.new
        if ":role/" in self.old and name.startswith(self.sessions):
            return f"{self.new}:{name.removeprefix(self.sessions)}"
        return name

    def document(self, document: str) -> str:
        """The document with the principal replaced; conditions keep the ARN."""
        is_named = self.old in document or self.sessions in document
        if not is_named and "\\" not in document:  # JSON can write any character as an escape
            return document
        parsed = json.loads(document)
        statements = parsed["Statement"] if isinstance(parsed["Statement"], list) else [parsed["Statement"]]
        changed = [self._statement(each) for each in statements]
        return document if changed == statements else json.dumps({**parsed, "Statement": changed})

    def _statement(self, statement: Mapping[str, Any]) -> Mapping[str, Any]:  # Any: JSON
        members = dict(statement)
        for element in ("Principal", "NotPrincipal"):
            principals = members.get(element)
            if isinstance(principals, dict) and "AWS" in principals:
                names = principals["AWS"]
                new = [self.name(name) for name in names] if isinstance(names, list) else self.name(names)
                members[element] = {**principals, "AWS": new}
        return members
