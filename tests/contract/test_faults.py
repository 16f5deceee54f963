"""Planned faults and latency: an operation fails as often as planned, before or after it has run; answers are late."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import aiohttp
import pytest
from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession, get_session
from botocore.exceptions import ClientError, ConnectionClosedError
from hypothesis import given
from hypothesis import strategies as st

from hyperpod_ebs.emulator.http.faults import BadPlan, Faults, Plan
from hyperpod_ebs.emulator.http.latency import Latency, no_latency
from hyperpod_ebs.emulator.http.server import Server
from hyperpod_ebs.emulator.wire.operations import Answer, AwsFault, Call, Operations, Parameters
from tests.support.open_access import OpenAccess

THROTTLED = AwsFault("ThrottlingException", "Rate exceeded")
FULL = AwsFault("RequestLimitExceeded", "Request limit exceeded.", 503)


class Volumes:
    """A service that deletes volumes."""

    operations = Operations["Volumes"]()

    def __init__(self) -> None:
        self.deleted: list[str] = []
        self.first_deleted = asyncio.Event()

    @operations("DeleteVolume")
    async def delete(self, parameters: Parameters, _: Call) -> Answer:
        """Delete the volume, or answer that it does not exist."""
        if parameters["VolumeId"] in self.deleted:
            raise AwsFault("InvalidVolume.NotFound", f"The volume '{parameters['VolumeId']}' does not exist.")
        self.deleted.append(parameters["VolumeId"])
        self.first_deleted.set()
        return {}


class Cloud(NamedTuple):
    """A running server with one service."""

    url: str
    volumes: Volumes
    faults: Faults
    session: AioSession

    async def delete(self, volume: str) -> None:
        """Call DeleteVolume without retries."""
        client = self.session.create_client(
            "ec2",
            endpoint_url=self.url,
            region_name="us-west-2",
            aws_access_key_id="AKIDEXAMPLE",
            aws_secret_access_key="a secret",
            config=AioConfig(retries={"total_max_attempts": 1}),
        )
        async with client as ec2:
            await ec2.delete_volume(VolumeId=volume)


@asynccontextmanager
async def serving(volumes: Volumes, faults: Faults, latency: Latency = no_latency) -> AsyncGenerator[str]:
    server = Server(services={"ec2": [volumes]}, access=OpenAccess(), faults=faults, latency=latency, local_routes=[])
    async with server.serve("127.0.0.1", 0) as url:
        yield url


@pytest.fixture(scope="module")
def session() -> AioSession:
    """One session for all tests, because it caches the models that it has loaded."""
    return get_session()


@pytest.fixture
async def cloud(session: AioSession) -> AsyncGenerator[Cloud]:
    faults, volumes = Faults(), Volumes()
    async with serving(volumes, faults) as url:
        yield Cloud(url, volumes, faults, session)
        assert faults.remaining() == 0


async def test_a_fault_before_the_operation_prevents_it(cloud: Cloud) -> None:
    """AWS does not run an operation that it throttles."""
    cloud.faults.plan("DeleteVolume", FULL)

    with pytest.raises(ClientError, match="RequestLimitExceeded") as refused:
        await cloud.delete("vol-1")

    response: Any = refused.value.response
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 503
    assert cloud.volumes.deleted == []


async def test_a_fault_after_the_operation_replaces_only_its_answer(cloud: Cloud) -> None:
    """A caller must be able to handle an operation that succeeded without an acknowledgement."""
    cloud.faults.plan("DeleteVolume", FULL, when="after")

    with pytest.raises(ClientError, match="RequestLimitExceeded"):
        await cloud.delete("vol-1")

    assert cloud.volumes.deleted == ["vol-1"]


@pytest.mark.parametrize(("when", "deleted"), [("before", []), ("after", ["vol-1"])])
async def test_a_dropped_connection_is_closed_without_an_answer(cloud: Cloud, when: Any, deleted: list[str]) -> None:
    cloud.faults.plan("DeleteVolume", when=when, drop=True)

    with pytest.raises(ConnectionClosedError):
        await cloud.delete("vol-1")

    assert cloud.volumes.deleted == deleted


async def test_a_fault_happens_as_often_as_it_is_planned(cloud: Cloud) -> None:
    cloud.faults.plan("DeleteVolume", FULL, times=2)

    for _ in range(2):
        with pytest.raises(ClientError, match="RequestLimitExceeded"):
            await cloud.delete("vol-1")
    await cloud.delete("vol-1")

    assert cloud.volumes.deleted == ["vol-1"]


async def test_a_planned_delay_makes_the_answer_late(cloud: Cloud) -> None:
    cloud.faults.plan("DeleteVolume", delay=0.2)
    began = time.monotonic()

    await cloud.delete("vol-1")

    assert time.monotonic() - began >= 0.2
    assert cloud.volumes.deleted == ["vol-1"]


async def test_other_calls_are_answered_during_a_delay(cloud: Cloud) -> None:
    """The delay does not hold up the end of the server either."""
    cloud.faults.plan("DeleteVolume", when="after", delay=600)

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        late = group.create_task(cloud.delete("vol-1"))
        await cloud.volumes.first_deleted.wait()
        await cloud.delete("vol-2")
        late.cancel()

    assert cloud.volumes.deleted == ["vol-1", "vol-2"]


async def test_a_delayed_answer_is_dropped_when_the_server_stops(session: AioSession) -> None:
    """Ctrl-C must end the emulator at once."""
    volumes, faults = Volumes(), Faults()
    faults.plan("DeleteVolume", when="after", delay=600)

    async with asyncio.timeout(60), asyncio.TaskGroup() as group, serving(volumes, faults) as url:
        late = group.create_task(error_of_delete(Cloud(url, volumes, faults, session)))
        await volumes.first_deleted.wait()

    assert isinstance(late.result(), ConnectionClosedError)


async def test_the_operation_does_not_wait_for_the_latency_of_its_answer(session: AioSession) -> None:
    """The end of the server ends the latency, and the answer is sent."""
    volumes, faults = Volumes(), Faults()

    async with (
        asyncio.timeout(60),
        asyncio.TaskGroup() as group,
        serving(volumes, faults, lambda *_: 600) as url,
    ):
        answered = group.create_task(Cloud(url, volumes, faults, session).delete("vol-1"))
        await volumes.first_deleted.wait()

    assert answered.exception() is None


async def test_a_planned_fault_is_answered_without_latency(session: AioSession) -> None:
    volumes, faults = Volumes(), Faults()

    async with asyncio.timeout(60), serving(volumes, faults, lambda *_: 600) as url:
        for when in ("before", "after"):
            faults.plan("DeleteVolume", FULL, when=when)
            error = await error_of_delete(Cloud(url, volumes, faults, session))
            assert "RequestLimitExceeded" in str(error)


async def test_a_refused_call_is_as_late_as_one_that_succeeds(session: AioSession) -> None:
    volumes, faults, delayed = Volumes(), Faults(), list[str]()

    def latency(service: str, operation: str) -> float:
        delayed.append(f"{service}:{operation}")
        return 0.0

    async with serving(volumes, faults, latency) as url:
        await Cloud(url, volumes, faults, session).delete("vol-1")
        await error_of_delete(Cloud(url, volumes, faults, session))

    assert delayed == ["ec2:DeleteVolume"] * 2


async def error_of_delete(cloud: Cloud) -> Exception:
    with pytest.raises((ClientError, ConnectionClosedError)) as error:
        await cloud.delete("vol-1")
    return error.value


async def test_a_fault_after_the_operation_waits_for_one_that_succeeds(cloud: Cloud) -> None:
    """A fault `after` stands for the lost answer of an operation that took effect."""
    cloud.volumes.deleted.append("vol-0")
    cloud.faults.plan("DeleteVolume", FULL, when="after")

    with pytest.raises(ClientError, match=r"InvalidVolume\.NotFound"):
        await cloud.delete("vol-0")
    with pytest.raises(ClientError, match="RequestLimitExceeded"):
        await cloud.delete("vol-1")

    assert cloud.volumes.deleted == ["vol-0", "vol-1"]


async def test_faults_are_planned_shown_and_deleted_over_http(cloud: Cloud) -> None:
    """Shell users and tests in other processes can plan faults too."""
    plan = {"operation": "DeleteVolume", "code": "RequestLimitExceeded", "message": "no", "status": 503, "times": 2}
    rest = {"when": "before", "delay": 0.0, "drop": False, "deny": False}
    route = f"{cloud.url}/_emulator/faults"

    async with aiohttp.ClientSession() as session:
        planned = await (await session.post(route, json=plan)).json()
        with pytest.raises(ClientError, match="RequestLimitExceeded"):
            await cloud.delete("vol-1")
        left = await (await session.get(route)).json()
        cleared = await (await session.delete(route)).json()

    assert planned == {"left": 2, "plans": [{**plan, **rest}]}
    assert left == {
        "left": 1,
        "plans": [{**plan, **rest, "times": 1}],
    }
    assert cleared == {"left": 0, "plans": []}


class InvalidPlan(NamedTuple):
    """An invalid plan and its error message."""

    id: str
    document: object
    message: str


INVALID_PLANS = [
    InvalidPlan("not an object", [], "has no operation"),
    InvalidPlan("no operation", {"code": "x"}, "has no operation"),
    InvalidPlan("an unknown field", {"operation": "X", "kode": "x"}, "unknown field 'kode'"),
    InvalidPlan("a wrong type", {"operation": "X", "code": "x", "times": "2"}, "times is '2'"),
    InvalidPlan("a boolean for a number", {"operation": "X", "code": "x", "times": True}, "times is True"),
    InvalidPlan("zero times", {"operation": "X", "code": "x", "times": 0}, "0 times"),
    InvalidPlan("more times than can be counted", {"operation": "X", "drop": True, "times": 10**4000}, "is impossible"),
    InvalidPlan("a delay that is not a number", {"operation": "X", "delay": float("nan")}, "after nan s"),
    InvalidPlan("a delay without end", {"operation": "X", "delay": float("inf")}, "after inf s"),
    InvalidPlan("a delay longer than any float", {"operation": "X", "delay": 10**400}, "is impossible"),
    InvalidPlan("a code that is not one word", {"operation": "X", "code": "a\r\nb: c"}, "no error has code"),
    InvalidPlan("a status of a success", {"operation": "X", "code": "x", "status": 200}, "status 200"),
    InvalidPlan("an unknown moment", {"operation": "X", "code": "x", "when": "during"}, "when is 'during'"),
    InvalidPlan("no effect", {"operation": "X"}, "does nothing"),
    InvalidPlan("two answers", {"operation": "X", "deny": True, "drop": True}, "two ways"),
]


@pytest.mark.parametrize("case", INVALID_PLANS, ids=[case.id for case in INVALID_PLANS])
async def test_an_invalid_plan_is_rejected(cloud: Cloud, case: InvalidPlan) -> None:
    """A test with a fault that can never happen would prove nothing."""
    async with aiohttp.ClientSession() as session:
        answer = await session.post(f"{cloud.url}/_emulator/faults", json=case.document)
        text = await answer.text()

    assert answer.status == 400
    assert case.message in text


async def test_a_plan_must_be_json(cloud: Cloud) -> None:
    """A web page in the user's browser can post a form without a preflight request, and must not plan faults."""
    async with aiohttp.ClientSession() as session:
        answer = await session.post(f"{cloud.url}/_emulator/faults", data='{"operation": "X", "drop": true}')

    assert answer.status == 415


