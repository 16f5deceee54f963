"""A controller without a usable AWS: it starts, reports the cause, and recovers when the cause is fixed."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest

from hyperpod_ebs import __version__
from hyperpod_ebs.demo.orchestrator import block_capability
from hyperpod_ebs.driver.aws import connection
from hyperpod_ebs.driver.aws.clients import Settings
from hyperpod_ebs.emulator.emulator import Emulator
from hyperpod_ebs.emulator.wire.operations import AwsFault
from hyperpod_ebs.pb import csi_pb2
from tests.support.callers import Caller
from tests.support.controller_process import NO_AWS_FILES, UNKNOWN_VOLUME, environment, start_controller
from tests.support.emulator_clients import ZONE, Aws
from tests.support.waiting import wait_until

KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-west-2"}
"""Credentials and a region that the SDK accepts, for an endpoint other than AWS."""


@pytest.mark.requirement("controller.starts-without-aws")
async def test_a_wrong_role_is_named_and_fixed_without_a_restart(emulator: Emulator, short_path: Path) -> None:
    """The log, the probe and the health page name the missing action."""
    code, action = "UnauthorizedOperation", "ec2:DescribeVolumes"
    emulator.faults.plan("DescribeVolumes", AwsFault(code, "You are not authorized."), times=1000)

    async with start_controller(short_path, environment(emulator)) as controller:
        status, text = await controller.get_page("/healthz")

        assert (status, await controller.is_ready(), (await controller.get_page("/livez"))[0]) == (503, False, 200)
        denial = f"{action} on * is denied to the driver's IAM role: You are not authorized ({code})"
        assert f"{denial}; allow it in the role's policy: " in text
        assert "aws_ebs_csi_healthy 0.0" in (await controller.get_page("/metrics", metrics=True))[1]
        emulator.faults.clear()
        await wait_until(controller.is_healthy)
        assert (await controller.describe_unknown_volume()).code() is grpc.StatusCode.NOT_FOUND
        controller.process.subprocess.terminate()
        await controller.process.wait()
        logged = [line for line in "".join(controller.process.log).splitlines() if action in line]
        assert len(logged) == 2, "once when it appeared, once when it was fixed"


async def test_a_check_that_aws_throttles_is_not_a_problem(emulator: Emulator, short_path: Path) -> None:
    """In a burst, the account's budget for DescribeVolumes may be used up; Probe must not fail because of that."""
    emulator.faults.plan("DescribeVolumes", AwsFault("RequestLimitExceeded", "Request limit exceeded.", 503))

    async with start_controller(short_path, environment(emulator)) as controller:
        assert await controller.get_page("/healthz") == (200, "ok\n")
        assert emulator.faults.remaining() == 0


@pytest.mark.requirement("controller.serves-without-sts")
async def test_without_sts_only_attachments_to_hyperpod_nodes_fail(
    emulator: Emulator, aws: Aws, short_path: Path
) -> None:
    """A VPC may have no endpoint for STS; AWS, "Access an AWS service using an interface VPC endpoint"."""
    emulator.faults.plan("GetCallerIdentity", AwsFault("AccessDenied", "You are not authorized."), times=1000)
    node = await aws.run_instance(Placement={"AvailabilityZone": ZONE})
    volume = await aws.create_volume()
    request = csi_pb2.ControllerPublishVolumeRequest(volume_id=volume, volume_capability=block_capability())

    async with start_controller(short_path, environment(emulator)) as controller:
        assert await controller.is_healthy()
        listed = await controller.csi.ListVolumes(csi_pb2.ListVolumesRequest())
        request.node_id = "hyperpod-abcdefghijkl-i-0123456789abcdef0"
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await controller.csi.ControllerPublishVolume(request)
        request.node_id = node
        await controller.csi.ControllerPublishVolume(request)
    emulator.faults.clear()

    assert volume in {entry.volume.volume_id for entry in listed.entries}
    assert refusal.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert "sts:GetCallerIdentity" in (refusal.value.details() or "")


