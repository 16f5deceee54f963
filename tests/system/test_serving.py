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

from hyperpod_ebs.driver.csi import interceptors
from hyperpod_ebs.driver.csi.controller import Controller
from hyperpod_ebs.driver.csi.server import Services, serving
from hyperpod_ebs.driver.model import errors, nodes
from hyperpod_ebs.driver.model.sizes import GiB
from hyperpod_ebs.driver.model.volume import Attachment, AttachState, Volume, VolumeSpec, VolumeState
from hyperpod_ebs.driver.observe import log
from hyperpod_ebs.kit.operations import Operations
from hyperpod_ebs.pb import csi_pb2, csi_pb2_grpc
from tests.support.driver_process import HOLDER, node_words, program

VOLUME = "vol-0123456789abcdef0"
SECRET = "correct horse battery staple"


@dataclass
class Gate:
    """A cloud whose deletions wait until they are let through, and whose one volume is on a node."""

    opened: asyncio.Event = field(default_factory=asyncio.Event)
    entered: asyncio.Event = field(default_factory=asyncio.Event)
    calls: int = 0
    ends_with: Exception | None = None

    async def delete_volume(self, volume_id: str) -> None:
        """Wait, then delete, or fail as ordered."""
        assert volume_id == VOLUME
        self.calls += 1
        self.entered.set()
        await self.opened.wait()
        if self.ends_with is not None:
            raise self.ends_with

    async def create_volume(self, spec: VolumeSpec, token: str) -> Volume:
        """Refuse, as EC2 does a ratio that is too high."""
        assert token
        raise errors.InvalidRequest(f"{spec.iops} IOPS are too many")

    async def volumes_named(self, name: str) -> tuple[Volume, ...]:
        """None."""
        assert name
        return ()

    async def volumes(self, ids: list[str]) -> dict[str, Volume]:
        """The one volume."""
        assert ids == [VOLUME]
        held = Attachment(state=AttachState.ATTACHED, node=nodes.parse(HOLDER), holder=HOLDER)
        state = VolumeState.IN_USE
        return {VOLUME: Volume(id=VOLUME, size=GiB(1), zone="z", state=state, type="gp3", attachments=(held,))}


class Told(io.StringIO):
    """A log that can be waited on."""

    grown: asyncio.Event

    def __init__(self) -> None:
        super().__init__()
        self.grown = asyncio.Event()

    def write(self, text: str) -> int:
        """Keep it, and wake who waits."""
        self.grown.set()
        return super().write(text)


@dataclass
class Served:
    """A controller that is served, and a client of it."""

    gate: Gate
    path: Path
    channel: grpc.aio.Channel
    log: Told

    @property
    def controller(self) -> csi_pb2_grpc.ControllerStub:
        """The client."""
        return csi_pb2_grpc.ControllerStub(self.channel)

    @property
    def events(self) -> list[dict[str, Any]]:
        """What was logged."""
        return [json.loads(line) for line in self.log.getvalue().splitlines()]

    async def came(self, calls: int) -> None:
        """So many calls have come, and got as far as they can."""
        async with asyncio.timeout(5):
            while sum(event["event"] == "call came" for event in self.events) < calls:
                self.log.grown.clear()
                await self.log.grown.wait()

    def deletion(self, **more: Any) -> Any:
        """A DeleteVolume call, under way."""
        return self.controller.DeleteVolume(csi_pb2.DeleteVolumeRequest(volume_id=VOLUME, **more))


@asynccontextmanager
async def running(directory: Path, *, drain: float = 5) -> AsyncGenerator[Served]:
    """A controller over a `Gate`."""
    text, gate = Told(), Gate()
    log.set_up(5, "json", text)
    path = directory / "csi.sock"
    try:
        async with grpc.aio.insecure_channel(f"unix://{path}") as channel, Operations[str]() as operations:
            controller = Controller(gate, None, operations)  # type: ignore[abstract, arg-type] # one role is played
            async with serving(f"unix://{path}", Services(controller=controller), drain=drain):
                yield Served(gate, path, channel, text)
    finally:
        structlog.reset_defaults()


@pytest.fixture
async def served(short_path: Path) -> AsyncGenerator[Served]:
    """A served controller."""
    async with running(short_path) as one:
        yield one


async def refused(call: Any) -> grpc.aio.AioRpcError:
    """The error that a call ends with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


@pytest.mark.requirement("socket.owner-only", "csi.nothing-beside-socket")
async def test_the_socket_is_its_owners_alone(served: Served) -> None:
    """Ours: CSI has no authentication but the socket's mode."""
    mode = served.path.stat().st_mode

    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600
    assert [entry.name for entry in served.path.parent.iterdir()] == ["csi.sock"]


