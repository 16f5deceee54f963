"""List volumes and snapshots, page by page.

EC2's pages have at least five entries, in an order that can change. If the caller wants fewer entries, the driver's
token carries the ids of the entries that EC2 returned and the caller has not received, and EC2's own token.
"""

import base64
import json
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model import volume as model
from hyperpod_ebs.driver.model.volume import Snapshot, Volume
from hyperpod_ebs.driver.volumes.absence import find_snapshot
from hyperpod_ebs.driver.volumes.cloud import Cloud, Page, PartlyRead

MAX_ENTRIES: Final = 500
"""Entries on a page, also if the caller sets no limit: the size of a gRPC message is limited."""

MIN_EC2_ENTRIES: Final = 5
"""The smallest page that EC2 accepts."""


class _HasId(Protocol):
    @property
    def id(self) -> str: ...


T = TypeVar("T", bound=_HasId)


async def list_volumes(cloud: Cloud, max_entries: int, token: str) -> Page[Volume]:
    """List a page of the account's volumes, at most `max_entries` or 500.

    Raises:
        InvalidRequest: `max_entries` is negative.
        Busy: The token is stale, or this driver did not issue it.
    """

    async def describe(ids: Sequence[str]) -> list[Volume]:
        try:
            found = await cloud.describe_volumes(ids) if ids else {}
        except PartlyRead as partly:  # EC2's own pages leave out unreadable volumes too
            found = partly.found
        return [found[id_] for id_ in ids if id_ in found]

    return await _fill_page(max_entries, _Position.from_token(token), cloud.list_volumes, describe)


async def list_snapshots(
    cloud: Cloud, max_entries: int, token: str, *, volume_id: str, snapshot_id: str
) -> Page[Snapshot]:
    """List a page of the account's snapshots, of one volume if `volume_id` is not empty.

    With a `snapshot_id`, the page has only this snapshot, which another account may own.

    Raises:
        InvalidRequest: `max_entries` is negative.
        Busy: The token is stale, or this driver did not issue it.
    """
    position = _Position.from_token(token)
    try:
        if snapshot_id:
            found = await find_snapshot(cloud, model.parse_snapshot_id(snapshot_id))
            return Page((found,) if found and volume_id in {"", found.volume_id} else ())
        source = model.parse_volume_id(volume_id) if volume_id else None
    except errors.NotFound:  # no snapshot matches an id that nothing can have
        return Page(())

    async def describe(ids: Sequence[str]) -> list[Snapshot]:
        found = []
        for id_ in ids:
            with suppress(errors.SnapshotNotFound):  # deleted since the previous page
                found.append(await cloud.describe_snapshot(id_))
        return found

    async def fetch(size: int, ec2_token: str | None) -> Page[Snapshot]:
        return await cloud.list_snapshots(size, ec2_token, volume_id=source)

    return await _fill_page(max_entries, position, fetch, describe)


@dataclass(frozen=True, slots=True)
class _Position:
    """Where a list continues: with the entries that the caller has not received, and then at EC2's token."""

    pending: tuple[str, ...] = ()
    """Ids of the entries that EC2 has returned and the caller has not received."""
    ec2_token: str | None = None
    has_more: bool = True
    """Whether EC2 has further pages."""

    @classmethod
    def from_token(cls, token: str) -> "_Position":
        """The position that a token of this driver encodes; the start for an empty token.

        Raises:
            Busy: This driver did not issue the token; the caller has to start again.
        """
        if not token:
            return cls()
        try:
            position = json.loads(base64.urlsafe_b64decode(token.encode()))
        except (ValueError, RecursionError) as error:
            raise _foreign_token(token) from error
        match position:
            case [[*pending], None] if all(map(_is_word, pending)):
                return cls(tuple(pending), has_more=False)
            case [[*pending], ec2_token] if all(map(_is_word, (*pending, ec2_token))):
                return cls(tuple(pending), ec2_token)
            case _:
                raise _foreign_token(token)

    @property
    def token(self) -> str | None:
        """The token that encodes this position; None at the end of the list."""
        if not self.pending and not self.has_more:
            return None
        return base64.urlsafe_b64encode(json.dumps([self.pending, self.ec2_token]).encode()).decode()


def _is_word(value: object) -> bool:
    """Whether the value can be an id or a token of EC2's."""
    return isinstance(value, str) and value.isascii() and value != ""


def _foreign_token(token: str) -> errors.Busy:
    return errors.Busy(f"starting token {token[:40]!r} is not a token of this driver: list from the start")


async def _fill_page(
    max_entries: int,
    position: _Position,
    fetch: Callable[[int, str | None], Awaitable[Page[T]]],
    describe: Callable[[Sequence[str]], Awaitable[list[T]]],
) -> Page[T]:
    """Fill the page at `position`: `describe` the pending entries, then `fetch` EC2's pages until it is full."""
    if max_entries < 0:
        raise errors.InvalidRequest(f"max_entries is {max_entries}; it cannot be negative")
    size = min(max_entries or MAX_ENTRIES, MAX_ENTRIES)
    try:
        items = await describe(position.pending[:size])
    except errors.InvalidRequest as refusal:  # ids of another kind
        raise errors.Busy(f"the starting token is not of this list: {refusal}; list from the start") from refusal
    pending, ec2_token, has_more = [*position.pending[size:]], position.ec2_token, position.has_more
    while has_more and len(items) < size:
        try:
            page = await fetch(max(size - len(items), MIN_EC2_ENTRIES), ec2_token)
        except errors.InvalidRequest as refusal:  # EC2 answers this way to a token that has expired, too
            if ec2_token is None:
                raise
            raise errors.Busy(f"the starting token is stale: {refusal}; list from the start") from refusal
        room = size - len(items)
        items += page.items[:room]
        pending = [item.id for item in page.items[room:]]
        ec2_token, has_more = page.next_token, page.next_token is not None
    return Page(tuple(items), _Position(tuple(pending), ec2_token, has_more=has_more).token)
