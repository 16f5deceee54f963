"""A growth and a change of class together, as the resizer calls a controller process; AWS calls are counted."""

import asyncio
from collections.abc import Awaitable
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

import aiohttp
import grpc
import pytest
from grpc import StatusCode

from hyperpod_ebs.emulator.emulator import Emulator
from hyperpod_ebs.pb import csi_pb2
from tests.support.controller_process import ControllerProcess, environment, start_controller
from tests.support.emulator_clients import Aws
from tests.support.waiting import wait_until

GIB: Final = 2**30
T = TypeVar("T")


async def call_counts(emulator: Emulator) -> dict[str, int]:
    """How often each operation has been called."""
    async with aiohttp.request("GET", f"{emulator.url}/_emulator/calls") as answer:
        counts: dict[str, int] = await answer.json()
    return counts


def growth(
    controller: ControllerProcess, volume: str, *, gib: int
) -> Awaitable[csi_pb2.ControllerExpandVolumeResponse]:
    """Call ControllerExpandVolume."""
    size = csi_pb2.CapacityRange(required_bytes=gib * GIB)
    request = csi_pb2.ControllerExpandVolumeRequest(volume_id=volume, capacity_range=size)
    return controller.csi.ControllerExpandVolume(request)


def change(
    controller: ControllerProcess, volume: str, **parameters: str
) -> Awaitable[csi_pb2.ControllerModifyVolumeResponse]:
    """Call ControllerModifyVolume."""
    request = csi_pb2.ControllerModifyVolumeRequest(volume_id=volume, mutable_parameters=parameters)
    return controller.csi.ControllerModifyVolume(request)


async def code_of(call: Awaitable[object]) -> StatusCode:
    """The code with which the call ends."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code()
    return StatusCode.OK


async def both(first: Awaitable[T], second: Awaitable[T]) -> tuple[T, T]:
    """The results of two calls at the same time."""

    async def result(call: Awaitable[T]) -> T:
        return await call

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(result(call)) for call in (first, second)]
    return tasks[0].result(), tasks[1].result()


@pytest.mark.requirement("csi.modify-volume.together")
async def test_a_growth_and_a_change_of_class_at_once_are_one_modification(
    emulator: Emulator, aws: Aws, short_path: Path
) -> None:
    """EC2 API reference, ModifyVolume: a volume can be modified four times in 24 hours."""
    volume = await aws.create_volume(Size=10)

    async with start_controller(short_path, environment(emulator)) as controller:
        codes = await both(
            code_of(growth(controller, volume, gib=20)),
            code_of(change(controller, volume, iops="4000", tagSpecification_1="tier=fast")),
        )

    shown = await aws.describe_volume(volume)
    assert codes == (StatusCode.OK, StatusCode.OK)
    assert (shown["Size"], shown["Iops"]) == (20, 4000)
    assert {"Key": "tier", "Value": "fast"} in shown["Tags"]
    assert (await call_counts(emulator))["ec2:ModifyVolume"] == 1


class Refused(NamedTuple):
    """What the callers ask for, of which EC2 refuses some, the codes that they get, and the volume's size and IOPS."""

    id: str
    gib: int
    iops: str
    codes: tuple[StatusCode, StatusCode]
    result: tuple[int, int]


@pytest.mark.requirement("csi.modify-volume.own-answer")
@pytest.mark.parametrize(
    "case",
    [
        Refused("the class", 20, "90000", (StatusCode.OK, StatusCode.INVALID_ARGUMENT), (20, 3000)),
        Refused("the size", 100_000, "4000", (StatusCode.OUT_OF_RANGE, StatusCode.OK), (10, 4000)),
        Refused("both", 100_000, "90000", (StatusCode.OUT_OF_RANGE, StatusCode.INVALID_ARGUMENT), (10, 3000)),
    ],
    ids=lambda case: case.id,
)
async def test_a_refused_part_does_not_fail_the_other(
    emulator: Emulator, aws: Aws, short_path: Path, case: Refused
) -> None:
    """Each caller gets the refusal of what it asked for."""
    volume = await aws.create_volume(Size=10)

    async with start_controller(short_path, environment(emulator)) as controller:
        codes = await both(
            code_of(growth(controller, volume, gib=case.gib)), code_of(change(controller, volume, iops=case.iops))
        )

    shown = await aws.describe_volume(volume)
    assert codes == case.codes
    assert (shown["Size"], shown["Iops"]) == case.result


@pytest.mark.requirement("csi.modify-volume.together")
async def test_callers_whose_deadline_has_passed_join_their_parts_when_they_repeat(
    emulator: Emulator, aws: Aws, short_path: Path
) -> None:
    """Sidecars repeat a call after their --timeout."""
    volume = await aws.create_volume(Size=10)
    size = csi_pb2.ControllerExpandVolumeRequest(
        volume_id=volume, capacity_range=csi_pb2.CapacityRange(required_bytes=20 * GIB)
    )
    attributes = csi_pb2.ControllerModifyVolumeRequest(volume_id=volume, mutable_parameters={"iops": "4000"})

    async with start_controller(short_path, environment(emulator)) as controller:
        for _ in range(2):
            await both(
                code_of(controller.csi.ControllerExpandVolume(size, timeout=0.1)),
                code_of(controller.csi.ControllerModifyVolume(attributes, timeout=0.1)),
            )
        codes = await both(
            code_of(controller.csi.ControllerExpandVolume(size)),
            code_of(controller.csi.ControllerModifyVolume(attributes)),
        )

    assert codes == (StatusCode.OK, StatusCode.OK)
    assert (await call_counts(emulator))["ec2:ModifyVolume"] == 1


@pytest.mark.requirement("csi.modify-volume.together")
async def test_a_controller_killed_in_the_window_requests_one_modification_after_its_restart(
    emulator: Emulator, aws: Aws, short_path: Path
) -> None:
    """The driver has no state on disk: the callers repeat, and nothing was requested before."""
    volume = await aws.create_volume(Size=10)
    flags = ("--modify-volume-request-handler-timeout=10m",)

    async def are_described() -> bool:
        return (await call_counts(emulator)).get("ec2:DescribeVolumes", 0) >= described + 1

    async with start_controller(short_path, environment(emulator), *flags) as controller:
        described = (await call_counts(emulator)).get("ec2:DescribeVolumes", 0)
        async with asyncio.TaskGroup() as group:
            killed = group.create_task(code_of(growth(controller, volume, gib=20)))
            await wait_until(are_described)
            controller.process.subprocess.kill()
    async with start_controller(short_path, environment(emulator), *flags) as controller:
        codes = await both(
            code_of(growth(controller, volume, gib=20)), code_of(change(controller, volume, iops="4000"))
        )

    assert killed.result() is StatusCode.UNAVAILABLE
    assert codes == (StatusCode.OK, StatusCode.OK)
    assert (await call_counts(emulator))["ec2:ModifyVolume"] == 1


@pytest.mark.requirement("csi.expand-volume.idempotent")
async def test_a_repeated_growth_costs_one_look(emulator: Emulator, aws: Aws, short_path: Path) -> None:
    """Each call of AWS takes a token from the account's budget."""
    volume = await aws.create_volume(Size=10)

    async with start_controller(short_path, environment(emulator)) as controller:
        await growth(controller, volume, gib=20)
        before = await call_counts(emulator)
        repeated = await growth(controller, volume, gib=20)
        after = await call_counts(emulator)

    new_calls = {name: count - before.get(name, 0) for name, count in after.items() if count != before.get(name, 0)}
    assert repeated.capacity_bytes == 20 * GIB
    assert new_calls == {"ec2:DescribeVolumes": 1}