@pytest.mark.requirement("controller.starts-without-aws")
async def test_the_controller_waits_for_an_aws_that_does_not_answer(emulator: Emulator, short_path: Path) -> None:
    emulator.faults.plan("DescribeVolumes", drop=True, times=1000)

    async with start_controller(short_path, environment(emulator)) as controller:
        assert not await controller.is_healthy()
        assert "no answer from AWS" in (await controller.get_page("/healthz"))[1]
        emulator.faults.clear()
        await wait_until(controller.is_healthy)


@pytest.mark.requirement("controller.starts-without-aws")
async def test_without_credentials_each_call_says_which_to_provide_and_later_ones_are_used(
    emulator: Emulator, short_path: Path
) -> None:
    """The credentials appear in a file here; in a pod, the EKS Pod Identity agent provides them."""
    file = short_path / "credentials"
    env = environment(emulator, "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    env |= {"AWS_SHARED_CREDENTIALS_FILE": str(file), "AWS_EC2_METADATA_DISABLED": "true"}

    async with start_controller(short_path, env) as controller:
        assert not await controller.is_healthy()
        error = await controller.describe_unknown_volume()
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert "give the driver's service account a role (IRSA or Pod Identity)" in (error.details() or "")

        key, secret = emulator.env["AWS_ACCESS_KEY_ID"], emulator.env["AWS_SECRET_ACCESS_KEY"]
        file.write_text(f"[default]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n")
        await wait_until(controller.is_healthy)
        assert (await controller.describe_unknown_volume()).code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.requirement("controller.starts-without-aws")
async def test_it_serves_before_aws_has_answered(short_path: Path) -> None:
    """Before the first answer the condition is unknown, and the probe does not report ready."""

    async def never_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(never_answer, "127.0.0.1", 0) as aws:
        env = {**NO_AWS_FILES, **KEYS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{aws.sockets[0].getsockname()[1]}"}
        async with start_controller(short_path, env, wait_for_aws=False) as controller:
            assert await controller.reports("the first check of AWS is still running")
            assert not await controller.is_ready()


async def test_calls_before_the_first_answer_of_aws_wait_for_it(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error would only make the sidecar retry a second later."""
    for name, value in emulator.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(connection, "FIRST_CHECK_TIMEOUT", 60.0)

    async with connection.connect(Settings()) as aws:
        assert await aws.list_zones()


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
    """The SDK raises FileNotFoundError for a missing web identity token, which no AWS error handler catches."""
    env = environment(emulator, "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY") | credentials

    async with start_controller(short_path, env) as controller:
        await wait_until(lambda: controller.reports("/nonexistent/token"))
        assert (await controller.describe_unknown_volume()).code() is grpc.StatusCode.UNAVAILABLE


async def test_the_controller_keeps_trying_while_a_proxy_answers_instead_of_aws(short_path: Path) -> None:
    """A captive portal or a proxy answers with an HTML page."""
    page = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nlog in"

    async def serve_page(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(2**16)
        writer.write(page)
        writer.close()

    async with await asyncio.start_server(serve_page, "127.0.0.1", 0) as proxy:
        env = {**NO_AWS_FILES, **KEYS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}"}
        async with start_controller(short_path, env) as controller:
            await wait_until(lambda: controller.reports("the answer does not come from AWS"))
            assert (await controller.describe_unknown_volume()).code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.requirement("controller.starts-without-aws")
async def test_without_a_region_and_metadata_the_controller_says_what_to_set(
    emulator: Emulator, short_path: Path
) -> None:
    """The region in the cluster's ARN is enough."""
    env = environment(emulator, "AWS_REGION", "AWS_DEFAULT_REGION")
    env["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = "http://127.0.0.1:9"
    region = emulator.env["AWS_REGION"]

    async with start_controller(short_path, env) as controller:
        assert not await controller.is_healthy()
        assert "give --region or set AWS_REGION" in (await controller.get_page("/healthz"))[1]
    arn = f"arn:aws:sagemaker:{region}:123456789012:cluster/abcdefghijkl"
    async with start_controller(short_path, env, f"--cluster-arn={arn}") as controller:
        assert await controller.is_healthy()


async def test_a_region_is_found_in_metadata(emulator: Emulator, aws: Aws, short_path: Path) -> None:
    """As in the upstream driver, an instance's metadata provides the region."""
    env = environment(emulator, "AWS_REGION", "AWS_DEFAULT_REGION")
    env["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = emulator.metadata_url(await aws.run_instance())

    async with start_controller(short_path, env) as controller:
        assert await controller.is_healthy()


async def test_calls_to_aws_are_counted_under_the_upstream_metric_names(emulator: Emulator, short_path: Path) -> None:
    """aws-ebs-csi-driver, docs/metrics.md. The deprecated names are there with --deprecated-metrics=true."""
    emulator.faults.plan("AttachClusterNodeVolume", AwsFault("ThrottlingException", "Rate exceeded"), times=3)
    flags = ("--deprecated-metrics=true", "--user-agent-extra=helm")

    async with start_controller(short_path, environment(emulator), *flags) as controller:
        publish: Any = controller.csi.ControllerPublishVolume
        with pytest.raises(grpc.aio.AioRpcError):
            await publish(
                csi_pb2.ControllerPublishVolumeRequest(
                    volume_id=UNKNOWN_VOLUME.volume_id,
                    node_id="hyperpod-abcdefghijkl-i-0123456789abcdef0",
                    volume_capability=block_capability(),
                )
            )
        text = (await controller.get_page("/metrics", metrics=True))[1]

    async with aiohttp.request("GET", f"{emulator.url}/_emulator/calls/latest") as answer:
        agents = {call["agent"] for call in (await answer.json())["calls"]}
    assert agents, "the emulator has logged the driver's calls"
    assert all(f" hyperpod-ebs/{__version__} helm" in agent for agent in agents), agents
    for line in (
        r'aws_ebs_csi_api_request_duration_seconds_count\{request="DescribeVolumes"\} 1.0',
        r'aws_ebs_csi_api_request_duration_seconds_count\{request="GetCallerIdentity"\} 1.0',
        r'aws_ebs_csi_api_request_throttles_total\{operation_name="AttachClusterNodeVolume"\} 3.0',
        r'cloudprovider_aws_api_throttled_requests_total\{operation_name="AttachClusterNodeVolume"\} 3.0',
        r'cloudprovider_aws_api_request_duration_seconds_count\{request="DescribeVolumes"\} 1.0',
        r'aws_ebs_csi_rpc_duration_seconds_count\{code="NOT_FOUND",method="ControllerPublishVolume"\} 1.0',
    ):
        assert re.search(f"^{line}$", text, re.MULTILINE), line


async def test_calls_that_wait_for_their_turn_are_shown_and_their_callers_learn_the_position(
    emulator: Emulator, aws: Aws, short_path: Path
) -> None:
    """CSI spec, "Timeouts": the operation continues, and a repeated call joins it."""
    node = await aws.run_instance(Placement={"AvailabilityZone": ZONE})
    publish = csi_pb2.ControllerPublishVolumeRequest(
        volume_id=await aws.create_volume(), node_id=node, volume_capability=block_capability()
    )
    emulator.faults.plan("AttachVolume", AwsFault("RequestLimitExceeded", "slower", 503), times=1000)

    async with start_controller(short_path, environment(emulator)) as controller:
        csi: Any = controller.csi
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await csi.ControllerPublishVolume(publish, timeout=4)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        expected = r"the call AttachVolume waits for its turn, with 0 calls before it and for about \d+ s more"
        assert re.search(expected, refused.value.details() or "")
        assert (refused.value.details() or "").endswith("try again to join it")

        state = json.loads((await controller.get_page("/debug/state", metrics=True))[1])
        metrics = (await controller.get_page("/metrics", metrics=True))[1]
        emulator.faults.clear()
        await csi.ControllerPublishVolume(publish)

    (operation,) = state["operations"]
    assert operation["name"] == "ControllerPublishVolume"
    assert operation["key"] == publish.volume_id
    assert "AttachVolume waits for its turn" in operation["waits_for"]
    (line,) = [line for line in state["aws_calls"] if line["operation"] == "AttachVolume"]
    assert (line["waiting"], line["next_subjects"]) == (1, [publish.volume_id])
    assert line["throttled"] >= 1
    assert line["rate"] <= line["documented_rate"]
    for text in (
        r'aws_ebs_csi_api_waiting_calls\{request="AttachVolume"\} 1.0',
        r'aws_ebs_csi_api_budget_calls\{request="AttachVolume"\} 0',
        r'aws_ebs_csi_api_budget_calls_per_second\{request="AttachVolume"\} [\d.]+',
        r'aws_ebs_csi_api_wait_seconds_count\{request="AttachVolume"\} [1-9]',
        r'aws_ebs_csi_api_request_throttles_total\{operation_name="AttachVolume"\} [1-9]',
    ):
        assert re.search(f"^{text}", metrics, re.MULTILINE), text


@pytest.mark.requirement("detach.preempts")
async def test_a_detach_does_not_wait_for_an_attach_whose_caller_has_left(
    emulator: Emulator, aws: Aws, short_path: Path
) -> None:
    """external-attacher gives up an attach when its pod is deleted, and detaches."""
    node = await aws.run_instance(Placement={"AvailabilityZone": ZONE})
    volume = await aws.create_volume()
    publish = csi_pb2.ControllerPublishVolumeRequest(
        volume_id=volume, node_id=node, volume_capability=block_capability()
    )

    async with start_controller(short_path, environment(emulator)) as controller:
        csi: Any = controller.csi
        emulator.faults.plan("DescribeVolumes", AwsFault("RequestLimitExceeded", "slower"), times=1000)
        attach = csi.ControllerPublishVolume(publish)
        await wait_until(lambda: was_called(emulator, "ec2:AttachVolume"))
        attach.cancel()
        await controller.process.wait_for_log("call cancelled by its caller")
        detach = csi.ControllerUnpublishVolume(csi_pb2.ControllerUnpublishVolumeRequest(volume_id=volume, node_id=node))
        await wait_until(lambda: was_called(emulator, "ec2:DetachVolume"))
        emulator.faults.clear()
        await detach

    assert await aws.volume_state(volume) == "available"


@pytest.mark.requirement("detach.preempts")
async def test_a_detach_waits_for_the_answer_to_an_attach_request_whose_caller_has_left(
    emulator: Emulator, aws: Aws, short_path: Path
) -> None:
    """An attachment that AWS makes after the detachment would stay for ever."""
    node = await aws.run_instance(Placement={"AvailabilityZone": ZONE})
    volume = await aws.create_volume()
    emulator.faults.plan("AttachVolume", delay=1.0)

    async with start_controller(short_path, environment(emulator)) as controller:
        csi: Any = controller.csi
        attach = csi.ControllerPublishVolume(
            csi_pb2.ControllerPublishVolumeRequest(volume_id=volume, node_id=node, volume_capability=block_capability())
        )
        await wait_until(lambda: has_met_all_faults(emulator))
        attach.cancel()
        await controller.process.wait_for_log("call cancelled by its caller")
        await csi.ControllerUnpublishVolume(csi_pb2.ControllerUnpublishVolumeRequest(volume_id=volume, node_id=node))
        outcomes = await outcomes_of(emulator, "ec2:AttachVolume")

    assert outcomes == ["ok"], "not under way any more"
    assert await aws.volume_state(volume) == "available"


@pytest.mark.requirement("detach.preempts")
@pytest.mark.parametrize("change", ["ControllerExpandVolume", "ControllerModifyVolume"])
async def test_a_volume_is_attached_and_detached_while_it_changes(
    emulator: Emulator, aws: Aws, short_path: Path, change: str
) -> None:
    """Decision 0037: a modification has a key of its own, so a pod can move meanwhile."""
    node = await aws.run_instance(Placement={"AvailabilityZone": ZONE})
    volume = await aws.create_volume()
    publish = csi_pb2.ControllerPublishVolumeRequest(
        volume_id=volume, node_id=node, volume_capability=block_capability()
    )
    request = {
        "ControllerExpandVolume": csi_pb2.ControllerExpandVolumeRequest(
            volume_id=volume, capacity_range=csi_pb2.CapacityRange(required_bytes=2 * 2**30)
        ),
        "ControllerModifyVolume": csi_pb2.ControllerModifyVolumeRequest(
            volume_id=volume, mutable_parameters={"throughput": "200"}
        ),
    }[change]

    async with start_controller(short_path, environment(emulator)) as controller:
        csi: Any = controller.csi
        emulator.faults.plan("DescribeVolumesModifications", AwsFault("RequestLimitExceeded", "slower"), times=1000)
        running = getattr(csi, change)(request)
        await wait_until(lambda: was_called(emulator, "ec2:ModifyVolume"))
        await csi.ControllerPublishVolume(publish)
        await csi.ControllerUnpublishVolume(csi_pb2.ControllerUnpublishVolumeRequest(volume_id=volume, node_id=node))
        assert not running.done()
        emulator.faults.clear()
        await running

    assert await aws.volume_state(volume) == "available"


async def was_called(emulator: Emulator, operation: str) -> bool:
    """Whether a call of this operation has reached the emulator."""
    return bool(await outcomes_of(emulator, operation))


async def outcomes_of(emulator: Emulator, operation: str) -> list[str]:
    """The outcomes of the calls of this operation: `ok`, `under way`, or the code of an error."""
    async with aiohttp.request("GET", f"{emulator.url}/_emulator/calls/latest") as answer:
        return [call["outcome"] for call in (await answer.json())["calls"] if call["operation"] == operation]


async def has_met_all_faults(emulator: Emulator) -> bool:
    """Whether a call has arrived for each planned fault."""
    return emulator.faults.remaining() == 0


@pytest.mark.requirement("events.stable")
async def test_the_log_has_the_request_id_of_a_refusal_and_the_message_has_not(
    emulator: Emulator, aws: Aws, short_path: Path
) -> None:
    """AWS Support asks for the id; an event with it would differ each time."""
    volume = await aws.create_volume()
    emulator.faults.plan("DeleteVolume", AwsFault("VolumeInUse", "no"))

    async with start_controller(short_path, environment(emulator)) as controller:
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await controller.csi.DeleteVolume(csi_pb2.DeleteVolumeRequest(volume_id=volume))
        logged = await controller.process.wait_for_log("AWS refused a call")

    assert re.search(r"operation=DeleteVolume code=VolumeInUse aws_request=[0-9a-f-]{36}", logged), logged
    assert (refusal.value.details() or "").startswith(f"cannot delete volume {volume}: no (VolumeInUse)")


async def test_the_log_has_the_encoded_message_of_a_denial_and_the_event_has_not(
    emulator: Emulator, aws: Aws, short_path: Path
) -> None:
    """AWS STS API reference, DecodeAuthorizationMessage; an event has no room for the encoded message."""
    volume, caller = await aws.create_volume(), await Caller.create(emulator, "driver")
    caller.allow([{"Effect": "Allow", "Action": "ec2:Describe*", "Resource": "*"}])
    env = {**environment(emulator), **caller.env}

    async with start_controller(short_path, env) as controller:
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await controller.csi.DeleteVolume(csi_pb2.DeleteVolumeRequest(volume_id=volume))
        logged = await controller.process.wait_for_log("AWS refused a call")

    encoded = re.search(r" encoded=([A-Za-z0-9_-]+) ", logged)
    assert encoded
    decoded = await aws("sts", "decode_authorization_message", EncodedMessage=encoded[1])
    assert '"action":"ec2:DeleteVolume"' in decoded["DecodedMessage"]
    assert "is denied to IAM user driver: no identity-based policy allows" in (refusal.value.details() or "")
    assert "ncoded" not in (refusal.value.details() or "")


async def test_the_sdks_debug_log_shows_requests_and_responses_without_credentials(
    emulator: Emulator, short_path: Path
) -> None:
    """The upstream flag --aws-sdk-debug-log; upstream prints credentials as well."""
    async with start_controller(short_path, environment(emulator), "--aws-sdk-debug-log") as controller:
        await controller.describe_unknown_volume()
        controller.process.subprocess.terminate()
        await controller.process.wait()
        text = "".join(controller.process.log)

    assert "AWS request" in text
    assert "vol-0123456789abcdef0" in text
    assert "GetCallerIdentity" not in text
    assert emulator.env["AWS_SECRET_ACCESS_KEY"] not in text
    assert "Signature=" not in text
