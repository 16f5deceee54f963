"""The cloud as the controller needs it: four roles that one adapter plays.

Every method makes its calls to AWS and comes back; none waits for a state.
Each may raise, besides what it names: `Denied`, `Throttled`, `CloudError`.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from hyperpod_ebs.driver.model.nodes import Node
from hyperpod_ebs.driver.model.volume import (
    Attachment,
    Change,
    Modification,
    Snapshot,
    SnapshotSpec,
    Volume,
    VolumeSpec,
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some of a list, and the token that continues it; no token where it ends."""

    items: tuple[T, ...]
    next_token: str | None = None


class TokenSpent(Exception):  # noqa: N818 - reads as what happened; never leaves volumes/
    """The client token belongs to a request with other terms, or to a volume that is gone."""


class PartlyRead(Exception):  # noqa: N818 - reads as what happened; never leaves volumes/
    """Some of what AWS shows is not to be understood, and must not be taken for gone."""

    def __init__(self, message: str, *, found: Mapping[str, Any], unread: Collection[str]) -> None:
        """`found` is what could be read, by id; `unread` are the ids of what could not."""
        self.found = found
        self.unread = frozenset(unread)
        super().__init__(message)


class Volumes(Protocol):
    """Makes, finds and removes volumes."""

    async def create_volume(self, spec: VolumeSpec, token: str) -> Volume:
        """Ask for the volume; a repeat with the same token and terms answers the same volume.

        Raises:
            TokenSpent: The token cannot make this volume.
            InvalidRequest: EC2 refuses the terms for good.
            ZoneFull: No capacity in the zone; nothing was created.
            Refused: Quota, key or source; nothing was created.
            SnapshotNotFound: No such source.
            OutcomeUnknown: No answer came; it may exist.
        """
        ...

    async def delete_volume(self, volume_id: str) -> None:
        """Ask for its removal.

        Raises:
            VolumeNotFound: It is gone already.
            InUse: It is attached.
        """
        ...

    async def volumes(self, ids: Collection[str]) -> Mapping[str, Volume]:
        """The volumes with these ids (at most 200); an unknown one is simply absent.

        Raises:
            PartlyRead: Of several, some are there and cannot be read; of one alone that is a `CloudError`.
        """
        ...

    async def volumes_named(self, name: str) -> tuple[Volume, ...]:
        """Our volumes that carry `name` as their request's name."""
        ...

    async def volume_page(self, size: int, token: str | None) -> Page[Volume]:
        """Some of the account's own volumes, 5 to 500 a page.

        Raises:
            Busy: The token is stale or not one of ours.
        """
        ...

    async def zones(self) -> tuple[str, ...]:
        """The region's ordinary availability zones that can be used now, in order."""
        ...


class Attachments(Protocol):
    """Puts volumes on nodes and takes them off."""

    async def attach(self, volume_id: str, node: Node) -> Attachment:
        """Ask for the attachment; the state that the answer carries is in it.

        Raises:
            VolumeNotFound, NodeNotFound: There is no such thing.
            InUse: The volume is attached already, here or elsewhere, or on its way.
            NotReady: The volume or node is in a state that forbids it, or they are in different zones.
            NodeFull: The node's attachment limit.
            KeyUnusable: The volume's key cannot be used.
        """
        ...

    async def detach(self, volume_id: str, node: Node) -> Attachment:
        """Ask for the detachment.

        Raises:
            VolumeNotFound, NodeNotFound: There is no such thing.
            NotReady: The volume is not attached there.
        """
        ...


class Modifications(Protocol):
    """Changes volumes that exist."""

    async def modify_volume(self, volume_id: str, change: Change) -> Modification:
        """Ask for the change.

        Raises:
            VolumeNotFound: No such volume.
            InvalidRequest: EC2 refuses the terms for good.
            Busy: A modification is under way.
            RateLimited: Too many modifications of late.
            QuotaReached: A limit of the account.
        """
        ...

    async def tag_volume(self, volume_id: str, tags: Mapping[str, str]) -> None:
        """Give it these tags, each in place of the one of its key.

        Raises:
            VolumeNotFound: No such volume.
            InvalidRequest: EC2 takes no such tag, or no more of them.
        """
        ...

    async def untag_volume(self, volume_id: str, keys: Collection[str]) -> None:
        """Take the tags of these keys from it.

        Raises:
            VolumeNotFound: No such volume.
        """
        ...

    async def modifications(self, ids: Collection[str]) -> Mapping[str, Modification]:
        """The latest modification of each of these volumes (at most 200) that ever had one.

        Raises:
            PartlyRead: Of several, some are there and cannot be read; of one alone that is a `CloudError`.
        """
        ...


class Snapshots(Protocol):
    """Makes, finds and removes snapshots."""

    async def create_snapshot(self, spec: SnapshotSpec) -> Snapshot:
        """Ask for the snapshot. EC2 has no client token here: look by name first.

        Raises:
            VolumeNotFound: No such source.
            Refused: Quota, or the volume's state.
            OutcomeUnknown: No answer came; it may exist.
        """
        ...

    async def delete_snapshot(self, snapshot_id: str) -> None:
        """Remove it.

        Raises:
            SnapshotNotFound: It is gone already.
            InUse: Something is made of it.
        """
        ...

    async def snapshot(self, snapshot_id: str) -> Snapshot | None:
        """The snapshot with this id, ours or one that the account can see."""
        ...

    async def snapshots_named(self, name: str) -> tuple[Snapshot, ...]:
        """Our snapshots that carry `name` as their request's name."""
        ...

    async def snapshot_page(self, size: int, token: str | None, *, volume_id: str | None) -> Page[Snapshot]:
        """Some of the account's own snapshots, 5 to 1,000 a page, of one volume or of all.

        Raises:
            Busy: The token is stale or not one of ours.
        """
        ...


class Cloud(Volumes, Attachments, Modifications, Snapshots, Protocol):
    """All four."""
