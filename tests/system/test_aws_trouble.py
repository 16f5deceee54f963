"""A controller without AWS: it starts, says what is wrong wherever one looks, and heals when that is mended."""

import asyncio
import gc
import re
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import grpc
import pytest

from hyperpod_ebs.driver.aws import connection
from hyperpod_ebs.driver.aws.session import Settings
from hyperpod_ebs.emulator.emulator import Emulator
from hyperpod_ebs.emulator.wire.operations import AwsFault
from hyperpod_ebs.pb import csi_pb2
from tests.support.controller_process import NOWHERE, UNKNOWN, controller, environment
from tests.support.driver_fleet import eventually
from tests.support.emulator_clients import Aws, cloud

KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-west-2"}
"""What it takes to ask somebody who is not AWS."""


@pytest.fixture
async def clouds() -> AsyncGenerator[tuple[Emulator, Aws]]:
    """A cloud, and somebody else's clients of it."""
    async with cloud() as both:
        yield both
        gc.collect()  # a channel takes a lock when it goes, which may not be in the middle of the emulator's work


@pytest.fixture
def emulator(clouds: tuple[Emulator, Aws]) -> Emulator:
    """The cloud alone."""
    return clouds[0]


@pytest.mark.requirement("controller.starts-without-aws")
@pytest.mark.parametrize(
    ("operation", "code", "action"),
    [
        ("DescribeVolumes", "UnauthorizedOperation", "ec2:DescribeVolumes"),
        ("GetCallerIdentity", "AccessDenied", "sts:GetCallerIdentity"),
    ],
    ids=["EC2", "STS"],
)
async def test_a_wrong_role_is_named_and_mended_without_a_restart(
    emulator: Emulator, short_path: Path, operation: str, code: str, action: str
) -> None:
    """Issue: the driver with a wrong role starts, says what is wrong in log, probe and page, and heals."""
    emulator.faults.plan(operation, AwsFault(code, "You are not authorized."), times=1000)

    async with controller(short_path, environment(emulator)) as one:
        status, text = await one.page("/healthz")

        assert (status, await one.ready(), (await one.page("/livez"))[0]) == (503, False, 200)
        assert f"{action} on * is denied: You are not authorized; let the driver's role have " in text
        assert "aws_ebs_csi_healthy 0.0" in (await one.page("/metrics", metrics=True))[1]
        emulator.faults.clear()
        await eventually(one.well)
        assert (await one.refusal()).code() is grpc.StatusCode.NOT_FOUND
        one.process.running.terminate()
        await one.process.ended()
        told = [line for line in "".join(one.process.said).splitlines() if action in line]
        assert len(told) == 2, "once when it came, once when it went"


@pytest.mark.requirement("controller.starts-without-aws")
async def test_an_aws_that_does_not_answer_is_waited_for(emulator: Emulator, short_path: Path) -> None:
    """Issue: the driver without AWS."""
    emulator.faults.plan("DescribeVolumes", drop=True, times=1000)

    async with controller(short_path, environment(emulator)) as one:
        assert not await one.well()
        assert "no answer from AWS" in (await one.page("/healthz"))[1]
        emulator.faults.clear()
        await eventually(one.well)


