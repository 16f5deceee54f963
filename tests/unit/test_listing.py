"""Pages have as many entries as the caller asks for, and each entry appears once, for any pages of EC2."""

import base64
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.sizes import GiB
from hyperpod_ebs.driver.model.volume import Snapshot, SnapshotState, Volume
from hyperpod_ebs.driver.volumes.cloud import Page
from hyperpod_ebs.driver.volumes.listing import list_snapshots, list_volumes
from tests.support.scripted_cloud import ScriptedCloud, a_volume
from tests.support.virtual_time import now, run


@dataclass
class ListedCloud(ScriptedCloud):
    """A cloud whose volumes have different ids, and whose pages are as large as EC2's."""

    async def describe_volumes(self, ids: Collection[str]) -> Mapping[str, Volume]:
        """Answer the volumes in `named` with these ids."""
        return {volume.id: volume for volume in self.named if volume.id in ids}

    async def list_volumes(self, size: int, token: str | None) -> Page[Volume]:
        """Answer a page, if EC2 accepts its size."""
        assert 5 <= size <= 1000
        return await super().list_volumes(size, token)


@dataclass
class SnapshotListCloud(ScriptedCloud):
    """A cloud with snapshots, all on one page."""

    async def describe_snapshot(self, snapshot_id: str) -> Snapshot:
        """Answer the snapshot in `snapshots` with this id, or that the id is unknown."""
        for snapshot in self.snapshots:
            if snapshot.id == snapshot_id:
                return snapshot
        raise errors.SnapshotNotFound(f"snapshot {snapshot_id} does not exist")

    async def list_snapshots(self, _: int, __: str | None, *, volume_id: str | None) -> Page[Snapshot]:
        """Answer all snapshots."""
        assert volume_id is None
        return Page(self.snapshots)


def a_snapshot(number: int) -> Snapshot:
    """A completed snapshot."""
    state, started = SnapshotState.COMPLETED, datetime(2026, 1, 1, tzinfo=UTC)
    return Snapshot(id=f"snap-{number:08x}", volume_id="vol-1", size=GiB(1), state=state, started=started)


def listed_cloud(count: int) -> ListedCloud:
    """A cloud with `count` volumes."""
    return ListedCloud(named=tuple(a_volume(id=f"vol-{number:08x}") for number in range(count)))


@pytest.mark.requirement("csi.list-volumes.pages")
@given(st.integers(0, 40), st.lists(st.integers(1, 12), min_size=1, max_size=5))
def test_pages_have_the_requested_size_and_show_each_volume_once(count: int, sizes: list[int]) -> None:
    """CSI spec, ListVolumes: a page has at most max_entries entries, although EC2's smallest page has five."""
    listed = listed_cloud(count)

    async def act() -> list[list[str]]:
        pages: list[list[str]] = []
        token: str | None = ""
        while token is not None:
            page = await list_volumes(listed.cloud, sizes[len(pages) % len(sizes)], token)
            pages.append([volume.id for volume in page.items])
            token = page.next_token
        return pages

    pages = run(act())

    assert [id_ for page in pages for id_ in page] == [volume.id for volume in listed.named]
    assert all(len(page) == sizes[number % len(sizes)] for number, page in enumerate(pages[:-1]))


def test_a_page_has_at_most_500_entries() -> None:
    """The attacher sets no limit, and the size of a gRPC message is limited."""
    listed = listed_cloud(510)

    for max_entries in (0, 10_000):
        page = run(list_volumes(listed.cloud, max_entries, ""))

        assert len(page.items) == 500
        assert page.next_token


@pytest.mark.requirement("absence.proved")
def test_a_snapshot_that_ec2_shows_late_is_listed_by_its_id() -> None:
    """external-snapshotter takes an empty list for a snapshot that is gone."""

    @dataclass
    class LateCloud(SnapshotListCloud):
        async def describe_snapshot(self, snapshot_id: str) -> Snapshot:
            if now() < 1:
                raise errors.SnapshotNotFound(f"snapshot {snapshot_id} does not exist")
            return await SnapshotListCloud.describe_snapshot(self, snapshot_id)

    late = LateCloud(snapshots=(a_snapshot(1),))
    page = run(list_snapshots(late.cloud, 0, "", volume_id="", snapshot_id="snap-00000001"))

    assert [snapshot.id for snapshot in page.items] == ["snap-00000001"]


