"""The credentials of a machine's role, which programs on the machine get from its metadata."""

import asyncio
from pathlib import Path
from typing import Any, Final

import aiohttp
import boto3  # type: ignore[import-untyped] # it has no types of its own
import pytest
from botocore.exceptions import ClientError

from hyperpod_ebs.emulator.emulator import Emulator
from hyperpod_ebs.emulator.identity import sessions
from hyperpod_ebs.emulator.nodes import instance_credentials
from tests.support.emulator_clients import GROUP, Aws, error_of
from tests.support.pod_tokens import create_role

ROLE_PATH: Final = "latest/meta-data/iam/security-credentials/"


def trust(service: str) -> dict[str, Any]:
    """A statement that lets a service assume a role."""
    return {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}


async def run_with_role(aws: Aws, *, service: str = "ec2.amazonaws.com") -> str:
    """Run an instance with a profile whose role trusts a service and may describe volumes; return its id."""
    await create_role(aws, "node", trust=trust(service), allows="ec2:DescribeVolumes")
    await aws("iam", "create_instance_profile", InstanceProfileName="nodes")
    await aws("iam", "add_role_to_instance_profile", InstanceProfileName="nodes", RoleName="node")
    return await aws.run_instance(IamInstanceProfile={"Name": "nodes"})


async def get(url: str, path: str) -> tuple[int, Any]:
    """Request a path with a session token; return the status and the text, or the JSON value in it."""
    async with aiohttp.ClientSession(url) as http:
        async with http.put("/latest/api/token", headers={"X-aws-ec2-metadata-token-ttl-seconds": "60"}) as answer:
            token = await answer.text()
        async with http.get(f"/{path}", headers={"X-aws-ec2-metadata-token": token}) as answer:
            text = await answer.text()
            return answer.status, await answer.json(content_type=None) if text.startswith("{") else text


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """The environment of a program that has no credentials but those of its machine."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-credentials"))
    return monkeypatch


async def call_on_machine(url: str, endpoint: str, machine: pytest.MonkeyPatch) -> tuple[str, str, str, str]:
    """Call AWS as boto3 does on a machine: the provider, the caller's ARN, and the codes of two EC2 calls."""
    machine.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", url)

    def call() -> tuple[str, str, str, str]:
        session: Any = boto3.Session(region_name="us-west-2")  # Any: boto3 creates its methods at run time
        method = session.get_credentials().method
        arn = session.client("sts", endpoint_url=endpoint).get_caller_identity()["Arn"]
        ec2, codes = session.client("ec2", endpoint_url=endpoint), []
        for operation in (ec2.describe_volumes, ec2.describe_instances):
            try:
                operation()
                codes.append("ok")
            except ClientError as error:
                codes.append(error_of(error)[0])
        return method, arn, codes[0], codes[1]

    return await asyncio.to_thread(call)


async def test_an_sdk_on_an_instance_has_the_permissions_of_the_instances_role(
    emulator: Emulator, aws: Aws, machine: pytest.MonkeyPatch
) -> None:
    """AWS SDKs and Tools Reference Guide, "IMDS credential provider"; the session's name is the instance's id."""
    instance = await run_with_role(aws)

    called = await call_on_machine(emulator.metadata_url(instance), emulator.url, machine)
    _, info = await get(emulator.metadata_url(instance), "latest/meta-data/iam/info")

    arn = f"arn:aws:sts::123456789012:assumed-role/node/{instance}"
    assert called == ("iam-role", arn, "ok", "UnauthorizedOperation")
    assert info["InstanceProfileArn"] == "arn:aws:iam::123456789012:instance-profile/nodes"
    assert info["InstanceProfileId"].startswith("AIPA")


async def test_an_sdk_on_a_hyperpod_node_has_the_permissions_of_the_execution_role(
    emulator: Emulator, aws: Aws, machine: pytest.MonkeyPatch
) -> None:
    """SageMaker Developer Guide, "IAM role for SageMaker HyperPod"."""
    role = await create_role(aws, "hyperpod", trust=trust("sagemaker.amazonaws.com"), allows="ec2:DescribeVolumes")
    _, (node,) = await aws.create_cluster(InstanceGroups=[{**GROUP, "ExecutionRole": role}])
    url = emulator.metadata_url(node)

    called = await call_on_machine(url, emulator.url, machine)

    arn = "arn:aws:sts::123456789012:assumed-role/hyperpod/SageMaker"
    assert called == ("iam-role", arn, "ok", "UnauthorizedOperation")
    assert await get(url, "latest/meta-data/iam/info") == (404, "404: Not Found")


async def test_a_machine_without_a_role_has_no_credentials(emulator: Emulator, aws: Aws) -> None:
    """EC2 User Guide, "Instance metadata categories": `iam` is there if a role is."""
    url = emulator.metadata_url(await aws.run_instance())

    assert (await get(url, ROLE_PATH))[0] == 404
    assert "iam" not in (await get(url, "latest/meta-data/"))[1]


async def test_a_role_that_does_not_trust_ec2_gives_no_credentials(emulator: Emulator, aws: Aws) -> None:
    """IAM User Guide, "Troubleshoot IAM and Amazon EC2": AssumeRoleUnauthorizedAccess."""
    url = emulator.metadata_url(await run_with_role(aws, service="lambda.amazonaws.com"))

    listed = await get(url, ROLE_PATH)
    status, answer = await get(url, f"{ROLE_PATH}node")

    assert (listed, status) == ((200, "node"), 200)
    assert answer["Code"] == "AssumeRoleUnauthorizedAccess"
    assert "AccessKeyId" not in answer


async def test_credentials_are_replaced_before_they_expire(
    emulator: Emulator, aws: Aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EC2 User Guide: new credentials are there at least five minutes before the old ones expire."""
    url = emulator.metadata_url(await run_with_role(aws))

    same = [(await get(url, f"{ROLE_PATH}node"))[1] for _ in range(2)]
    monkeypatch.setattr(instance_credentials, "REPLACED", instance_credentials.SECONDS)
    _, later = await get(url, f"{ROLE_PATH}node")

    assert same[0] == same[1]
    assert later["AccessKeyId"] != same[0]["AccessKeyId"]
    assert {each["Code"] for each in (same[0], later)} == {"Success"}


async def test_too_many_sessions_leave_an_instance_waiting(
    emulator: Emulator, aws: Aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EC2 User Guide, "Use the Instance Metadata Service": 503, retry the request."""
    url = emulator.metadata_url(await run_with_role(aws))
    monkeypatch.setattr(sessions, "MAX_SESSIONS", 0)

    assert (await get(url, f"{ROLE_PATH}node"))[0] == 503
