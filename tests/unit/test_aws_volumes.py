"""Describing volumes: the driver reads all pages, and does not take a volume that it cannot parse for deleted."""

import asyncio
from collections.abc import Awaitable, Collection, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.exceptions import ConnectTimeoutError

from hyperpod_ebs.driver.aws.account import Account
from hyperpod_ebs.driver.aws.calls import POLL_TIMEOUT
from hyperpod_ebs.driver.aws.clients import CONNECT_TIMEOUT, Clients
from hyperpod_ebs.driver.aws.ec2_snapshots import Ec2Snapshots
from hyperpod_ebs.driver.aws.ec2_volumes import Ec2Volumes
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.aws_request import Request
from hyperpod_ebs.driver.model.tags import SNAPSHOT_NAME, VOLUME_NAME
from hyperpod_ebs.driver.volumes.cloud import PartlyRead
from hyperpod_ebs.driver.volumes.governor import Governor
from hyperpod_ebs.driver.volumes.pace import Transition
from hyperpod_ebs.driver.volumes.watch import Poller
from tests.support.virtual_time import now, run


def volume_shape(volume_id: str, **more: Any) -> Mapping[str, Any]:
    """A volume as EC2 describes it."""
    shape = {"VolumeId": volume_id, "Size": 1, "AvailabilityZone": "us-west-2a", "State": "available"}
    return shape | {"VolumeType": "gp3"} | more


def snapshot_shape(snapshot_id: str, name: str) -> Mapping[str, Any]:
    """A snapshot as EC2 describes it."""
    shape = {"SnapshotId": snapshot_id, "VolumeId": "vol-1", "VolumeSize": 1, "State": "completed"}
    return shape | {"StartTime": datetime.now(UTC), "Tags": [{"Key": SNAPSHOT_NAME, "Value": name}]}


class ScriptedAws:
    """The parts of EC2 and STS that these tests need, with answers that the emulator does not give."""

    def __init__(self, *pages: list[Mapping[str, Any]]) -> None:
        self.pages = pages
        self.identity_calls = 0

    async def describe_volumes(self, **request: Any) -> Mapping[str, Any]:
        """Answer with one page after the other."""
        page = int(request.get("NextToken", 0))
        more = {"NextToken": str(page + 1)} if page + 1 < len(self.pages) else {}
        return {"Volumes": self.pages[page], **more}

    async def get_caller_identity(self) -> Mapping[str, Any]:
        """Answer with the account."""
        self.identity_calls += 1
        return {"Account": "123456789012"}


def clients_of(aws: Any) -> Clients:
    """Clients that all call `aws`."""
    return Clients(ec2=aws, sagemaker=aws, sts=aws, account=Account(partition="aws", region="us-west-2"))


def ec2_volumes(aws: Any, governor: Governor | None = None) -> Ec2Volumes:
    """The driver's volumes in `aws`."""
    clients = clients_of(aws)

    async def connect() -> Clients:
        return clients

    return Ec2Volumes(clients=connect, governor=governor or Governor())


UNKNOWN_STATE = volume_shape("vol-2", State="hibernating")


def test_a_volume_on_a_later_page_is_found() -> None:
    """EC2 applies a filter to each page, so a page may be empty (DescribeVolumes, MaxResults)."""
    found = run(
        ec2_volumes(ScriptedAws([volume_shape("vol-1")], [], [volume_shape("vol-2")])).describe_volumes(
            ["vol-1", "vol-2"]
        )
    )

    assert sorted(found) == ["vol-1", "vol-2"]


@pytest.mark.parametrize("odd", [UNKNOWN_STATE, volume_shape("vol-2", State="in-use", Attachments=[{}])])
def test_a_volume_that_cannot_be_parsed_is_distinguished_from_a_deleted_one(odd: Mapping[str, Any]) -> None:
    """A volume that is absent counts as detached, or as never created."""
    with pytest.raises(PartlyRead, match="vol-2") as error:
        run(ec2_volumes(ScriptedAws([volume_shape("vol-1"), odd])).describe_volumes(["vol-1", "vol-2", "vol-3"]))

    assert sorted(error.value.found) == ["vol-1"]
    assert error.value.unread == {"vol-2"}
    with pytest.raises(errors.CloudError, match="vol-2"):
        run(ec2_volumes(ScriptedAws([odd])).describe_volumes(["vol-2"]))


def test_a_volume_that_cannot_be_parsed_does_not_hide_the_others_of_a_list() -> None:
    """The external-attacher attaches every volume again that the list does not show as attached."""
    page = run(ec2_volumes(ScriptedAws([volume_shape("vol-1"), UNKNOWN_STATE])).list_volumes(5, None))

    assert [volume.id for volume in page.items] == ["vol-1"]