def test_a_volume_that_is_deleted_between_two_pages_is_left_out() -> None:
    """CSI spec, ListVolumes: the list may change between two pages."""
    listed = listed_cloud(5)

    first = run(list_volumes(listed.cloud, 2, ""))
    listed.named = (*listed.named[:2], *listed.named[3:])
    second = run(list_volumes(listed.cloud, 2, first.next_token or ""))

    assert [volume.id for volume in second.items] == ["vol-00000003"]


def test_a_snapshot_that_is_deleted_between_two_pages_is_left_out() -> None:
    """CSI spec, ListSnapshots: the list may change between two pages."""
    listed = SnapshotListCloud(snapshots=tuple(a_snapshot(number) for number in range(5)))

    first = run(list_snapshots(listed.cloud, 2, "", volume_id="", snapshot_id=""))
    listed.snapshots = (*listed.snapshots[:2], *listed.snapshots[3:])
    second = run(list_snapshots(listed.cloud, 2, first.next_token or "", volume_id="", snapshot_id=""))

    assert [snapshot.id for snapshot in second.items] == ["snap-00000003"]


@pytest.mark.requirement("csi.list-volumes.token")
@given(st.text(min_size=1) | st.binary(min_size=1).map(lambda data: base64.urlsafe_b64encode(data).decode()))
def test_a_foreign_token_makes_the_caller_start_the_list_again(token: str) -> None:
    """CSI spec, ListVolumes: "Invalid starting_token"."""
    with pytest.raises(errors.Busy):
        run(list_volumes(listed_cloud(3).cloud, 0, token))


@pytest.mark.requirement("csi.list-volumes.token")
@pytest.mark.parametrize(
    "position", ["[[], []]", '[[], ""]', "[[], 0]", '["ab", null]', "[[1], null]", '[[], "\\ud800"]']
)
def test_a_token_with_values_of_other_types_makes_the_caller_start_the_list_again(position: str) -> None:
    """CSI spec, ListVolumes: "Invalid starting_token"; base64 and JSON alone do not make it a token of this driver."""
    token = base64.urlsafe_b64encode(position.encode()).decode()

    with pytest.raises(errors.Busy):
        run(list_volumes(listed_cloud(3).cloud, 0, token))


@pytest.mark.requirement("csi.list-volumes.token")
def test_a_token_of_nested_brackets_makes_the_caller_start_the_list_again() -> None:
    """Python's JSON parser raises RecursionError, which the caller would see as a bug."""
    token = base64.urlsafe_b64encode(b"[" * 100_000).decode()

    with pytest.raises(errors.Busy):
        run(list_volumes(listed_cloud(3).cloud, 0, token))


@pytest.mark.requirement("csi.unsupported-field")
def test_a_negative_limit_is_refused() -> None:
    with pytest.raises(errors.InvalidRequest):
        run(list_volumes(listed_cloud(3).cloud, -1, ""))


@pytest.mark.parametrize(
    ("volume_id", "snapshot_id"), [("no-volume", ""), ("", "no-snapshot"), ("no-volume", "snap-0")]
)
def test_the_list_of_snapshots_is_empty_for_an_id_that_nothing_can_have(volume_id: str, snapshot_id: str) -> None:
    """CSI spec, ListSnapshots: without a match the list is empty."""
    page = run(list_snapshots(ScriptedCloud().cloud, 0, "", volume_id=volume_id, snapshot_id=snapshot_id))

    assert page.items == ()
    assert page.next_token is None


@pytest.mark.requirement("csi.list-volumes.token")
def test_a_token_that_ec2_has_forgotten_makes_the_caller_start_the_list_again() -> None:
    """EC2 may answer InvalidParameterValue to an expired token; without a token, the driver's request is wrong."""

    class ForgetfulCloud(ListedCloud):
        async def list_volumes(self, size: int, token: str | None) -> Page[Volume]:
            if token or not self.named:
                raise errors.InvalidRequest("unable to parse pagination token")
            return await super().list_volumes(size, token)

    listed, empty = ForgetfulCloud(named=listed_cloud(20).named), ForgetfulCloud()
    first = run(list_volumes(listed.cloud, 10, ""))

    with pytest.raises(errors.Busy, match="stale"):
        run(list_volumes(listed.cloud, 10, first.next_token or ""))
    with pytest.raises(errors.InvalidRequest):
        run(list_volumes(empty.cloud, 10, ""))
