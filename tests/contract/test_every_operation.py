"""Every operation of the emulator, called by boto3: the list of operations, the answers and the errors."""

from dataclasses import dataclass
from typing import Any

import pytest
from botocore import xform_name

from hyperpod_ebs.emulator.call_log import CallLog
from hyperpod_ebs.emulator.emulator import Emulator
from hyperpod_ebs.emulator.http.dispatch import handlers_of
from hyperpod_ebs.emulator.services import create_services
from hyperpod_ebs.emulator.wire.operations import AwsFault
from tests.support.emulator_clients import Aws
from tests.support.every_iam_operation import call_every_iam_operation, plan_iam_errors
from tests.support.every_operation import (
    OPERATIONS,
    call_every_operation,
    check_every_error,
    error_cases,
    read_called_operations,
)


@dataclass(frozen=True, slots=True)
class Boto3:
    """boto3 as a client of every service."""

    aws: Aws

    async def __call__(self, service: str, operation: str, **members: Any) -> Any:
        """Call the operation and return the answer that boto3 parsed."""
        return await self.aws(service, xform_name(operation), **members)

    async def expect_error(self, service: str, operation: str, **members: Any) -> str:
        """Call the operation, which must fail; return the code in boto3's ClientError."""
        return (await self.aws.expect_error(service, xform_name(operation), **members))[0]


async def test_every_served_operation_is_called_by_these_tests(emulator: Emulator) -> None:
    """A new operation must be added to the list that boto3 and the AWS CLI call."""
    services = create_services(emulator.world, rate="off", enforces=True, call_log=CallLog()).objects

    served = {name: frozenset(handlers_of(name, objects)) for name, objects in services.items()}

    assert served == OPERATIONS


async def test_a_fault_can_be_planned_for_one_of_two_services_with_an_operation_of_the_same_name(
    emulator: Emulator, aws: Aws
) -> None:
    """Both SageMaker and EKS have DescribeCluster."""
    emulator.faults.plan("eks:DescribeCluster", AwsFault("ServerException", "out of order", 500), times=1)

    other = await aws.expect_error("sagemaker", "describe_cluster", ClusterName="nowhere")
    planned = await aws.expect_error("eks", "describe_cluster", name="nowhere")

    assert (other[0], planned[0]) == ("ResourceNotFound", "ServerException")


@pytest.mark.requirement("emulator.botocore-accepts")
async def test_boto3_gets_an_answer_to_every_operation(emulator: Emulator, aws: Aws) -> None:
    """boto3 parses each answer."""
    await call_every_iam_operation(Boto3(aws))
    await call_every_operation(Boto3(aws), emulator)

    assert await read_called_operations(emulator.url) == OPERATIONS


@pytest.mark.requirement("emulator.refuses-as-aws")
async def test_boto3_gets_an_error_from_every_operation(emulator: Emulator, aws: Aws) -> None:
    """boto3 parses each protocol's errors."""
    volume, (cluster, (node,)) = await aws.create_volume(), await aws.create_cluster()
    plan_iam_errors(emulator.faults)
    emulator.faults.plan("GetCallerIdentity", AwsFault("ExpiredToken", "The security token is expired", 403))

    await check_every_error(Boto3(aws), error_cases(volume=volume, cluster=cluster, node=node))

    assert await read_called_operations(emulator.url) == OPERATIONS
