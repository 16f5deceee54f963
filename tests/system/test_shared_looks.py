"""The controller shares its looks at AWS: many callers at once cost few calls.

EC2 refills the budget of each describing action by 20 calls a second (EC2 developer guide, "Request throttling").
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Iterable
from typing import Any, TypeVar

import pytest

from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.sizes import GiB, SizeRange
from hyperpod_ebs.driver.model.volume import Volume
from hyperpod_ebs.driver.volumes.absence import find_volume, get_volume
from hyperpod_ebs.driver.volumes.snapshot import take_snapshot
from tests.support.in_process_controller import Controller, a_snapshot

T = TypeVar("T")


@pytest.fixture(name="controller")
async def open_controller(monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Controller]:
    """The controller's code on an emulator whose states change at once."""
    async with Controller.open(monkeypatch) as running:
        yield running


async def await_at_once(calls: Iterable[Awaitable[T]]) -> list[T]:
    """Await all calls at the same time; their results."""

    async def result(call: Awaitable[T]) -> T:
        return await call

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(result(call)) for call in calls]
    return [task.result() for task in tasks]


async def provision(controller: Controller, count: int) -> list[Volume]:
    """Provision this many volumes at once."""
    return await await_at_once(controller.provision(f"pvc-{number}") for number in range(count))


async def test_a_thousand_questions_for_volumes_at_once_are_a_few_calls(controller: Controller) -> None:
    """The external-health-monitor asks for every volume of the cluster."""
    volumes = [await controller.aws.create_volume() for _ in range(250)]
    before = await controller.call_count("ec2:DescribeVolumes")

    shown = await await_at_once(get_volume(controller.cloud, id_) for id_ in volumes * 4)

    assert [volume.id for volume in shown] == volumes * 4
    assert await controller.call_count("ec2:DescribeVolumes") - before <= 10


async def test_a_hundred_volumes_at_once_are_looked_up_by_a_few_calls(controller: Controller) -> None:
    """CSI spec, CreateVolume: idempotent, so that each call first looks for the volume of its name."""
    volumes = await provision(controller, 100)
    before = await controller.call_count("ec2:DescribeVolumes")

    repeated = await provision(controller, 100)

    assert [volume.id for volume in repeated] == [volume.id for volume in volumes]
    assert before < 100
    assert await controller.call_count("ec2:DescribeVolumes") - before <= 5


async def test_a_hundred_volumes_at_once_for_which_the_driver_chooses_the_zone_are_a_few_calls(
    controller: Controller,
) -> None:
    """A StorageClass with immediate binding and without allowedTopologies leaves the zone to the driver."""
    await await_at_once(controller.cloud.list_zones() for _ in range(100))

    assert await controller.call_count("ec2:DescribeAvailabilityZones") <= 2


@pytest.mark.parametrize("consistency", ["immediate", "eventual"])
async def test_a_hundred_snapshots_that_are_asked_for_four_times_are_a_few_calls(
    monkeypatch: pytest.MonkeyPatch, consistency: str
) -> None:
    """The external-snapshotter repeats CreateSnapshot until the snapshot is ready."""
    async with Controller.open(monkeypatch, consistency=consistency) as controller:
        volumes = await provision(controller, 100)

        rounds = [
            await await_at_once(
                take_snapshot(controller.cloud, a_snapshot(volume, f"snapshot of {volume.id}")) for volume in volumes
            )
            for _ in range(4)
        ]

        ids = [[snapshot.id for snapshot in taken] for taken in rounds]
        assert ids == [ids[0]] * 4
        assert len(set(ids[0])) == 100
        assert await controller.call_count("ec2:CreateSnapshot") == 100
        assert await controller.call_count("ec2:DescribeSnapshots") <= 200


async def test_a_hundred_expansions_at_once_that_change_nothing_are_a_few_calls(controller: Controller) -> None:
    """The external-resizer repeats ControllerExpandVolume."""
    volumes = await provision(controller, 100)
    operations = ("ec2:DescribeVolumes", "ec2:DescribeVolumesModifications")
    before = [await controller.call_count(operation) for operation in operations]

    await await_at_once(controller.modifier.expand_volume(volume.id, SizeRange(GiB(1))) for volume in volumes)

    after = [await controller.call_count(operation) for operation in operations]
    assert max(now - then for now, then in zip(after, before, strict=True)) <= 10


async def test_each_of_many_callers_learns_what_is_true_of_its_own_volume(controller: Controller) -> None:
    """A volume that does not exist fails no other caller, and its absence is proved by its id."""
    volumes = [await controller.aws.create_volume() for _ in range(3)]
    absent = "vol-0123456789abcdef0"
    calls: list[Any] = [find_volume(controller.cloud, id_) for id_ in (*volumes, absent)]

    *shown, nothing = await await_at_once(calls)

    assert [volume.id for volume in shown] == volumes
    assert nothing is None


async def test_a_denial_names_the_volume_of_each_caller(controller: Controller) -> None:
    volumes = [volume.id for volume in await provision(controller, 3)]
    text = "User: x is not authorized to perform: ec2:DescribeVolumes"
    controller.refuse("DescribeVolumes", "UnauthorizedOperation", text)

    async def refusal_of(volume: str) -> str:
        with pytest.raises(errors.Denied) as caught:
            await get_volume(controller.cloud, volume)
        return str(caught.value)

    for volume, refusal in zip(volumes, await await_at_once(map(refusal_of, volumes)), strict=True):
        assert refusal.startswith(f"cannot describe volume {volume}: ")
        assert "ec2:DescribeVolumes" in refusal
