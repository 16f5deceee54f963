"""What the benchmark of the controller computes, and how its callers behave."""

import asyncio
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from typing import NamedTuple

import grpc
import pytest

from bench.controller.buckets import Bound, Bucket, least_time
from bench.controller.cloud import Calls
from bench.controller.sidecars import Call, Journal, Sidecar
from bench.controller.time_line import Sample, TimeLine
from tests.support import virtual_time

ATTACH, CREATE = "sagemaker:AttachClusterNodeVolume", "ec2:CreateVolume"


def bucket(capacity: float, *, tokens: float = 0.0, neighbour: float = 0.0) -> Bucket:
    return Bucket(capacity=capacity, refill=5, neighbour=neighbour, tokens=tokens)


class BoundCase(NamedTuple):
    """Calls that are made at once, and how long they take at least."""

    id: str
    calls: Mapping[str, int]
    neighbour: float
    bound: Bound


BOUNDS = [
    BoundCase("the slowest bucket decides", {CREATE: 500, ATTACH: 500}, 0.0, Bound(90.0, ATTACH)),
    BoundCase("a full bucket takes no time", {CREATE: 100}, 0.0, Bound(0.0, CREATE)),
    BoundCase("a neighbour leaves less of both", {ATTACH: 500}, 0.3, Bound(465 / 3.5, ATTACH)),
    BoundCase("a call without a bucket takes no time", {"ec2:AttachVolume": 500}, 0.0, Bound(0.0, "none")),
]


@pytest.mark.parametrize("case", BOUNDS, ids=lambda case: case.id)
def test_the_least_time_follows_from_the_buckets(case: BoundCase) -> None:
    """EC2 developer guide, "Request throttling for the Amazon EC2 API"."""
    buckets = {CREATE: bucket(100, neighbour=case.neighbour), ATTACH: bucket(50, neighbour=case.neighbour)}

    bound = least_time(buckets, case.calls)

    assert bound.arithmetic_seconds == pytest.approx(case.bound.arithmetic_seconds)
    assert bound.binding_bucket == case.bound.binding_bucket


def test_only_changing_calls_count_for_the_share_that_was_throttled() -> None:
    before = Calls({"ec2:CreateVolume": 5, "ec2:DescribeVolumes": 5}, {"ec2:CreateVolume": 5})
    after = Calls(
        {"ec2:CreateVolume": 9, "ec2:DescribeVolumes": 45}, {"ec2:CreateVolume": 6, "ec2:DescribeVolumes": 30}
    )

    calls = after.since(before)

    assert calls.total == 44
    assert calls.throttled_percent == 25


class Refusal(grpc.aio.AioRpcError):
    """An answer that makes the caller try again."""

    def __init__(self) -> None:
        super().__init__(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata())


def test_a_caller_repeats_a_failed_call_after_a_back_off_that_doubles_up_to_its_limit() -> None:
    """client-go, util/workqueue, ItemExponentialFailureRateLimiter."""

    async def repeat() -> tuple[list[float], str, Journal]:
        instants: list[float] = []

        async def ask(seconds: float) -> str:
            assert seconds == 60
            instants.append(virtual_time.now())
            if len(instants) <= 4:
                raise Refusal
            return "vol-1"

        sidecar = Sidecar(timeout=60, longest_backoff=5, journal=Journal())
        return instants, await sidecar.call("CreateVolume", ask), sidecar.journal

    instants, answer, journal = virtual_time.run(repeat())

    assert answer == "vol-1"
    assert instants == [0, 1, 3, 7, 12]
    assert journal.failures == {"UNAVAILABLE": 4}


def test_a_caller_that_backs_off_leaves_its_worker_to_others() -> None:
    async def run_both() -> list[float]:
        sidecar = Sidecar(timeout=60, longest_backoff=5, journal=Journal(), workers=asyncio.Semaphore(1))
        instants: list[float] = []

        async def fail_once(_: float) -> None:
            instants.append(virtual_time.now())
            if len(instants) == 1:
                raise Refusal

        async with asyncio.TaskGroup() as group:
            group.create_task(sidecar.call("CreateVolume", fail_once))
            group.create_task(sidecar.call("CreateVolume", fail_once))
        return instants

    assert virtual_time.run(run_both()) == [0, 0, 1]


def test_a_time_line_shows_tokens_waiting_calls_and_attached_volumes_as_text_and_as_a_picture() -> None:
    samples = [Sample(100.0 + second, {ATTACH: bucket(50, tokens=50 - 25 * second)}) for second in range(3)]
    calls = [Call(rpc="CreateVolume", asked=100.0, answered=101.5, code="OK")]

    line = TimeLine.build(samples, calls=calls, attached=[100.5, 101.0, 103.0], buckets=[ATTACH])

    values = {series.name: list(series.values) for panel in line.panels.values() for series in panel}
    assert values == {ATTACH: [50, 25, 0], "CreateVolume": [1, 1, 0], "attached": [0, 2, 2]}
    assert "█▅▁  0 to 50" in line.text("a burst")
    picture = ET.fromstring(line.svg("a burst <of 2>"))  # noqa: S314 - our own
    assert len(picture.findall(".//{*}polyline")) == 3
    assert "a burst <of 2>" in "".join(picture.itertext())