@pytest.mark.requirement("socket.owner-only")
async def test_a_missing_directory_is_made_for_its_owner_alone(short_path: Path) -> None:
    """Ours."""
    async with running(short_path / "plugins"):
        assert stat.S_IMODE((short_path / "plugins").stat().st_mode) == 0o700


async def test_a_stale_socket_is_replaced(short_path: Path) -> None:
    """Ours: what a killed process leaves must not keep the next one from starting."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(short_path / "csi.sock"))

    async with running(short_path) as served:
        answer = await csi_pb2_grpc.IdentityStub(served.channel).Probe(csi_pb2.ProbeRequest())

    assert answer.ready.value


@pytest.mark.requirement("socket.owner-only")
async def test_a_live_socket_is_refused_and_stays(served: Served) -> None:
    """Ours: two drivers on one socket would both believe that they are the one."""
    with pytest.raises(errors.Refused, match="served by a live process"):
        async with serving(str(served.path), Services()):
            pass

    assert (await csi_pb2_grpc.IdentityStub(served.channel).Probe(csi_pb2.ProbeRequest())).ready.value
    assert [entry.name for entry in served.path.parent.iterdir()] == ["csi.sock"]


async def test_something_that_is_no_socket_is_refused_and_stays(short_path: Path) -> None:
    """Ours: nobody's file is removed."""
    (short_path / "csi.sock").write_text("precious")

    with pytest.raises(errors.Refused, match="not a socket"):
        async with serving(str(short_path / "csi.sock"), Services()):
            pass

    assert (short_path / "csi.sock").read_text() == "precious"


@pytest.mark.requirement("csi.nothing-beside-socket")
async def test_the_socket_is_gone_at_the_end(short_path: Path) -> None:
    """Ours."""
    async with running(short_path):
        pass

    assert list(short_path.iterdir()) == []


async def test_a_successors_socket_is_left_alone(short_path: Path) -> None:
    """Ours: an old process that ends late must not cut off the new one."""
    path = short_path / "csi.sock"

    async with running(short_path):
        path.unlink()
        with socket.socket(socket.AF_UNIX) as successor:
            successor.bind(str(path))
            inode = path.stat().st_ino

    assert path.stat().st_ino == inode


@pytest.mark.requirement("csi.unix-socket", "csi.identity.offered")
async def test_every_service_is_healthy_and_reflected(served: Served) -> None:
    """Ours: grpc.health.v1 and reflection, for grpcurl and probes."""
    health: Any = health_pb2_grpc.HealthStub(served.channel)  # these stubs' types know the synchronous API alone
    reflection: Any = reflection_pb2_grpc.ServerReflectionStub(served.channel)  # type: ignore[arg-type] # as said
    question: Any = reflection_pb2

    state = await health.Check(health_pb2.HealthCheckRequest(service="csi.v1.Controller"))
    asked = iter([question.ServerReflectionRequest(list_services="")])
    answers = [answer async for answer in reflection.ServerReflectionInfo(asked)]

    assert state.status == health_pb2.HealthCheckResponse.SERVING
    assert {"csi.v1.Identity", "csi.v1.Controller", "grpc.health.v1.Health"} <= {
        service.name for service in answers[0].list_services_response.service
    }


@pytest.mark.requirement("calls.join")
async def test_an_identical_call_joins_the_one_under_way(served: Served) -> None:
    """Ours: a sidecar that timed out and came back neither starts again nor hears ABORTED."""
    first = served.deletion(secrets={"password": "old"})
    await served.gate.entered.wait()
    second = served.deletion(secrets={"password": "rotated"})
    await served.came(2)

    served.gate.opened.set()
    answers = [await first, await second]

    assert answers == [csi_pb2.DeleteVolumeResponse()] * 2
    assert served.gate.calls == 1


@pytest.mark.requirement("calls.join")
async def test_a_different_call_hears_what_runs_and_since_when(served: Served) -> None:
    """CSI spec, "Concurrency": ABORTED for an operation pending on the volume; the name and age are ours."""
    first = served.deletion()
    await served.gate.entered.wait()

    wanted = csi_pb2.ControllerUnpublishVolumeRequest(volume_id=VOLUME, node_id=HOLDER)
    error = await refused(served.controller.ControllerUnpublishVolume(wanted))

    assert error.code() is StatusCode.ABORTED
    told = rf"ControllerUnpublishVolume of {VOLUME} has to wait: DeleteVolume for \d+\.\d s"
    assert re.match(told, error.details() or "")
    served.gate.opened.set()
    await first


