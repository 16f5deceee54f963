"""The gRPC server over a real socket: who may connect, how calls join, how it ends."""

import asyncio
import io
import json
import re
import signal
import socket
import stat
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
import structlog
from grpc import StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from hyperpod_ebs.driver.csi import endpoint, interceptors
from hyperpod_ebs.driver.csi.controller import Controller
from hyperpod_ebs.driver.csi.server import SOCKET, Services, serve
from hyperpod_ebs.driver.model import errors, nodes
from hyperpod_ebs.driver.model.sizes import GiB
from hyperpod_ebs.driver.model.volume import Attachment, AttachState, Volume, VolumeSpec, VolumeState
from hyperpod_ebs.driver.observe import log
from hyperpod_ebs.driver.observe.condition import Condition
from hyperpod_ebs.kit.operations import Operations
from hyperpod_ebs.pb import csi_pb2, csi_pb2_grpc
from tests.support.driver_process import HYPERPOD_NODE, node_arguments, start_driver
from tests.support.waiting import wait_until

VOLUME = "vol-0123456789abcdef0"
SECRET = "correct horse battery staple"


@dataclass
class GatedCloud:
    """A cloud with one attached volume, in which a deletion waits until the test opens the gate."""

    opened: asyncio.Event = field(default_factory=asyncio.Event)
    entered: asyncio.Event = field(default_factory=asyncio.Event)
    calls: int = 0
    error: Exception | None = None
    holds_descriptions: bool = False
    """Whether a description waits, too."""

    async def delete_volume(self, volume_id: str) -> None:
        """Wait, then delete, or raise what the test planned."""
        assert volume_id == VOLUME
        self.calls += 1
        self.entered.set()
        await self.opened.wait()
        if self.error is not None:
            raise self.error

    async def create_volume(self, spec: VolumeSpec, token: str) -> Volume:
        """Refuse the volume, as EC2 refuses a ratio that is too high."""
        assert token
        raise errors.InvalidRequest(f"{spec.iops} IOPS are too many")

    async def find_volumes_named(self, name: str) -> tuple[Volume, ...]:
        """Find no volume."""
        assert name
        return ()

    async def describe_volume(self, volume_id: str) -> Volume:
        """Describe the one volume."""
        assert volume_id == VOLUME
        if self.holds_descriptions:
            await self.opened.wait()
        held = Attachment(state=AttachState.ATTACHED, node=nodes.parse(HYPERPOD_NODE), holder=HYPERPOD_NODE)
        state = VolumeState.IN_USE
        return Volume(id=VOLUME, size=GiB(1), zone="z", state=state, type="gp3", attachments=(held,))


class WatchedLog(io.StringIO):
    """A log that a test can wait for."""

    grown: asyncio.Event

    def __init__(self) -> None:
        super().__init__()
        self.grown = asyncio.Event()

    def write(self, text: str) -> int:
        """Append the text and wake the waiting test."""
        self.grown.set()
        return super().write(text)


@dataclass
class ServedController:
    """A controller on a socket, and a client of it."""

    gate: GatedCloud
    path: Path
    channel: grpc.aio.Channel
    log: WatchedLog

    @property
    def controller(self) -> csi_pb2_grpc.ControllerStub:
        """The client."""
        return csi_pb2_grpc.ControllerStub(self.channel)

    @property
    def events(self) -> list[dict[str, Any]]:
        """The log's events."""
        return [json.loads(line) for line in self.log.getvalue().splitlines()]

    async def wait_for_calls(self, calls: int) -> None:
        """Wait until this many calls have arrived."""
        async with asyncio.timeout(5):
            while sum(event["event"] == "call received" for event in self.events) < calls:
                self.log.grown.clear()
                await self.log.grown.wait()

    def deletion(self, **more: Any) -> Any:
        """A DeleteVolume call in flight."""
        return self.controller.DeleteVolume(csi_pb2.DeleteVolumeRequest(volume_id=VOLUME, **more))


