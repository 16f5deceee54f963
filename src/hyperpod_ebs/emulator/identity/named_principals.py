"""Trust policies and key policies that name a user or role, when the user or role is renamed or deleted.

AWS stores the unique id of a user or role in place of its ARN. So a policy follows a renamed user,
shows the id of a deleted one, and does not trust a new one of the same name (IAM User Guide,
"AWS JSON policy elements: Principal").
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hyperpod_ebs.emulator.state.store import Store


def rename_principal(store: Store, old: str, new: str) -> None:
    """Replace a principal in all policies of roles and keys.

    Args:
        store: The records of the account.
        old: The ARN of a user or role.
        new: Its new ARN, or its unique id if it is deleted.
    """
    for role in [role for role in store.roles.values() if _names(role.trust, old)]:
        store.roles.put(replace(role, trust=_replaced_text(role.trust, old, new)))
    for key in [key for key in store.kms_keys.values() if _names(key.policy, old)]:
        store.kms_keys.put(replace(key, policy=_replaced_text(key.policy, old, new)))


def _names(document: str, principal: str) -> bool:
    """Whether the document has the ARN as a string, in its principals or elsewhere."""
    return json.dumps(principal) in document


def _replaced_text(document: str, old: str, new: str) -> str:
    """The document with the principal replaced; conditions keep the ARN."""
    parsed = json.loads(document)
    statements = parsed["Statement"]
    changed = [_statement(each, old, new) for each in (statements if isinstance(statements, list) else [statements])]
    return json.dumps({**parsed, "Statement": changed})


def _statement(statement: Mapping[str, Any], old: str, new: str) -> Mapping[str, Any]:  # Any: JSON
    members = dict(statement)
    for element in ("Principal", "NotPrincipal"):
        principals = members.get(element)
        if isinstance(principals, dict) and "AWS" in principals:
            names = principals["AWS"]
            changed = [new if name == old else name for name in names] if isinstance(names, list) else names
            members[element] = {**principals, "AWS": new if changed == old else changed}
    return members