@pytest.mark.requirement("controller.starts-without-aws")
async def test_without_credentials_each_call_says_what_to_give(emulator: Emulator, short_path: Path) -> None:
    """Issue; and what the SDK finds later is taken: here a file, in a pod the agent of Pod Identity."""
    file = short_path / "credentials"
    env = environment(emulator, "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    env |= {"AWS_SHARED_CREDENTIALS_FILE": str(file), "AWS_EC2_METADATA_DISABLED": "true"}

    async with controller(short_path, env) as one:
        assert not await one.well()
        error = await one.refusal()
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert "give the driver's service account a role (IRSA or Pod Identity)" in (error.details() or "")

        key, secret = emulator.env["AWS_ACCESS_KEY_ID"], emulator.env["AWS_SECRET_ACCESS_KEY"]
        file.write_text(f"[default]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n")
        await eventually(one.well)
        assert (await one.refusal()).code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.requirement("controller.starts-without-aws")
async def test_it_serves_before_aws_has_answered(short_path: Path) -> None:
    """Design: a second from start to serving, and what is not known is not called well."""

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as aws:
        env = {**NOWHERE, **KEYS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{aws.sockets[0].getsockname()[1]}"}
        async with controller(short_path, env, looked=False) as one:
            assert await one.tells("AWS is not reached yet")
            assert not await one.ready()


async def test_what_is_asked_before_the_first_look_waits_for_it(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours: an error would only be asked again, a second later."""
    for name, value in emulator.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(connection, "FIRST_LOOK", 60.0)

    async with connection.connected(Settings()) as aws:
        assert await aws.zones()


@pytest.mark.requirement("controller.starts-without-aws")
@pytest.mark.parametrize(
    "credentials",
    [
        {"AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/driver", "AWS_WEB_IDENTITY_TOKEN_FILE": "/nonexistent/token"},
        {
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://169.254.170.23/v1/credentials",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "/nonexistent/token",
        },
    ],
    ids=["IRSA", "Pod Identity"],
)
async def test_a_token_that_is_not_mounted_is_named_and_waited_for(
    emulator: Emulator, short_path: Path, credentials: dict[str, str]
) -> None:
    """Issue: the SDK lets the missing file's own error through, which ended the controller."""
    env = environment(emulator, "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY") | credentials

    async with controller(short_path, env) as one:
        await eventually(lambda: one.tells("/nonexistent/token"))
        assert (await one.refusal()).code() is grpc.StatusCode.UNAVAILABLE


async def test_an_answer_that_is_not_awss_is_waited_over(short_path: Path) -> None:
    """Ours: a proxy or a portal that answers in AWS's place, with a page of its own."""
    page = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nlog in"

    async def answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(2**16)
        writer.write(page)
        writer.close()

    async with await asyncio.start_server(answered, "127.0.0.1", 0) as proxy:
        env = {**NOWHERE, **KEYS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}"}
        async with controller(short_path, env) as one:
            await eventually(lambda: one.tells("the answer is not AWS's"))
            assert (await one.refusal()).code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.requirement("controller.starts-without-aws")
async def test_without_a_region_and_metadata_the_controller_says_what_to_set(
    emulator: Emulator, short_path: Path
) -> None:
    """Issue: the driver without metadata; a region that comes with the cluster's ARN is one."""
    env = environment(emulator, "AWS_REGION", "AWS_DEFAULT_REGION")
    env["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = "http://127.0.0.1:9"
    region = emulator.env["AWS_REGION"]

    async with controller(short_path, env) as one:
        assert not await one.well()
        assert "give --region or set AWS_REGION" in (await one.page("/healthz"))[1]
    arn = f"arn:aws:sagemaker:{region}:123456789012:cluster/abcdefghijkl"
    async with controller(short_path, env, f"--cluster-arn={arn}") as one:
        assert await one.well()


async def test_a_region_is_found_in_metadata(clouds: tuple[Emulator, Aws], short_path: Path) -> None:
    """Upstream: what every EC2 instance knows of itself need not be said."""
    emulator, aws = clouds
    env = environment(emulator, "AWS_REGION", "AWS_DEFAULT_REGION")
    env["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = emulator.metadata_url(await aws.instance())

    async with controller(short_path, env) as one:
        assert await one.well()


async def test_calls_to_aws_are_counted_by_upstreams_names(emulator: Emulator, short_path: Path) -> None:
    """Upstream's metrics, by request and code; the old names on demand; SageMaker and STS too, which it leaves out."""
    emulator.faults.plan("AttachClusterNodeVolume", AwsFault("ThrottlingException", "Rate exceeded"), times=3)
    flags = ("--deprecated-metrics=true", "--user-agent-extra=helm")

    async with controller(short_path, environment(emulator), *flags) as one:
        mode = csi_pb2.VolumeCapability.AccessMode(mode=csi_pb2.VolumeCapability.AccessMode.Mode.SINGLE_NODE_WRITER)
        publish: Any = one.csi.ControllerPublishVolume
        with pytest.raises(grpc.aio.AioRpcError):
            await publish(
                csi_pb2.ControllerPublishVolumeRequest(
                    volume_id=UNKNOWN.volume_id,
                    node_id="hyperpod-abcdefghijkl-i-0123456789abcdef0",
                    volume_capability=csi_pb2.VolumeCapability(
                        block=csi_pb2.VolumeCapability.BlockVolume(), access_mode=mode
                    ),
                )
            )
        text = (await one.page("/metrics", metrics=True))[1]

    for line in (
        r'aws_ebs_csi_api_request_duration_seconds_count\{request="DescribeVolumes"\} 1.0',
        r'aws_ebs_csi_api_request_duration_seconds_count\{request="GetCallerIdentity"\} 1.0',
        r'aws_ebs_csi_api_request_throttles_total\{operation_name="AttachClusterNodeVolume"\} 3.0',
        r'cloudprovider_aws_api_throttled_requests_total\{operation_name="AttachClusterNodeVolume"\} 3.0',
        r'cloudprovider_aws_api_request_duration_seconds_count\{request="DescribeVolumes"\} 1.0',
        r'aws_ebs_csi_rpc_duration_seconds_count\{code="UNAVAILABLE",method="ControllerPublishVolume"\} 1.0',
    ):
        assert re.search(f"^{line}$", text, re.MULTILINE), line


async def test_the_sdks_debug_log_shows_questions_and_answers_and_no_credentials(
    emulator: Emulator, short_path: Path
) -> None:
    """Upstream's --aws-sdk-debug-log, which prints whatever is sent."""
    async with controller(short_path, environment(emulator), "--aws-sdk-debug-log") as one:
        await one.refusal()
        one.process.running.terminate()
        await one.process.ended()
        said = "".join(one.process.said)

    assert "aws asked" in said
    assert "vol-0123456789abcdef0" in said
    assert "GetCallerIdentity" not in said
    assert emulator.env["AWS_SECRET_ACCESS_KEY"] not in said
    assert "Signature=" not in said