@asynccontextmanager
async def serve_controller(directory: Path, *, drain: float = 5) -> AsyncGenerator[ServedController]:
    """Serve a controller on a `GatedCloud`."""
    text, gate = WatchedLog(), GatedCloud()
    log.configure(5, "json", text)
    path = directory / "csi.sock"
    try:
        async with grpc.aio.insecure_channel(f"unix://{path}") as channel, Operations[str]() as operations:
            controller = Controller(gate, None, operations)  # type: ignore[abstract, arg-type] # the cloud has only the methods that these tests need
            async with serve(f"unix://{path}", Services(controller=controller), drain=drain):
                yield ServedController(gate, path, channel, text)
    finally:
        structlog.reset_defaults()


@pytest.fixture(name="served")
async def serve_one_controller(short_path: Path) -> AsyncGenerator[ServedController]:
    """A served controller."""
    async with serve_controller(short_path) as controller:
        yield controller


async def error_of(call: Any) -> grpc.aio.AioRpcError:
    """Await a call that fails, and return its error."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


@pytest.mark.requirement("socket.owner-only", "csi.nothing-beside-socket")
async def test_only_the_owner_may_use_the_socket(served: ServedController) -> None:
    """CSI has no authentication: the socket's mode is the only protection."""
    mode = served.path.stat().st_mode

    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600
    assert [entry.name for entry in served.path.parent.iterdir()] == ["csi.sock"]


@pytest.mark.requirement("socket.owner-only")
async def test_a_missing_directory_is_created_for_its_owner_only(short_path: Path) -> None:
    async with serve_controller(short_path / "plugins"):
        assert stat.S_IMODE((short_path / "plugins").stat().st_mode) == 0o700


async def test_a_stale_socket_is_replaced(short_path: Path) -> None:
    """A socket left by a killed process must not keep the next process from starting."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(short_path / "csi.sock"))

    async with serve_controller(short_path) as served:
        answer = await csi_pb2_grpc.IdentityStub(served.channel).Probe(csi_pb2.ProbeRequest())

    assert answer.ready.value


@pytest.mark.requirement("socket.owner-only")
async def test_a_live_socket_is_refused_and_stays(served: ServedController) -> None:
    """Two drivers on one socket would steal calls from each other."""
    with pytest.raises(errors.Refused, match="served by a live process"):
        async with serve(str(served.path), Services()):
            pass

    assert (await csi_pb2_grpc.IdentityStub(served.channel).Probe(csi_pb2.ProbeRequest())).ready.value
    assert [entry.name for entry in served.path.parent.iterdir()] == ["csi.sock"]


async def test_a_file_that_is_not_a_socket_is_refused_and_stays(short_path: Path) -> None:
    (short_path / "csi.sock").write_text("precious")

    with pytest.raises(errors.Refused, match="not a socket"):
        async with serve(str(short_path / "csi.sock"), Services()):
            pass

    assert (short_path / "csi.sock").read_text() == "precious"


@pytest.mark.requirement("csi.nothing-beside-socket")
async def test_the_socket_is_removed_at_the_end(short_path: Path) -> None:
    async with serve_controller(short_path):
        pass

    assert list(short_path.iterdir()) == []


async def test_a_successors_socket_is_left_alone(short_path: Path) -> None:
    """A process that ends late must not cut off its successor."""
    path = short_path / "csi.sock"

    async with serve_controller(short_path):
        path.unlink()
        with socket.socket(socket.AF_UNIX) as successor:
            successor.bind(str(path))
            inode = path.stat().st_ino

    assert path.stat().st_ino == inode


async def wait_until_served(path: Path) -> None:
    """Wait until a new connection to the path is answered."""

    async def answers() -> bool:
        async with grpc.aio.insecure_channel(f"unix://{path}", [("grpc.use_local_subchannel_pool", 1)]) as channel:
            try:
                return (await csi_pb2_grpc.IdentityStub(channel).Probe(csi_pb2.ProbeRequest())).ready.value
            except grpc.aio.AioRpcError:
                return False

    await wait_until(answers)


@pytest.mark.requirement("socket.comes-back")
async def test_a_socket_that_was_removed_comes_back_and_no_call_is_lost(served: ServedController) -> None:
    """Clean-up jobs remove old files below /var/lib/kubelet and /tmp, sockets in use included."""
    running = served.deletion()
    await served.gate.entered.wait()

    served.path.unlink()
    await wait_until_served(served.path)
    over_the_old_connection = served.deletion()
    await served.wait_for_calls(3)  # the second one is the Probe of `wait_until_served`
    served.gate.opened.set()
    answers = [await running, await over_the_old_connection]

    assert answers == [csi_pb2.DeleteVolumeResponse()] * 2
    assert served.gate.calls == 1
    assert stat.S_IMODE(served.path.stat().st_mode) == 0o600
    assert [entry.name for entry in served.path.parent.iterdir()] == ["csi.sock"]


@pytest.mark.requirement("socket.comes-back")
async def test_a_socket_comes_back_with_its_directory_and_as_often_as_it_is_removed(short_path: Path) -> None:
    directory = short_path / "plugin"

    async with serve_controller(directory) as served:
        for _ in range(2):
            served.path.unlink()
            directory.rmdir()
            await wait_until_served(served.path)

    assert list(directory.iterdir()) == []


@pytest.mark.requirement("socket.comes-back", "socket.owner-only")
async def test_another_live_socket_at_the_path_is_left_alone_and_reported(short_path: Path) -> None:
    """Two drivers with one path: the first one reports that kubelet no longer reaches it."""
    condition, path = Condition(), short_path / "csi.sock"

    async def problem() -> str | None:
        return condition.problem_of(SOCKET)

    async def is_healthy() -> bool:
        return condition.problem_of(SOCKET) is None

    async with serve(str(path), Services(), condition=condition):
        with socket.socket(socket.AF_UNIX) as another:
            path.unlink()
            another.bind(str(path))
            another.listen()
            inode = path.stat().st_ino
            reported = await wait_until(problem)
            stayed = path.stat().st_ino
        await wait_until(is_healthy)  # a stale socket is replaced
        await wait_until_served(path)

    assert stayed == inode
    assert "served by a live process" in (reported or "")


async def test_a_client_that_never_speaks_is_disconnected(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """GRPC itself waits two minutes for a client's first frame."""
    assert endpoint.HANDSHAKE_TIMEOUT <= 10_000
    monkeypatch.setattr(endpoint, "HANDSHAKE_TIMEOUT", 100)

    async with serve_controller(short_path) as served:
        reader, writer = await asyncio.open_unix_connection(served.path)
        async with asyncio.timeout(60):
            while await reader.read(4096):
                pass
        writer.close()


