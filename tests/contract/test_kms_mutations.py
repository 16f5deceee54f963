"""Mutated requests: KMS answers each in its own form, and a request that gets an error changes nothing."""

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import aiohttp
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from hyperpod_ebs.emulator.emulator import Emulator
from tests.support.emulator_clients import Aws

REQUESTS: Final = 2_000
SEED: Final = 10

Json = Any  # JSON

_BAD: Final[Sequence[Json]] = (
    *(None, True, 0, -1, 1.5, 10**30, "", "x", "\ud800", "\x00", "alias/", "arn:aws:kms:::", "a" * 9000, "é"),
    *([], [[]], {}, {"a": {}}, {"": ""}, ["Decrypt", 1], "====", "AAAA", "AQ" * 40),
)


def valid_requests(key: str, spare: str) -> Mapping[str, Mapping[str, Json]]:
    """A request of each operation that takes more than a key; `spare` is a key that may be deleted."""
    principal = "arn:aws:iam::123456789012:root"
    context = {"aws:ebs:id": "vol-1"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": []})
    return {
        "CreateKey": {"Policy": policy, "KeySpec": "RSA_2048", "Tags": [{"TagKey": "a", "TagValue": "b"}]},
        "DescribeKey": {"KeyId": key, "GrantTokens": ["x"]},
        "ScheduleKeyDeletion": {"KeyId": spare, "PendingWindowInDays": 1},
        "EnableKeyRotation": {"KeyId": key, "RotationPeriodInDays": 1},
        "TagResource": {"KeyId": key, "Tags": [{"TagKey": "aws:a", "TagValue": "b"}]},
        "UntagResource": {"KeyId": key, "TagKeys": [""]},
        "ListResourceTags": {"KeyId": key, "Limit": 1, "Marker": "x"},
        "CreateAlias": {"AliasName": "alias/aws/a", "TargetKeyId": key},
        "PutKeyPolicy": {"KeyId": key, "Policy": policy, "PolicyName": "default"},
        "CreateGrant": {
            "KeyId": key,
            "GranteePrincipal": principal,
            "Operations": ["Decrypt"],
            "Constraints": {"EncryptionContextSubset": context},
            "Name": "one",
            "DryRun": True,
        },
        "RetireGrant": {"GrantToken": "x", "DryRun": True},
        "ListRetirableGrants": {"RetiringPrincipal": principal, "Marker": "x"},
        "Encrypt": {"KeyId": key, "Plaintext": "AAAA", "EncryptionContext": context, "DryRun": True},
        "Decrypt": {"CiphertextBlob": "AQ==", "EncryptionContext": context, "KeyId": key},
        "ReEncrypt": {"CiphertextBlob": "AQ==", "DestinationKeyId": key, "SourceEncryptionContext": context},
        "GenerateDataKey": {"KeyId": key, "KeySpec": "AES_256", "NumberOfBytes": 1},
    }


def mutations(valid: Mapping[str, Mapping[str, Json]], count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Operations with bodies that are changed in one or two places."""
    generator = random.Random(seed)  # noqa: S311 - must be repeatable
    for _ in range(count):
        operation = generator.choice([*valid])
        request = json.loads(json.dumps(valid[operation]))
        for _ in range(generator.randint(1, 2)):
            _mutate(request, generator)
        body = json.dumps(request).encode()
        if generator.random() < 0.1:
            cut = generator.randrange(len(body))
            body = body[:cut] + generator.randbytes(2) + body[cut + 1 :]
        yield operation, body


def _mutate(request: dict[str, Json], generator: random.Random) -> None:
    target: Json = request
    name = generator.choice([*target]) if target else "KeyId"
    while isinstance(target.get(name), dict) and target[name] and generator.random() < 0.5:
        target = target[name]
        name = generator.choice([*target])
    match generator.randrange(4):
        case 0:
            target[name] = generator.choice(_BAD)
        case 1:
            target.pop(name, None)
        case 2:
            target[name] = [target.get(name)] * generator.randint(1, 60)
        case _:
            target[generator.choice(["KeyId", "keyid", "", "é", "Marker"])] = generator.choice(_BAD)


async def send(session: aiohttp.ClientSession, emulator: Emulator, operation: str, body: bytes) -> tuple[int, str]:
    """Send a signed request; the status and the body of the answer."""
    headers = {"content-type": "application/x-amz-json-1.1", "x-amz-target": f"TrentService.{operation}"}
    request: Any = AWSRequest(method="POST", url=emulator.url, data=body, headers=headers)
    env = emulator.env
    credentials = Credentials(env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"])
    SigV4Auth(credentials, "kms", "us-west-2").add_auth(request)
    async with session.post(emulator.url, data=body, headers=dict(request.headers.items())) as answer:
        return answer.status, await answer.text()


def state(emulator: Emulator) -> object:
    """All keys, aliases and grants."""
    store = emulator.world.store
    return {**store.kms_keys}, {**store.kms_aliases}, {**store.kms_grants}


async def test_two_thousand_mutated_requests_get_answers_of_kms(emulator: Emulator, aws: Aws) -> None:
    """KMS API reference, "Common Errors": a malformed request is the caller's fault and changes nothing."""
    key, spare = [(await aws("kms", "create_key"))["KeyMetadata"]["KeyId"] for _ in range(2)]
    errors = 0

    async with aiohttp.ClientSession() as session:
        for operation, body in mutations(valid_requests(key, spare), REQUESTS, SEED):
            before = state(emulator)
            status, text = await send(session, emulator, operation, body)
            if status != 200:
                errors += 1
                assert (status, bool(json.loads(text)["__type"])) == (400, True), (operation, body, text)
                assert state(emulator) == before, (operation, body, text)

    assert errors > REQUESTS * 0.8
