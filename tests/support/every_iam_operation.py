"""Scenarios for any AWS client: every operation of IAM once with success, and the members of a call with an error."""

import json
from collections.abc import Mapping
from typing import Any, Final, Protocol

from tests.support.iam_users import allow, document

DOCUMENT: Final = document(allow("ec2:DescribeVolumes"))

USERS: Final = frozenset(
    {
        *("CreateUser", "GetUser", "ListUsers", "UpdateUser", "DeleteUser"),
        *("CreateAccessKey", "ListAccessKeys", "UpdateAccessKey", "DeleteAccessKey"),
    }
)
INLINE: Final = frozenset(
    f"{verb}{kind}{noun}"
    for kind in ("User",)
    for verb, noun in (("Put", "Policy"), ("Get", "Policy"), ("Delete", "Policy"), ("List", "Policies"))
)
IAM_OPERATIONS: Final = USERS | INLINE


class Client(Protocol):
    """An AWS client."""

    async def __call__(self, service: str, operation: str, **members: Any) -> Any:
        """Call the operation and return its answer."""
        ...


async def call_every_iam_operation(aws: Client) -> None:
    """Call each operation of IAM, and check the answers; what is created is deleted."""
    await _call_operations_on_users(aws)


async def _call_operations_on_users(aws: Client) -> None:
    created = await aws("iam", "CreateUser", UserName="ann", Path="/people/")
    await aws("iam", "UpdateUser", UserName="ann", NewUserName="Anna")
    shown, listed = await aws("iam", "GetUser", UserName="Anna"), await aws("iam", "ListUsers", PathPrefix="/people/")
    assert created["User"]["UserId"] == shown["User"]["UserId"] == listed["Users"][0]["UserId"]
    assert shown["User"]["Arn"] == "arn:aws:iam::123456789012:user/people/Anna"

    key = (await aws("iam", "CreateAccessKey", UserName="Anna"))["AccessKey"]["AccessKeyId"]
    await aws("iam", "UpdateAccessKey", UserName="Anna", AccessKeyId=key, Status="Inactive")
    (metadata,) = (await aws("iam", "ListAccessKeys", UserName="Anna"))["AccessKeyMetadata"]
    assert (metadata["AccessKeyId"], metadata["Status"]) == (key, "Inactive")
    await aws("iam", "DeleteAccessKey", UserName="Anna", AccessKeyId=key)

    await _call_operations_on_inline_policies(aws, "User", "Anna")
    await aws("iam", "DeleteUser", UserName="Anna")


async def _call_operations_on_inline_policies(aws: Client, kind: str, name: str) -> None:
    owner = {f"{kind}Name": name}
    await aws("iam", f"Put{kind}Policy", **owner, PolicyName="see", PolicyDocument=DOCUMENT)
    shown = await aws("iam", f"Get{kind}Policy", **owner, PolicyName="see")
    names = await aws("iam", f"List{kind}Policies", **owner)
    await aws("iam", f"Delete{kind}Policy", **owner, PolicyName="see")
    assert shown["PolicyDocument"] == json.loads(DOCUMENT)
    assert names["PolicyNames"] == ["see"]


def iam_error_cases() -> Mapping[str, tuple[Mapping[str, Any], str]]:
    """The members of a call of each operation that must answer an error, and the error's code."""
    stranger, of_stranger = {"UserName": "stranger"}, {"UserName": "stranger", "PolicyName": "none"}
    cases: dict[str, tuple[Mapping[str, Any], str]] = {
        "CreateUser": ({"UserName": "EMULATOR"}, "EntityAlreadyExists"),
        "ListUsers": ({"Marker": "?"}, "ValidationError"),
        "PutUserPolicy": ({**of_stranger, "PolicyDocument": DOCUMENT}, "NoSuchEntity"),
        "UpdateAccessKey": ({**stranger, "AccessKeyId": "AKIA" + 16 * "X", "Status": "Active"}, "NoSuchEntity"),
        "DeleteAccessKey": ({**stranger, "AccessKeyId": "AKIA" + 16 * "X"}, "NoSuchEntity"),
    }
    for operation in ("GetUserPolicy", "DeleteUserPolicy"):
        cases[operation] = (of_stranger, "NoSuchEntity")
    for operation in IAM_OPERATIONS - {*cases}:
        cases[operation] = (stranger, "NoSuchEntity")
    return cases