def test_a_name_is_compared_although_ec2_was_asked_for_it() -> None:
    """EC2 API reference, Filter: a value is a pattern. A search that finds more must not give a name another volume."""
    named = [{"Key": VOLUME_NAME, "Value": name} for name in ("pvc-1", "pvc-10")]
    shapes = [volume_shape(f"vol-{number}", Tags=[tag]) for number, tag in enumerate(named)]

    found = run(ec2_volumes(ScriptedAws(shapes)).find_volumes_named("pvc-1"))

    assert [volume.id for volume in found] == ["vol-0"]


class HangingAws(ScriptedAws):
    """Never answers the first request."""

    def __init__(self) -> None:
        super().__init__([volume_shape("vol-1")])
        self.requests = 0

    async def describe_volumes(self, **request: Any) -> Mapping[str, Any]:
        """Answer all requests but the first."""
        self.requests += 1
        if self.requests == 1:
            await asyncio.sleep(3600)
        return await super().describe_volumes(**request)


@pytest.mark.requirement("waits.end")
def test_a_poll_whose_answer_does_not_come_is_repeated_soon() -> None:
    """All operations wait for the poll. The next request uses another connection."""

    async def act() -> float:
        await ec2_volumes(HangingAws()).describe_volumes(["vol-1"])
        return now()

    assert POLL_TIMEOUT < run(act()) < POLL_TIMEOUT + 1


@pytest.mark.requirement("waits.end")
def test_a_poll_keeps_its_place_however_many_other_calls_wait_for_their_turn() -> None:
    """Hundreds of volumes that are asked for by their ids must not stop all operations that wait for AWS."""
    governor = Governor()
    cloud = ec2_volumes(ScriptedAws([volume_shape("vol-1")]), governor)

    async def ask_again_and_again(volume_id: str) -> None:
        for _ in range(4):
            await governor.call(Request("DescribeVolumes", volume_id, "ask"), lambda: asyncio.sleep(0))

    async def act() -> float:
        async with asyncio.TaskGroup() as group:
            for number in range(300):
                group.create_task(ask_again_and_again(f"vol-absent-{number}"))
            poller = Poller(cloud.describe_volumes)
            polling = group.create_task(poller.run())
            await poller.wait_until("vol-1", Transition.CREATE, bool, patience=600)
            polling.cancel()
            return now()

    assert run(act()) < 300 / 20 + 1


class IndexedAws(ScriptedAws):
    """Shows the volumes that a request asks for, by their ids or by a filter."""

    def __init__(self, *shapes: Mapping[str, Any], listed: Collection[str] | None = None) -> None:
        """`listed` has the ids that filters find; None if they find all."""
        self.shapes = {shape["VolumeId"]: shape for shape in shapes}
        self.listed = self.shapes.keys() if listed is None else listed
        self.requests: list[Mapping[str, Any]] = []

    async def describe_volumes(self, **request: Any) -> Mapping[str, Any]:
        """Answer as EC2 does, in a while."""
        self.requests.append(request)
        await asyncio.sleep(0.1)
        if ids := request.get("VolumeIds"):
            return {"Volumes": [self.shapes[id_] for id_ in ids]}
        (by,) = request["Filters"]
        shown = [shape for id_, shape in self.shapes.items() if id_ in self.listed]
        if by["Name"] == "volume-id":
            return {"Volumes": [shape for shape in shown if shape["VolumeId"] in by["Values"]]}
        return {"Volumes": [shape for shape in shown if shape["Tags"][0]["Value"] in by["Values"]]}

    async def delete_volume(self, **request: Any) -> Mapping[str, Any]:
        """Delete the volume; a filter still finds it."""
        self.requests.append(request)
        return {}


async def outcomes_of(*calls: Awaitable[Any]) -> list[Any]:
    """Await all calls at the same time; their results and errors."""

    async def outcome(call: Awaitable[Any]) -> Any:
        try:
            return await call
        except errors.Error as error:
            return error

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(outcome(call)) for call in calls]
    return [task.result() for task in tasks]


def test_a_volume_that_cannot_be_parsed_fails_only_its_own_caller() -> None:
    """The callers share a call, and not its outcome."""
    cloud = ec2_volumes(IndexedAws(volume_shape("vol-1"), UNKNOWN_STATE))

    found, odd = run(outcomes_of(cloud.describe_volume("vol-1"), cloud.describe_volume("vol-2")))

    assert found.id == "vol-1"
    assert isinstance(odd, errors.CloudError)
    assert str(odd).startswith("cannot describe volume vol-2: AWS's answer is unusable: 'hibernating'")


