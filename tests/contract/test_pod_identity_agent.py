"""The Pod Identity agent as a process: SDKs in pods get credentials from it."""

import asyncio
import os
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import boto3  # type: ignore[import-untyped] # it has no types of its own
import pytest

from hyperpod_ebs.emulator.emulator import Emulator
from tests.support.emulator_clients import Aws, cloud
from tests.support.emulator_commands import EMULATOR
from tests.support.iam_users import allow, create_user
from tests.support.pod_identity_agent import start_agent
from tests.support.pod_tokens import create_role, pod_token

ACTION: Final = "eks-auth:AssumeRoleForPodIdentity"


async def associate(aws: Aws) -> None:
    """Associate a role that may describe volumes with the service account of the tests' tokens."""
    await aws.create_eks_cluster()
    role = await create_role(aws, "pods", allows="ec2:DescribeVolumes")
    pods = {"namespace": "kube-system", "serviceAccount": "ebs", "roleArn": role}
    await aws("eks", "create_pod_identity_association", clusterName="eks", **pods)


async def answer(url: str, token: str) -> tuple[int, str]:
    """The status and the text with which the agent answers a token."""

    def get() -> tuple[int, str]:
        request = urllib.request.Request(url, headers={"Authorization": token})  # noqa: S310 - http, to the agent
        try:
            with urllib.request.urlopen(request, timeout=10) as answered:  # noqa: S310 - http, to the agent
                return answered.status, answered.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    return await asyncio.to_thread(get)


@pytest.fixture
def pod_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """The environment of a pod's SDK, which has no credentials but those of the agent."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-credentials"))
    return monkeypatch


async def test_an_sdk_in_a_pod_gets_credentials_from_the_agent(
    emulator: Emulator, aws: Aws, pod_environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """AWS SDKs and Tools Reference Guide, "Container credential provider"."""
    await associate(aws)
    (tmp_path / "token").write_text(pod_token(emulator, "eks"))

    def call() -> Any:
        session: Any = boto3.Session(region_name="us-west-2")  # Any: boto3 creates its methods at run time
        found = session.get_credentials()
        arn = session.client("sts", endpoint_url=emulator.url).get_caller_identity()["Arn"]
        return found.method, arn, session.client("ec2", endpoint_url=emulator.url).describe_volumes()["Volumes"]

    async with start_agent(emulator) as agent:
        pod_environment.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", agent.url)
        pod_environment.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(tmp_path / "token"))
        method, arn, volumes = await asyncio.to_thread(call)

    assert (method, volumes) == ("container-role", [])
    assert arn.startswith("arn:aws:sts::123456789012:assumed-role/pods/eks-eks-")


async def test_an_sdk_asks_again_before_its_credentials_expire(
    pod_environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """AWS SDKs and Tools Reference Guide, "Container credential provider": credentials are refreshed."""

    def keys() -> set[str]:
        found: Any = boto3.Session(region_name="us-west-2").get_credentials()  # Any: None without credentials
        return {found.get_frozen_credentials().access_key for _ in range(2)}

    async with cloud(pod_seconds=60) as (emulator, aws):
        await associate(aws)
        (tmp_path / "token").write_text(pod_token(emulator, "eks"))
        async with start_agent(emulator) as agent:
            pod_environment.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", agent.url)
            pod_environment.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(tmp_path / "token"))
            known = await asyncio.to_thread(keys)
        sessions = emulator.world.store.sessions

        assert len(known) == 2
        assert known <= set(sessions)
        lifetimes = {sessions[key].expires - sessions[key].issued for key in known}
        assert all(timedelta(seconds=58) < timedelta(seconds=each) <= timedelta(seconds=60) for each in lifetimes)


async def test_a_pod_that_gets_nothing_learns_why_and_no_token_is_logged(emulator: Emulator, aws: Aws) -> None:
    """aws/eks-pod-identity-agent, pkg/errors/errors.go: the status and the code of EKS Auth."""
    await associate(aws)
    await create_user(emulator, aws, "node", allow(ACTION))
    expired = pod_token(emulator, "eks", exp=int((datetime.now(UTC) - timedelta(hours=1)).timestamp()))
    other = pod_token(emulator, "eks", sub="system:serviceaccount:kube-system:other")
    key = (await aws("iam", "create_access_key", UserName="node"))["AccessKey"]
    own = {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}

    async with start_agent(emulator, **own) as agent:
        answers = [await answer(agent.url, token) for token in ("", expired, other, pod_token(emulator, "eks"))]
        await aws("iam", "delete_user_policy", UserName="node", PolicyName="own")
        denied = await answer(agent.url, pod_token(emulator, "eks"))

    assert [status for status, _ in answers] == [400, 400, 400, 200]
    assert [text.partition(")")[0] for _, text in answers[1:3]] == ["(ExpiredTokenException", "(InvalidTokenException"]
    assert denied[0] == 400
    assert f"not authorized to perform: {ACTION}" in denied[1]
    assert "ExpiredTokenException" in agent.log
    assert not [part for part in expired.split(".") + other.split(".") if part in agent.log]


async def test_an_agent_without_its_address_ends_with_one_line() -> None:
    """The address belongs to no interface of this machine; the region is where AWS's other SDKs look for it."""
    words = ("pod-identity-agent", "--cluster", "eks", "--address", "192.0.2.1", "--port", "80")
    env = {name: value for name, value in os.environ.items() if name != "AWS_DEFAULT_REGION"}
    process = await asyncio.create_subprocess_exec(
        *EMULATOR, *words, env={**env, "AWS_REGION": "us-west-2"}, stderr=asyncio.subprocess.PIPE
    )

    _, log = await process.communicate()

    assert process.returncode == 1
    assert log.decode().startswith("the Pod Identity agent cannot serve on 192.0.2.1:80: [Errno 99]")
    assert len(log.splitlines()) == 1