async def test_half_open_connections_do_not_keep_a_call_from_being_answered(served: ServedController) -> None:
    """CWE-400; only the socket's owner can open them."""
    strangers = [await asyncio.open_unix_connection(served.path) for _ in range(300)]
    for _, writer in strangers:
        writer.write(b"PRI * HTT")

    await wait_until_served(served.path)

    for _, writer in strangers:
        writer.close()


@pytest.mark.requirement("csi.unix-socket", "csi.identity.offered")
async def test_every_service_is_healthy_and_reflected(served: ServedController) -> None:
    """grpc.health.v1 and server reflection, for probes and grpcurl."""
    health: Any = health_pb2_grpc.HealthStub(served.channel)  # the types of these stubs cover only the synchronous API
    reflection: Any = reflection_pb2_grpc.ServerReflectionStub(served.channel)  # type: ignore[arg-type] # the same
    messages: Any = reflection_pb2

    state = await health.Check(health_pb2.HealthCheckRequest(service="csi.v1.Controller"))
    asked = iter([messages.ServerReflectionRequest(list_services="")])
    answers = [answer async for answer in reflection.ServerReflectionInfo(asked)]

    assert state.status == health_pb2.HealthCheckResponse.SERVING
    assert {"csi.v1.Identity", "csi.v1.Controller", "grpc.health.v1.Health"} <= {
        service.name for service in answers[0].list_services_response.service
    }


@pytest.mark.requirement("calls.join")
async def test_an_identical_call_joins_the_running_one(served: ServedController) -> None:
    """A sidecar retries after its timeout: the retry neither starts a second operation nor gets ABORTED."""
    first = served.deletion(secrets={"password": "old"})
    await served.gate.entered.wait()
    second = served.deletion(secrets={"password": "rotated"})
    await served.wait_for_calls(2)

    served.gate.opened.set()
    answers = [await first, await second]

    assert answers == [csi_pb2.DeleteVolumeResponse()] * 2
    assert served.gate.calls == 1