@pytest.mark.parametrize(
    "body",
    ["[" * 20_000, '{"code": ' * 20_000, '{"operation": "X", "times": ' + "9" * 5000 + "}", "{", "\udcff"],
    ids=["brackets", "braces", "digits", "half a document", "not UTF-8"],
)
async def test_a_plan_made_to_be_unreadable_is_rejected(cloud: Cloud, body: str) -> None:
    data, headers = body.encode(errors="surrogateescape"), {"Content-Type": "application/json"}

    async with aiohttp.ClientSession() as session:
        answer = await session.post(f"{cloud.url}/_emulator/faults", data=data, headers=headers)

    assert answer.status == 400


def test_plans_for_one_operation_apply_in_their_order() -> None:
    faults = Faults()
    faults.plan("A", THROTTLED, times=2)
    faults.plan("B", THROTTLED)
    faults.plan("A", FULL)

    applied = [plan.fault if (plan := faults.take("A", "before")) else None for _ in range(4)]

    assert applied == [THROTTLED, THROTTLED, FULL, None]
    assert faults.remaining() == 1


PLANS: st.SearchStrategy[Callable[[], Plan]] = st.builds(
    lambda **parts: lambda: Plan(**parts),
    operation=st.text(min_size=1),
    fault=st.none() | st.builds(AwsFault, st.text("aZ9.:-_", min_size=1), st.text(), st.integers(400, 599)),
    times=st.integers(0, 5),
    when=st.sampled_from(["before", "after"]),
    delay=st.floats(0, 9),
    drop=st.booleans(),
    deny=st.booleans(),
)


@given(PLANS)
def test_a_plan_is_equal_after_a_round_trip_through_json(make: Callable[[], Plan]) -> None:
    """POST accepts the plans that GET shows."""
    try:
        plan = make()
    except BadPlan:
        return

    read = Plan.parse(json.loads(json.dumps(plan.document())))

    assert read.document() == plan.document()
