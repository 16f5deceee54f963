"""Trust policies, key policies and grants that name a user or role, when the user or role is renamed or deleted.

AWS stores the unique id of a user or role in place of its ARN. So a policy follows a renamed user,
shows the id of a deleted one, and does not trust a new one of the same name (IAM User Guide,
"AWS JSON policy elements: Principal"). So does a grant of KMS.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hyperpod_ebs.emulator.state.store import Store


def rename_principal(store: Store, old: str, new: str) -> None:
    """Replace a principal in all policies of roles and keys, and in all grants.

    Args:
        store: The records of the account.
        old: The ARN of a user or role.
        new: Its new ARN, or its unique id if it is deleted.
    """
    for role in list(store.roles.values()):
        if (trust := _replaced_text(role.trust, old, new)) != role.trust:
            store.roles.put(replace(role, trust=trust))
    for key in list(store.kms_keys.values()):
        if (policy := _replaced_text(key.policy, old, new)) != key.policy:
            store.kms_keys.put(replace(key, policy=policy))
    for grant in [grant for grant in store.kms_grants.values() if old in {grant.grantee, grant.retiree}]:
        grantee, retiree = (new if name == old else name for name in (grant.grantee, grant.retiree))
        store.kms_grants.put(replace(grant, grantee=grantee, retiree=retiree))


def _replaced_text(document: str, old: str, new: str) -> str:
    """The document with the principal replaced; conditions keep the ARN."""
    if json.dumps(old) not in document and "\\" not in document:  # JSON can write any character as an escape
        return document
    parsed = json.loads(document)
    statements = parsed["Statement"] if isinstance(parsed["Statement"], list) else [parsed["Statement"]]
    changed = [_statement(each, old, new) for each in statements]
    return document if changed == statements else json.dumps({**parsed, "Statement": changed})


def _statement(statement: Mapping[str, Any], old: str, new: str) -> Mapping[str, Any]:  # Any: JSON
    members = dict(statement)
    for element in ("Principal", "NotPrincipal"):
        principals = members.get(element)
        if isinstance(principals, dict) and "AWS" in principals:
            names = principals["AWS"]
            changed = [new if name == old else name for name in names] if isinstance(names, list) else names
            members[element] = {**principals, "AWS": new if changed == old else changed}
    return members