@pytest.mark.requirement("calls.join")
async def test_a_different_call_is_refused_with_what_runs_and_since_when(served: ServedController) -> None:
    """CSI spec, "Concurrency": ABORTED for an operation pending on the volume."""
    first = served.deletion()
    await served.gate.entered.wait()

    wanted = csi_pb2.ControllerUnpublishVolumeRequest(volume_id=VOLUME, node_id=HYPERPOD_NODE)
    error = await error_of(served.controller.ControllerUnpublishVolume(wanted))

    assert error.code() is StatusCode.ABORTED
    message = rf"ControllerUnpublishVolume of {VOLUME} has to wait: DeleteVolume has been running since 2\S+Z"
    assert re.match(message, error.details() or "")
    served.gate.opened.set()
    await first


@pytest.mark.requirement("calls.join")
async def test_a_cancelled_call_leaves_its_operation_to_be_joined(served: ServedController) -> None:
    """An operation belongs to the driver, not to the call that started it."""
    first = served.deletion()
    await served.gate.entered.wait()

    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    second = served.deletion()
    await served.wait_for_calls(2)
    served.gate.opened.set()

    assert await second == csi_pb2.DeleteVolumeResponse()
    assert served.gate.calls == 1


async def test_the_callers_deadline_is_answered_before_it_passes(
    served: ServedController, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gRPC client's own "context deadline exceeded" would not name the operation that still runs."""
    assert interceptors.MARGIN > 0
    monkeypatch.setattr(interceptors, "MARGIN", 30.0)  # on a busy machine the real margin can be too short

    error = await error_of(served.controller.DeleteVolume(csi_pb2.DeleteVolumeRequest(volume_id=VOLUME), timeout=30.3))

    assert error.code() is StatusCode.DEADLINE_EXCEEDED
    message = r"DeleteVolume is still running after \d+ s; try again to join it"
    assert re.fullmatch(message, error.details() or "")


async def test_a_call_that_only_reads_ends_at_its_deadline_and_does_not_say_that_it_can_be_joined(
    served: ServedController, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only operations outlive the call that started them."""
    monkeypatch.setattr(interceptors, "MARGIN", 30.0)
    served.gate.holds_descriptions = True

    request = csi_pb2.ControllerGetVolumeRequest(volume_id=VOLUME)
    error = await error_of(served.controller.ControllerGetVolume(request, timeout=30.3))

    assert error.code() is StatusCode.DEADLINE_EXCEEDED
    message = r"ControllerGetVolume was ended after \d+ s, because its deadline has passed; try again"
    assert re.fullmatch(message, error.details() or "")


@pytest.mark.requirement("secrets.not-logged")
async def test_no_secret_is_ever_logged(served: ServedController) -> None:
    """CSI spec, "Secrets Requirements"; failed calls and bugs are included."""
    served.gate.opened.set()
    served.gate.error = RuntimeError("a bug")

    await error_of(served.deletion(secrets={"password": SECRET}))
    create = csi_pb2.CreateVolumeRequest(name="pvc-1", secrets={"password": SECRET})
    await error_of(served.controller.CreateVolume(create))

    assert SECRET not in served.log.getvalue()
    fields = [event["fields"] for event in served.events if event["event"] == "call received"]
    assert fields == [f'volume_id: "{VOLUME}"', 'name: "pvc-1"']


@pytest.mark.requirement("csi.status-code")
async def test_a_bug_is_logged_and_the_caller_gets_the_same_words_each_time(served: ServedController) -> None:
    """Kubernetes counts an event that repeats only if its text stays the same."""
    served.gate.opened.set()
    served.gate.error = KeyError("inner_detail")

    error, again = await error_of(served.deletion()), await error_of(served.deletion())

    logged = next(event for event in served.events if event["event"] == "call failed because of a bug in the driver")
    assert error.code() is StatusCode.INTERNAL
    assert "inner_detail" not in (error.details() or "")
    assert "bug in the driver; see the driver's log" in (error.details() or "")
    assert again.details() == error.details()
    assert "KeyError: 'inner_detail'" in logged["exception"]


async def test_a_field_of_megabytes_is_shortened_in_the_log(served: ServedController) -> None:
    """CSI spec, "Size Limits": 128 bytes; gRPC accepts 4 MiB."""
    name = "x" * 3_900_000

    await error_of(served.controller.CreateVolume(csi_pb2.CreateVolumeRequest(name=name)))

    assert {"call received", "call failed"} <= {event["event"] for event in served.events}
    assert len(served.log.getvalue()) < 50_000


async def test_an_answered_call_is_one_log_line_with_its_object_and_duration(served: ServedController) -> None:
    served.gate.opened.set()

    await served.deletion()

    lines = [event for event in served.events if event["event"] == "call answered"]
    assert [(line["call"], line["volume_id"], line["level"]) for line in lines] == [("DeleteVolume", VOLUME, "info")]
    assert {"request", "took", "timestamp"} <= lines[0].keys()


@pytest.mark.requirement("csi.unimplemented")
async def test_an_rpc_that_is_not_offered_is_unimplemented(served: ServedController) -> None:
    """CSI spec, "Error Scheme": an RPC that the plugin does not implement."""
    error = await error_of(served.controller.GetCapacity(csi_pb2.GetCapacityRequest()))

    assert error.code() is StatusCode.UNIMPLEMENTED
    assert error.details() == "GetCapacity is not implemented by this driver"


@pytest.mark.requirement("csi.status-details-empty")
async def test_a_refused_call_ends_with_a_code_and_a_message_and_no_details(served: ServedController) -> None:
    """CSI spec, "Error Scheme": the status details must be empty."""
    error = await error_of(served.controller.GetCapacity(csi_pb2.GetCapacityRequest()))

    assert "grpc-status-details-bin" not in {key for key, _ in error.trailing_metadata() or ()}


@pytest.mark.requirement("csi.get-volume.missing")
async def test_an_id_that_no_volume_has_is_not_found(served: ServedController) -> None:
    """CSI spec, ControllerGetVolume errors."""
    asked = csi_pb2.ControllerGetVolumeRequest(volume_id="reallyfakevolumeid")

    error = await error_of(served.controller.ControllerGetVolume(asked))

    assert error.code() is StatusCode.NOT_FOUND


@pytest.mark.requirement("csi.delete-volume.idempotent", "csi.delete-snapshot.idempotent")
async def test_removing_an_object_whose_id_cannot_exist_succeeds(served: ServedController) -> None:
    """CSI spec, DeleteVolume, ControllerUnpublishVolume and DeleteSnapshot: OK if the object does not exist."""
    stub = served.controller

    deleted = await stub.DeleteVolume(csi_pb2.DeleteVolumeRequest(volume_id="reallyfakevolumeid"))
    detached = await stub.ControllerUnpublishVolume(
        csi_pb2.ControllerUnpublishVolumeRequest(volume_id="reallyfakevolumeid", node_id=HYPERPOD_NODE)
    )
    dropped = await stub.DeleteSnapshot(csi_pb2.DeleteSnapshotRequest(snapshot_id="reallyfakesnapshotid"))

    assert (deleted, detached, dropped) == (
        csi_pb2.DeleteVolumeResponse(),
        csi_pb2.ControllerUnpublishVolumeResponse(),
        csi_pb2.DeleteSnapshotResponse(),
    )


@pytest.mark.requirement("detach.live-volume-stays", "csi.unpublish-volume.unknown-node")
async def test_detaching_from_an_unknown_node_fails_while_the_volume_is_attached_elsewhere(
    served: ServedController,
) -> None:
    """Success would let external-attacher give the volume to another node."""
    wanted = csi_pb2.ControllerUnpublishVolumeRequest(volume_id=VOLUME, node_id="no-such-node")

    error = await error_of(served.controller.ControllerUnpublishVolume(wanted))

    assert error.code() is StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    ("parameters", "mutable", "code"),
    [
        ({"iops": "9"}, {}, StatusCode.INVALID_ARGUMENT),
        ({}, {"iops": "9"}, StatusCode.FAILED_PRECONDITION),
    ],
    ids=["by its StorageClass", "by its VolumeAttributesClass"],
)
async def test_a_refusal_by_ec2_is_final_only_if_it_takes_a_new_storage_class(
    served: ServedController, parameters: dict[str, str], mutable: dict[str, str], code: StatusCode
) -> None:
    """external-provisioner stops retrying after INVALID_ARGUMENT; a claim can get another VolumeAttributesClass."""
    mode = csi_pb2.VolumeCapability.AccessMode.Mode.SINGLE_NODE_WRITER
    capability = csi_pb2.VolumeCapability(
        block=csi_pb2.VolumeCapability.BlockVolume(), access_mode=csi_pb2.VolumeCapability.AccessMode(mode=mode)
    )
    request = csi_pb2.CreateVolumeRequest(
        name="pvc-1",
        volume_capabilities=[capability],
        parameters=parameters,
        mutable_parameters=mutable,
        accessibility_requirements=csi_pb2.TopologyRequirement(
            requisite=[csi_pb2.Topology(segments={"topology.kubernetes.io/zone": "z"})]
        ),
    )

    error = await error_of(served.controller.CreateVolume(request))

    assert error.code() is code
    assert (error.details() or "").startswith("9 IOPS are too many")
    assert ("VolumeAttributesClass (iops=9)" in (error.details() or "")) == bool(mutable)


async def test_running_calls_finish_before_the_process_stops(short_path: Path) -> None:
    async with grpc.aio.insecure_channel(f"unix://{short_path / 'csi.sock'}") as channel:
        async with serve_controller(short_path) as served:
            call = csi_pb2_grpc.ControllerStub(channel).DeleteVolume(csi_pb2.DeleteVolumeRequest(volume_id=VOLUME))
            await served.gate.entered.wait()
            asyncio.get_running_loop().call_later(0.1, served.gate.opened.set)

        answer = await call

    assert answer == csi_pb2.DeleteVolumeResponse()


async def test_calls_that_do_not_finish_in_time_get_unavailable(short_path: Path) -> None:
    """Every sidecar retries after UNAVAILABLE, and so reaches the next process."""
    async with grpc.aio.insecure_channel(f"unix://{short_path / 'csi.sock'}") as channel:
        async with serve_controller(short_path, drain=0.2) as served:
            call = csi_pb2_grpc.ControllerStub(channel).DeleteVolume(csi_pb2.DeleteVolumeRequest(volume_id=VOLUME))
            await served.gate.entered.wait()

        error = await error_of(call)

    assert error.code() is StatusCode.UNAVAILABLE
    assert "the driver is stopping; try again" in (error.details() or "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
async def test_a_process_that_is_signalled_to_stop_exits_with_zero(short_path: Path, number: signal.Signals) -> None:
    async with start_driver(*node_arguments(short_path)) as node:
        await node.wait_for_log("serving")

        node.subprocess.send_signal(number)
        code = await node.wait()

    assert code == 0
    assert "Traceback" not in "".join(node.log)
    assert list(short_path.iterdir()) == []


@pytest.mark.requirement("socket.owner-only")
async def test_a_second_process_on_a_live_socket_exits_with_one_sentence_on_stderr(short_path: Path) -> None:
    async with start_driver(*node_arguments(short_path)) as first:
        await first.wait_for_log("serving")

        async with start_driver(*node_arguments(short_path)) as second:
            code = await second.wait()

    assert code == 1
    message = f"{short_path / 'csi.sock'} is served by a live process; stop that process or use another endpoint"
    assert second.log == [f"hyperpod-ebs: {message}\n"]


@pytest.mark.requirement("node.small")
async def test_a_node_process_loads_neither_the_sdk_nor_an_http_client(short_path: Path) -> None:
    """Each package costs memory on every node of a cluster."""
    async with start_driver(*node_arguments(short_path), PYTHONPROFILEIMPORTTIME="1") as node:
        await node.wait_for_log("serving")
        node.subprocess.terminate()
        await node.wait()

    imported = {line.rpartition("|")[2].strip() for line in "".join(node.log).splitlines() if "import time:" in line}
    packages = {name.partition(".")[0] for name in imported if "." in name}  # a bare name may be a failed attempt
    assert "grpc" in packages
    assert packages.isdisjoint({"aiobotocore", "botocore", "aiohttp", "rich", "uvloop", "pygments"})
