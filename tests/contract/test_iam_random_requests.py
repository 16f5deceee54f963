"""Random requests to every operation of IAM: each is answered or refused, and none ends in an internal error."""

import random
from collections import Counter
from typing import Any, Final

import boto3  # type: ignore[import-untyped] # it has no types of its own
import pytest
from botocore import xform_name
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.model import ListShape, Shape, StructureShape

from hyperpod_ebs.emulator.emulator import Emulator
from hyperpod_ebs.emulator.wire import models
from hyperpod_ebs.kit import files
from tests.support.emulator_clients import error_of
from tests.support.every_iam_operation import ACCOUNT, AWS_POLICY, DOCUMENT, IAM_OPERATIONS, TRUST

ROUNDS: Final = 12
"""Requests to each operation."""

NAMES: Final = ["a", "A", "b", "a.b", "a b", "", "x" * 200, "ä", "../a", "*"]
ARNS: Final = [
    *(f"arn:aws:iam::{ACCOUNT}:{kind}/{name}" for kind in ("user", "group", "role", "policy") for name in ("a", "b")),
    f"arn:aws:iam::{ACCOUNT}:oidc-provider/issuer.example.com",
    AWS_POLICY,
    "arn:aws:iam::aws:policy/*",
    "arn:aws:iam::::::::::::",
    "x" * 30,
]
DOCUMENTS: Final = [
    DOCUMENT,
    TRUST,
    "{}",
    "[]",
    "[" * 1000,
    '{"Statement":[]}',
    '{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"${aws:username}"}}',
    '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::1:x"},"Action":"sts:*"}]}',
    DOCUMENT + " " * 20_000,
]
POOLS: Final = (
    ("Document", DOCUMENTS),
    ("PolicyInputList", DOCUMENTS),
    ("ResourcePolicy", DOCUMENTS),
    ("Arn", ARNS),
    ("PermissionsBoundary", ARNS),
    ("Name", NAMES),
    ("Path", ["/", "/a/", "/aws-service-role/x/", "a", "//"]),
    ("VersionId", ["v1", "v2", "v", "v99999999999", "1"]),
    ("Marker", ["YQ==", "?", "///"]),
    ("Url", ["https://issuer.example.com", "https://[", "http://127.0.0.1", "https://", "x"]),
    ("ThumbprintList", ["ab" * 20, "x" * 40, ""]),
    ("ActionNames", ["ec2:DeleteVolume", "ec2:*", "x", "a:b:c"]),
    ("AWSServiceName", ["eks.amazonaws.com", "hyperpod.sagemaker.amazonaws.com", "x"]),
    ("DeletionTaskId", ["task/aws-service-role/eks.amazonaws.com/AWSServiceRoleForAmazonEKS/1", "task", "/"]),
    ("ContextKeyName", ["aws:username", "a", "ec2:ResourceTag/a"]),
    ("AccessKeyId", ["AKIA" + "X" * 16, "x"]),
)


def value(shape: Shape, name: str, chance: random.Random) -> Any:  # Any: a value of the shape's type
    if isinstance(shape, StructureShape):
        return {
            member: value(nested, member, chance)
            for member, nested in shape.members.items()
            if member in shape.required_members or chance.random() < 0.4
        }
    if isinstance(shape, ListShape):
        return [value(shape.member, name, chance) for _ in range(chance.choice([0, 1, 1, 2, 3]))]
    match shape.type_name:
        case "integer":
            return chance.choice([0, 1, 2, 100, 3600, 2**31 - 1])
        case "boolean":
            return chance.random() < 0.5
    if (choices := shape.metadata.get("enum")) and chance.random() < 0.9:
        return chance.choice(choices)
    return chance.choice(next((pool for end, pool in POOLS if name.endswith(end)), NAMES))


@pytest.mark.requirement("emulator.refuses-as-aws")
async def test_no_request_ends_in_an_internal_error(emulator: Emulator) -> None:
    """Names, ARNs and documents that exist, that do not, and that are malformed."""
    chance, codes = random.Random(7), Counter[str]()  # noqa: S311 - reproducible
    internal: list[tuple[str, Any]] = []
    model = models.load("iam")
    client = boto3.client(
        "iam",
        endpoint_url=emulator.url,
        aws_access_key_id=emulator.env["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=emulator.env["AWS_SECRET_ACCESS_KEY"],
        region_name="us-west-2",
        config=Config(retries={"total_max_attempts": 1}, parameter_validation=False),
    )

    def call(operation: str) -> None:
        shape = model.operation_model(operation).input_shape
        members = value(shape, "", chance) if shape else {}
        try:
            getattr(client, xform_name(operation))(**members)
        except ClientError as error:
            codes[error_of(error)[0]] += 1
            if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500) >= 500:
                internal.append((operation, members))
        else:
            codes["answered"] += 1

    operations = [operation for operation in sorted(IAM_OPERATIONS) for _ in range(ROUNDS)]
    chance.shuffle(operations)
    for operation in operations:
        await files.off_loop(call, operation)

    assert internal == []
    assert codes["answered"] > len(IAM_OPERATIONS)
    assert codes["NoSuchEntity"] > 0
