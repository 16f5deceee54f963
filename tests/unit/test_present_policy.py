"""Statements that are added to the present policy of a key: each principal keeps what it may do."""

from collections.abc import Mapping
from typing import Any, Final

from hypothesis import given
from hypothesis import strategies as st

from hyperpod_ebs.access.policy.key_documents import KeyUsers, key_policy, key_statements
from hyperpod_ebs.access.policy.present_policy import with_statements
from hyperpod_ebs.access.policy.statements import Setting

SETTING: Final = Setting(partition="aws", region="us-west-2", account="111122223333")
ROLES: Final = tuple(SETTING.iam_arn(f"role/{name}") for name in ("one", "two", "three"))
USERS: Final = st.builds(
    KeyUsers,
    driver=st.sampled_from(("", *ROLES)),
    callers=st.lists(st.sampled_from(ROLES), unique=True).map(tuple),
    execution_roles=st.lists(st.sampled_from(ROLES), unique=True).map(tuple),
)


def statements_for(users: KeyUsers) -> list[dict[str, Any]]:
    """The statements for users."""
    return [statement.json for statement in key_statements(SETTING, users)]


def allowances(policy: Mapping[str, Any]) -> set[tuple[str, str, str]]:
    """Who may do what under which condition."""

    def as_list(value: Any) -> list[Any]:
        return value if isinstance(value, list) else [value]

    return {
        (principal, action, repr(statement.get("Condition")))
        for statement in policy["Statement"]
        for principal in as_list(statement["Principal"]["AWS"])
        for action in as_list(statement["Action"])
    }


@given(USERS, USERS)
def test_each_user_of_two_additions_has_what_it_needs_and_nothing_else(first: KeyUsers, second: KeyUsers) -> None:
    """KMS API reference, PutKeyPolicy: the call replaces the key's policy."""
    policy = with_statements(key_policy(SETTING, first).json, statements_for(second))

    both = {"Statement": [*key_policy(SETTING, first).json["Statement"], *statements_for(second)]}  # type: ignore[misc] # a list
    assert allowances(policy) == allowances(both)
    sids = [statement["Sid"] for statement in policy["Statement"]]
    assert len(set(sids)) == len(sids)
    assert with_statements(policy, statements_for(second)) == policy


def test_a_statement_in_another_notation_is_the_same() -> None:
    """SageMaker's guide prints a JSON boolean and a list of one."""
    users = KeyUsers(callers=ROLES[:1])
    policy: Any = key_policy(SETTING, users).json
    condition = policy["Statement"][2]["Condition"]
    condition["Bool"]["kms:GrantIsForAWSResource"] = True
    condition["ForAllValues:StringEquals"]["kms:GrantOperations"] = ["Decrypt"]
    policy["Statement"][2] |= {"Action": ["kms:CreateGrant"], "Principal": {"AWS": [ROLES[0]]}}
    del policy["Statement"][2]["Sid"]

    changed: Any = with_statements(policy, statements_for(KeyUsers(callers=ROLES[1:2])))

    assert len(changed["Statement"]) == len(policy["Statement"])
    assert changed["Statement"][2] == {**policy["Statement"][2], "Principal": {"AWS": list(ROLES[:2])}}


def test_a_statement_of_the_same_name_that_allows_something_else_stays() -> None:
    other = {"Sid": "DescribeKey", "Effect": "Deny", "Principal": {"AWS": "*"}, "Action": "kms:*", "Resource": "*"}

    changed = with_statements({"Statement": other}, statements_for(KeyUsers(callers=ROLES[:1])))

    assert changed["Statement"][0] == other
    assert [statement["Sid"] for statement in changed["Statement"]] == ["DescribeKey", "DescribeKey2", "AttachVolumes"]
