"""Pages: as many as are asked for, each thing once, whatever EC2's own pages are."""

import base64
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.volume import Volume
from hyperpod_ebs.driver.volumes.cloud import Page
from hyperpod_ebs.driver.volumes.listing import LEAST, MOST, snapshot_page, volume_page
from tests.support.scripted_cloud import ScriptedCloud, a_volume
from tests.support.virtual_time import run


@dataclass
class Shelf(ScriptedCloud):
    """Volumes by their own ids; pages no smaller than EC2's."""

    async def volumes(self, ids: Collection[str]) -> Mapping[str, Volume]:
        """Those there are."""
        return {one.id: one for one in self.named if one.id in ids}

    async def volume_page(self, size: int, token: str | None) -> Page[Volume]:
        """A page of a size that EC2 takes."""
        assert LEAST <= size <= 1000
        return await super().volume_page(size, token)


def shelf(count: int) -> Shelf:
    """So many volumes."""
    return Shelf(named=tuple(a_volume(id=f"vol-{number:08x}") for number in range(count)))


@pytest.mark.requirement("csi.list-volumes.pages")
@given(st.integers(0, 40), st.lists(st.integers(1, 12), min_size=1, max_size=5))
def test_pages_are_exact_and_show_each_volume_once(count: int, sizes: list[int]) -> None:
    """CSI: at most max_entries a page, also where EC2's smallest page is larger; a page is short only at the end."""
    stock = shelf(count)

    async def act() -> list[list[str]]:
        pages: list[list[str]] = []
        token: str | None = ""
        while token is not None:
            page = await volume_page(stock.cloud, sizes[len(pages) % len(sizes)], token)
            pages.append([volume.id for volume in page.items])
            token = page.next_token
        return pages

    pages = run(act())

    assert [one for page in pages for one in page] == [volume.id for volume in stock.named]
    assert all(len(page) == sizes[number % len(sizes)] for number, page in enumerate(pages[:-1]))


def test_a_page_has_five_hundred_at_most() -> None:
    """Attacher: it sets no bound, and a message has its limits."""
    stock = shelf(MOST + 10)

    for asked in (0, 10_000):
        page = run(volume_page(stock.cloud, asked, ""))

        assert len(page.items) == MOST
        assert page.next_token


def test_what_was_deleted_between_two_pages_is_left_out() -> None:
    """CSI: a token stays good when a volume of the next page goes."""
    stock = shelf(5)

    first = run(volume_page(stock.cloud, 2, ""))
    stock.named = (*stock.named[:2], *stock.named[3:])
    second = run(volume_page(stock.cloud, 2, first.next_token or ""))

    assert [volume.id for volume in second.items] == ["vol-00000003"]


@pytest.mark.requirement("csi.list-volumes.token")
@given(st.text(min_size=1) | st.binary(min_size=1).map(lambda some: base64.urlsafe_b64encode(some).decode()))
def test_a_token_that_is_none_of_ours_starts_the_listing_again(token: str) -> None:
    """CSI: ABORTED."""
    with pytest.raises(errors.Busy):
        run(volume_page(shelf(3).cloud, 0, token))


@pytest.mark.requirement("csi.unsupported-field")
def test_a_negative_bound_is_refused() -> None:
    """CSI: INVALID_ARGUMENT."""
    with pytest.raises(errors.InvalidRequest):
        run(volume_page(shelf(3).cloud, -1, ""))


@pytest.mark.parametrize(
    ("volume_id", "snapshot_id"), [("no-volume", ""), ("", "no-snapshot"), ("no-volume", "snap-0")]
)
def test_ids_that_nothing_can_have_list_nothing(volume_id: str, snapshot_id: str) -> None:
    """CSI: an unknown id is an empty list."""
    page = run(snapshot_page(ScriptedCloud().cloud, 0, "", volume_id=volume_id, snapshot_id=snapshot_id))

    assert page.items == ()
    assert page.next_token is None


@pytest.mark.requirement("csi.list-volumes.token")
def test_a_token_that_ec2_has_forgotten_is_stale_and_no_mistake_of_the_callers() -> None:
    """CSI: ABORTED; EC2 may say InvalidParameterValue. Without a token it is a mistake, and ours."""

    class Forgetful(Shelf):
        async def volume_page(self, size: int, token: str | None) -> Page[Volume]:
            if token or not self.named:
                raise errors.InvalidRequest("unable to parse pagination token")
            return await super().volume_page(size, token)

    stock, empty = Forgetful(named=shelf(20).named), Forgetful()
    first = run(volume_page(stock.cloud, 10, ""))

    with pytest.raises(errors.Busy, match="stale"):
        run(volume_page(stock.cloud, 10, first.next_token or ""))
    with pytest.raises(errors.InvalidRequest):
        run(volume_page(empty.cloud, 10, ""))