@pytest.mark.requirement("calls.join")
async def test_a_cancelled_call_leaves_its_operation_to_be_joined(served: Served) -> None:
    """Ours: the operation belongs to the driver, not to the call that began it."""
    first = served.deletion()
    await served.gate.entered.wait()

    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    second = served.deletion()
    await served.came(2)
    served.gate.opened.set()

    assert await second == csi_pb2.DeleteVolumeResponse()
    assert served.gate.calls == 1


async def test_the_callers_deadline_is_answered_before_it_passes(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours: "context deadline exceeded" tells an operator nothing; what goes on does."""
    assert interceptors.MARGIN > 0
    monkeypatch.setattr(interceptors, "MARGIN", 30.0)  # a busy machine may be slower than the real one is long

    error = await refused(served.controller.DeleteVolume(csi_pb2.DeleteVolumeRequest(volume_id=VOLUME), timeout=30.3))

    assert error.code() is StatusCode.DEADLINE_EXCEEDED
    told = r"DeleteVolume is not done after \d+\.\d s and goes on; ask again to join it"
    assert re.fullmatch(told, error.details() or "")


@pytest.mark.requirement("secrets.not-logged")
async def test_no_secret_is_ever_logged(served: Served) -> None:
    """The CSI spec, "Secrets Requirements": sensitive, not to be logged; refused calls and bugs included."""
    served.gate.opened.set()
    served.gate.ends_with = RuntimeError("a bug")

    await refused(served.deletion(secrets={"password": SECRET}))
    create = csi_pb2.CreateVolumeRequest(name="pvc-1", secrets={"password": SECRET})
    await refused(served.controller.CreateVolume(create))

    assert SECRET not in served.log.getvalue()
    asked = [event["asked"] for event in served.events if event["event"] == "call came"]
    assert asked == [f'volume_id: "{VOLUME}"', 'name: "pvc-1"']


@pytest.mark.requirement("csi.status-code")
async def test_a_bug_is_told_to_the_log_and_not_to_the_caller(served: Served) -> None:
    """Ours: no Python leaves; the request id leads from one to the other."""
    served.gate.opened.set()
    served.gate.ends_with = KeyError("inner_detail")

    error = await refused(served.deletion())

    told = next(event for event in served.events if event["event"] == "call failed by a fault of ours")
    assert error.code() is StatusCode.INTERNAL
    assert "inner_detail" not in (error.details() or "")
    assert f"request={told['request']}" in (error.details() or "")
    assert "KeyError: 'inner_detail'" in told["exception"]


async def test_an_answered_call_is_one_line_with_its_object_and_time(served: Served) -> None:
    """Ours."""
    served.gate.opened.set()

    await served.deletion()

    lines = [event for event in served.events if event["event"] == "call answered"]
    assert [(line["call"], line["volume_id"], line["level"]) for line in lines] == [("DeleteVolume", VOLUME, "info")]
    assert {"request", "took", "timestamp"} <= lines[0].keys()


@pytest.mark.requirement("csi.unimplemented")
async def test_what_is_not_offered_is_unimplemented(served: Served) -> None:
    """CSI spec, "Error Scheme": an RPC that the plugin does not implement."""
    error = await refused(served.controller.GetCapacity(csi_pb2.GetCapacityRequest()))

    assert error.code() is StatusCode.UNIMPLEMENTED
    assert error.details() == "GetCapacity is not offered by this driver"


@pytest.mark.requirement("csi.status-details-empty")
async def test_a_refused_call_ends_with_a_code_and_a_message_and_no_details(served: Served) -> None:
    """CSI spec, "Error Scheme": the status details must be empty."""
    error = await refused(served.controller.GetCapacity(csi_pb2.GetCapacityRequest()))

    assert "grpc-status-details-bin" not in {key for key, _ in error.trailing_metadata() or ()}


@pytest.mark.requirement("csi.get-volume.missing")
async def test_an_id_that_no_volume_has_is_not_found(served: Served) -> None:
    """CSI spec, ControllerGetVolume errors."""
    asked = csi_pb2.ControllerGetVolumeRequest(volume_id="reallyfakevolumeid")

    error = await refused(served.controller.ControllerGetVolume(asked))

    assert error.code() is StatusCode.NOT_FOUND


@pytest.mark.requirement("csi.delete-volume.idempotent", "csi.delete-snapshot.idempotent")
async def test_what_cannot_be_there_is_removed_with_success(served: Served) -> None:
    """CSI spec §DeleteVolume, §ControllerUnpublishVolume, §DeleteSnapshot: absent is done."""
    stub = served.controller

    deleted = await stub.DeleteVolume(csi_pb2.DeleteVolumeRequest(volume_id="reallyfakevolumeid"))
    detached = await stub.ControllerUnpublishVolume(
        csi_pb2.ControllerUnpublishVolumeRequest(volume_id="reallyfakevolumeid", node_id=HOLDER)
    )
    dropped = await stub.DeleteSnapshot(csi_pb2.DeleteSnapshotRequest(snapshot_id="reallyfakesnapshotid"))

    assert (deleted, detached, dropped) == (
        csi_pb2.DeleteVolumeResponse(),
        csi_pb2.ControllerUnpublishVolumeResponse(),
        csi_pb2.DeleteSnapshotResponse(),
    )


@pytest.mark.requirement("detach.live-volume-stays", "csi.unpublish-volume.unknown-node")
async def test_a_node_id_that_no_node_has_does_not_free_a_volume(served: Served) -> None:
    """What attachers do: success frees the volume for another node, so not while any node has it."""
    wanted = csi_pb2.ControllerUnpublishVolumeRequest(volume_id=VOLUME, node_id="no-such-node")

    error = await refused(served.controller.ControllerUnpublishVolume(wanted))

    assert error.code() is StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    ("parameters", "mutable", "code"),
    [
        ({"iops": "9"}, {}, StatusCode.INVALID_ARGUMENT),
        ({}, {"iops": "9"}, StatusCode.FAILED_PRECONDITION),
    ],
    ids=["by its StorageClass", "by its VolumeAttributesClass"],
)
async def test_a_volume_that_ec2_refuses_is_final_only_where_nothing_but_a_new_class_heals_it(
    served: Served, parameters: dict[str, str], mutable: dict[str, str], code: StatusCode
) -> None:
    """The provisioner's sources: INVALID_ARGUMENT puts it to sleep until there is a new StorageClass."""
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

    error = await refused(served.controller.CreateVolume(request))

    assert (error.code(), error.details()) == (code, "9 IOPS are too many")


async def test_running_calls_finish_before_the_end(short_path: Path) -> None:
    """Ours: a clean stop loses nothing."""
    async with grpc.aio.insecure_channel(f"unix://{short_path / 'csi.sock'}") as channel:
        async with running(short_path) as served:
            call = csi_pb2_grpc.ControllerStub(channel).DeleteVolume(csi_pb2.DeleteVolumeRequest(volume_id=VOLUME))
            await served.gate.entered.wait()
            asyncio.get_running_loop().call_later(0.1, served.gate.opened.set)

        answer = await call

    assert answer == csi_pb2.DeleteVolumeResponse()


async def test_calls_that_do_not_finish_are_handed_back(short_path: Path) -> None:
    """Ours: the caller asks the next process; UNAVAILABLE is no final code for any sidecar."""
    async with grpc.aio.insecure_channel(f"unix://{short_path / 'csi.sock'}") as channel:
        async with running(short_path, drain=0.2) as served:
            call = csi_pb2_grpc.ControllerStub(channel).DeleteVolume(csi_pb2.DeleteVolumeRequest(volume_id=VOLUME))
            await served.gate.entered.wait()

        error = await refused(call)

    assert error.code() is StatusCode.UNAVAILABLE
    assert "the driver is stopping; ask again" in (error.details() or "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
async def test_a_process_that_is_told_to_stop_ends_with_zero(short_path: Path, number: signal.Signals) -> None:
    """Ours: init systems and people see a clean end."""
    async with program(*node_words(short_path)) as node:
        await node.until("serving")

        node.running.send_signal(number)
        code = await node.ended()

    assert code == 0
    assert "Traceback" not in "".join(node.said)
    assert list(short_path.iterdir()) == []


@pytest.mark.requirement("socket.owner-only")
async def test_a_second_process_on_a_live_socket_ends_with_one_sentence(short_path: Path) -> None:
    """Ours: errors are one sentence on stderr and an exit code, never a traceback."""
    async with program(*node_words(short_path)) as first:
        await first.until("serving")

        async with program(*node_words(short_path)) as second:
            code = await second.ended()

    assert code == 1
    assert second.said == [
        f"hyperpod-ebs: {short_path / 'csi.sock'} is served by a live process; end it or take another endpoint\n"
    ]


@pytest.mark.requirement("node.small")
async def test_a_node_process_loads_neither_the_sdk_nor_an_http_client(short_path: Path) -> None:
    """Ours: memory on every node of a cluster."""
    async with program(*node_words(short_path), PYTHONPROFILEIMPORTTIME="1") as node:
        await node.until("serving")
        node.running.terminate()
        await node.ended()

    imported = {line.rpartition("|")[2].strip() for line in "".join(node.said).splitlines() if "import time:" in line}
    packages = {name.partition(".")[0] for name in imported if "." in name}  # a bare name may be a failed attempt
    assert "grpc" in packages
    assert packages.isdisjoint({"aiobotocore", "botocore", "aiohttp", "rich", "uvloop", "pygments"})
