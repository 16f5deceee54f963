"""The operations of STS, called by any AWS client."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any, Final, Protocol

from hyperpod_ebs.emulator.emulator import Emulator
from hyperpod_ebs.emulator.identity.access_denied import encode
from hyperpod_ebs.iam.decision import DeniedImplicitly, Source
from hyperpod_ebs.iam.request import Principal, PrincipalType, Request
from tests.support.roles import ACCOUNT, put_provider, put_role
from tests.support.token_issuer import AUDIENCE, SUBJECT, serve_issuer

STS_OPERATIONS: Final = frozenset(
    {
        *("AssumeRole", "AssumeRoleWithWebIdentity", "DecodeAuthorizationMessage", "GetAccessKeyInfo"),
        *("GetCallerIdentity", "GetSessionToken"),
    }
)


class Caller(Protocol):
    """An AWS client: an SDK or the AWS CLI."""

    async def __call__(self, service: str, operation: str, **members: Any) -> Any:
        """Call the operation and return its answer."""
        ...


def sts_error_cases(role: str) -> Mapping[str, tuple[Mapping[str, Any], str]]:
    """A call of each operation that must fail, and the error's code; for GetCallerIdentity the error is planned."""
    session = {"RoleArn": role, "RoleSessionName": "me"}
    return {
        "AssumeRole": (session, "AccessDenied"),
        "AssumeRoleWithWebIdentity": ({**session, "WebIdentityToken": "a.b.c"}, "InvalidIdentityToken"),
        "DecodeAuthorizationMessage": ({"EncodedMessage": "abc"}, "InvalidAuthorizationMessageException"),
        "GetAccessKeyInfo": ({"AccessKeyId": "AKIA0000000000000000"}, "InvalidClientTokenId"),
        "GetCallerIdentity": ({}, "ExpiredToken"),
        "GetSessionToken": ({"TokenCode": "123456"}, "AccessDenied"),
    }


def denied_message() -> str:
    """The encoded message of a denied call of EC2."""
    bob = Principal(type=PrincipalType.USER, arn=f"arn:aws:iam::{ACCOUNT}:user/bob", account=ACCOUNT)
    request = Request(principal=bob, action="ec2:DeleteVolume", resource="*", resource_account=ACCOUNT)
    return encode(request, DeniedImplicitly(source=Source.IDENTITY, nearest=None))


async def call_every_sts_operation(aws: Caller, emulator: Emulator) -> None:
    """Call each operation but GetCallerIdentity, and check the answers."""
    async with serve_issuer() as issuer:
        provider = put_provider(emulator, issuer.url, AUDIENCE)
        web = {"Effect": "Allow", "Principal": {"Federated": provider}, "Action": "sts:AssumeRoleWithWebIdentity"}
        work, pod = put_role(emulator, "work"), put_role(emulator, "pod", web)
        key, token = emulator.env["AWS_ACCESS_KEY_ID"], issuer.token()

        async with asyncio.TaskGroup() as group:
            assumed, federated, user, info, decoded = [
                group.create_task(call)
                for call in (
                    aws("sts", "AssumeRole", RoleArn=work, RoleSessionName="me"),
                    aws("sts", "AssumeRoleWithWebIdentity", RoleArn=pod, RoleSessionName="me", WebIdentityToken=token),
                    aws("sts", "GetSessionToken", DurationSeconds=900),
                    aws("sts", "GetAccessKeyInfo", AccessKeyId=key),
                    aws("sts", "DecodeAuthorizationMessage", EncodedMessage=denied_message()),
                )
            ]

    web_identity = federated.result()
    assert assumed.result()["AssumedRoleUser"]["Arn"].endswith(":assumed-role/work/me")
    assert (web_identity["SubjectFromWebIdentityToken"], web_identity["Audience"]) == (SUBJECT, AUDIENCE)
    assert user.result()["Credentials"]["AccessKeyId"].startswith("ASIA")
    assert info.result()["Account"] == ACCOUNT
    assert json.loads(decoded.result()["DecodedMessage"])["context"]["action"] == "ec2:DeleteVolume"