def test_a_named_volume_that_cannot_be_parsed_fails_only_its_own_caller() -> None:
    """A second volume must not be created for the name, but any other name may get its volume."""
    names = {number: [{"Key": VOLUME_NAME, "Value": f"pvc-{number}"}] for number in (1, 2)}
    aws = IndexedAws(volume_shape("vol-1", Tags=names[1]), volume_shape("vol-2", State="odd", Tags=names[2]))
    cloud = ec2_volumes(aws)

    found, odd, none = run(outcomes_of(*(cloud.find_volumes_named(f"pvc-{number}") for number in (1, 2, 3))))

    assert [volume.id for volume in found] == ["vol-1"]
    assert isinstance(odd, errors.CloudError)
    assert none == ()
    assert len(aws.requests) < 3, "the names share calls"


def test_a_volume_that_a_filter_does_not_find_is_asked_for_by_its_id() -> None:
    """Only EC2's answer to the id itself proves that there is no such volume."""
    aws = IndexedAws(volume_shape("vol-1"), volume_shape("vol-2"), listed=["vol-1"])
    cloud = ec2_volumes(aws)

    found = run(outcomes_of(cloud.describe_volume("vol-1"), cloud.describe_volume("vol-2")))

    assert [volume.id for volume in found] == ["vol-1", "vol-2"]
    assert aws.requests[1:] == [{"VolumeIds": ["vol-2"]}]


def test_a_volume_that_was_deleted_a_moment_ago_is_asked_for_by_its_id() -> None:
    """EC2 developer guide, eventual consistency: a filter may find a volume after its deletion."""
    aws = IndexedAws(volume_shape("vol-1"))
    cloud = ec2_volumes(aws)

    run(outcomes_of(cloud.delete_volume("vol-1")))
    run(outcomes_of(cloud.describe_volume("vol-1")))

    assert aws.requests[1:] == [{"VolumeIds": ["vol-1"]}]


def test_a_snapshot_of_another_account_is_found_by_its_id() -> None:
    """EC2 API reference, DescribeSnapshots: "private snapshots owned by other AWS accounts" with create permissions."""

    class Snapshots:
        async def describe_snapshots(self, **request: Any) -> Mapping[str, Any]:
            is_by_id = request == {"SnapshotIds": ["snap-1"]}
            assert is_by_id or request["OwnerIds"] == ["self"], "EC2 would search the public snapshots of all accounts"
            return {"Snapshots": [snapshot_shape("snap-1", "sbi")] if is_by_id else []}

    clients = clients_of(Snapshots())

    async def connect() -> Clients:
        return clients

    cloud = Ec2Snapshots(clients=connect)

    assert run(cloud.describe_snapshot("snap-1")).id == "snap-1"
    assert run(cloud.find_new_snapshot("snap-1")) is None


def test_the_name_of_a_snapshot_is_compared_although_ec2_was_asked_for_it() -> None:
    """EC2 API reference, Filter: a value is a pattern."""

    class Snapshots:
        async def describe_snapshots(self, **_: Any) -> Mapping[str, Any]:
            return {"Snapshots": [snapshot_shape("snap-0", "sbi?"), snapshot_shape("snap-1", "sbig")]}

    clients = clients_of(Snapshots())

    async def connect() -> Clients:
        return clients

    found = run(Ec2Snapshots(clients=connect).find_snapshots_named("sbi?"))

    assert [snapshot.id for snapshot in found] == ["snap-0"]


def test_volumes_that_other_accounts_share_are_not_listed() -> None:
    """EC2 API reference, Volume: OwnerId; the account's own id is needed only if there are several owners."""
    own, shared = volume_shape("vol-1", OwnerId="123456789012"), volume_shape("vol-2", OwnerId="210987654321")
    alone, together = ScriptedAws([own]), ScriptedAws([own, shared])

    pages = [run(ec2_volumes(aws).list_volumes(5, None)) for aws in (alone, together)]

    assert [[volume.id for volume in page.items] for page in pages] == [["vol-1"], ["vol-1"]]
    assert (alone.identity_calls, together.identity_calls) == (0, 1)


class HangingSts(ScriptedAws):
    """Answers no call to STS."""

    async def get_caller_identity(self) -> Mapping[str, Any]:
        """Fail like a connection that is never open."""
        await asyncio.sleep(CONNECT_TIMEOUT)
        raise ConnectTimeoutError(endpoint_url="https://sts")


def test_simultaneous_calls_look_up_the_account_once() -> None:
    """Hundreds of volumes may be attached at once when a controller starts."""
    aws = ScriptedAws([])
    volumes = ec2_volumes(aws)

    async def look_up() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(100):
                group.create_task(volumes.resolve_account_id())

    run(look_up())

    assert aws.identity_calls == 1


def test_simultaneous_calls_learn_together_that_sts_does_not_answer() -> None:
    """A VPC may have no endpoint for STS. Calls that ask one after the other would wait for hours."""
    volumes = ec2_volumes(HangingSts([]))

    async def look_up() -> float:
        outcomes = await outcomes_of(*(volumes.resolve_account_id() for _ in range(100)))
        assert all(isinstance(outcome, errors.Unavailable) for outcome in outcomes)
        return now()

    assert run(look_up()) < 20
