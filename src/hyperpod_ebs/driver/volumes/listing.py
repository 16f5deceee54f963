"""Lists volumes and snapshots, page by page.

EC2 gives no fewer than five of anything a page, in no order that lasts. So where a
caller takes fewer, our token carries the ids of those that were fetched and not
given, and then EC2's own token.
"""

import base64
import binascii
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model import volume as model
from hyperpod_ebs.driver.model.volume import Snapshot, Volume
from hyperpod_ebs.driver.volumes.cloud import Cloud, Page, PartlyRead

MOST: Final = 500
"""Entries of one page, also where the caller sets no bound: a message has its limits."""

LEAST: Final = 5
"""What EC2 takes as the smallest page."""


class _HasId(Protocol):
    @property
    def id(self) -> str: ...


T = TypeVar("T", bound=_HasId)


async def volume_page(cloud: Cloud, max_entries: int, token: str) -> Page[Volume]:
    """Some of the account's volumes: at most `max_entries`, or 500.

    Raises:
        InvalidRequest: `max_entries` is negative.
        Busy: The token is stale or not one of ours.
    """

    async def again(ids: Sequence[str]) -> list[Volume]:
        try:
            found = await cloud.volumes(ids) if ids else {}
        except PartlyRead as some:  # as on EC2's own pages
            found = some.found
        return [found[one] for one in ids if one in found]

    return await _page(max_entries, _Place.of(token), cloud.volume_page, again)


async def snapshot_page(
    cloud: Cloud, max_entries: int, token: str, *, volume_id: str, snapshot_id: str
) -> Page[Snapshot]:
    """Some of the account's snapshots, of one volume where one is named; or the one with an id, whoever's it is.

    Raises:
        InvalidRequest: `max_entries` is negative.
        Busy: The token is stale or not one of ours.
    """
    place = _Place.of(token)
    try:
        if snapshot_id:
            found = await cloud.snapshot(model.parse_snapshot_id(snapshot_id))
            return Page((found,) if found and volume_id in {"", found.volume_id} else ())
        source = model.parse_volume_id(volume_id) if volume_id else None
    except errors.NotFound:  # no snapshot is, or is of, what nothing can be
        return Page(())

    async def again(ids: Sequence[str]) -> list[Snapshot]:
        found = [await cloud.snapshot(one) for one in ids]
        return [one for one in found if one is not None]

    async def page(size: int, after: str | None) -> Page[Snapshot]:
        return await cloud.snapshot_page(size, after, volume_id=source)

    return await _page(max_entries, place, page, again)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a listing goes on: with what was fetched and not given, then with EC2's token."""

    left: tuple[str, ...] = ()
    after: str | None = None
    more: bool = True
    """Whether EC2 has more."""

    @classmethod
    def of(cls, token: str) -> "_Place":
        """The place that a token of ours names.

        Raises:
            Busy: It is none of ours: the listing has to start again.
        """
        if not token:
            return cls()
        try:
            left, after = json.loads(base64.urlsafe_b64decode(token.encode()))
            return cls(tuple(map(str, left)), after and str(after), more=after is not None)
        except (ValueError, TypeError, binascii.Error) as error:
            raise errors.Busy(f"starting token {token[:40]!r} is not one of ours: list from the start") from error

    @property
    def token(self) -> str | None:
        """The token that names this place; None at the end."""
        if not self.left and not self.more:
            return None
        return base64.urlsafe_b64encode(json.dumps([self.left, self.after]).encode()).decode()


async def _page(
    max_entries: int,
    place: _Place,
    fetch: Callable[[int, str | None], Awaitable[Page[T]]],
    again: Callable[[Sequence[str]], Awaitable[list[T]]],
) -> Page[T]:
    """The page at `place`, filled as far as there is more."""
    if max_entries < 0:
        raise errors.InvalidRequest(f"max_entries is {max_entries}; it cannot be negative")
    most = min(max_entries or MOST, MOST)
    items = await again(place.left[:most])
    left, after, more = [*place.left[most:]], place.after, place.more
    while more and len(items) < most:
        try:
            page = await fetch(max(most - len(items), LEAST), after)
        except errors.InvalidRequest as refusal:  # EC2 also says so of a token that it has forgotten
            if after is None:
                raise
            raise errors.Busy(f"the starting token is stale, list from the start: {refusal}") from refusal
        room = most - len(items)
        items += page.items[:room]
        left = [one.id for one in page.items[room:]]
        after, more = page.next_token, page.next_token is not None
    return Page(tuple(items), _Place(tuple(left), after, more=more).token)
