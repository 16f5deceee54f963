"""What the controller needs of the cloud: five roles, which one adapter implements together.

Each method sends its requests to AWS and returns; none waits for a state. Besides the errors that
its docstring lists, each method may raise `Denied`, `Throttled` and `CloudError`.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from hyperpod_ebs.driver.model.limits import PublishedSlots
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
    """A part of a list and the token that continues the list; None at its end."""

    items: tuple[T, ...]
    next_token: str | None = None


class TokenSpent(Exception):  # noqa: N818 - named for what happened; never leaves volumes/
    """The client token belongs to a request with other terms, or to a volume that is gone."""


class PartlyRead(Exception):  # noqa: N818 - named for what happened; never leaves volumes/
    """The driver cannot read a part of what AWS shows, and must not conclude that this part is gone."""

    def __init__(self, message: str, *, found: Mapping[str, Any], unread: Collection[str]) -> None:
        """`found` has the objects that the driver could read, by id; `unread` has the ids of the others."""
        self.found = found
        self.unread = frozenset(unread)
        super().__init__(message)


class Volumes(Protocol):
    """Creates, finds and deletes volumes."""

    async def create_volume(self, spec: VolumeSpec, token: str) -> Volume:
        """Request the volume; a repeat with the same token and terms returns the same volume.

        Raises:
            TokenSpent: EC2 does not create this volume with this token.
            InvalidRequest: EC2 refuses the terms for good.
            ZoneFull: The zone has no capacity; nothing was created.
            Refused: The quota, the key or the source forbids it; nothing was created.
            SnapshotNotFound: The source snapshot does not exist.
            OutcomeUnknown: AWS did not answer; the volume may exist.
        """
        ...

    async def delete_volume(self, volume_id: str) -> None:
        """Request the deletion of the volume.

        Raises:
            VolumeNotFound: The volume is gone already.
            InUse: The volume is attached.
        """
        ...

    async def describe_volumes(self, ids: Collection[str]) -> Mapping[str, Volume]:
        """Describe the volumes with these ids, at most 200. The result is by id and leaves out unknown ids.

        It proves of no volume that it is gone.

        Raises:
            PartlyRead: Some of several volumes exist and cannot be read; with one id this is a `CloudError`.
        """
        ...

    async def describe_volume(self, volume_id: str) -> Volume:
        """Describe the volume by its id.

        Raises:
            VolumeNotFound: EC2 does not know the id; of a new volume, it may not know it yet.
        """
        ...

    async def find_volumes_named(self, name: str) -> tuple[Volume, ...]:
        """Find the account's volumes that carry `name` in the tag for the name of the request."""
        ...

    async def list_volumes(self, size: int, token: str | None) -> Page[Volume]:
        """List a page of the account's own volumes; `size` is 5 to 500.

        Raises:
            Busy: The token is stale, or EC2 did not issue it.
        """
        ...

    async def list_zones(self) -> tuple[str, ...]:
        """List the names of the region's ordinary availability zones that are available now, in order."""
        ...


class Attachments(Protocol):
    """Attaches volumes to nodes and detaches them."""

    async def attach(self, volume_id: str, node: Node) -> Attachment:
        """Request the attachment; the result has the state from AWS's answer.

        Raises:
            VolumeNotFound, NodeNotFound: The volume or the node does not exist.
            InUse: The volume is attached or attaching, to this node or to another.
            NotReady: The state of the volume or the node forbids it, or they are in different zones.
            NodeFull: The node has reached its attachment limit.
            KeyUnusable: AWS cannot use the volume's KMS key.
        """
        ...

    async def detach(self, volume_id: str, node: Node) -> Attachment:
        """Request the detachment; the result has the state from AWS's answer.

        Raises:
            VolumeNotFound, NodeNotFound: The volume or the node does not exist.
            NotAttached: The volume is not attached to the node.
            NotReady: AWS refuses for another reason, or is detaching the volume already.
        """
        ...


class Modifications(Protocol):
    """Changes existing volumes."""

    async def modify_volume(self, volume_id: str, change: Callable[[], Change]) -> Modification:
        """Request the change that `change` returns when the request is sent; until then, more can become part of it.

        Raises:
            VolumeNotFound: The volume does not exist.
            InvalidRequest: EC2 refuses the terms for good.
            Busy: Another modification of the volume is running.
            RateLimited: The volume was modified too often recently.
            QuotaReached: The account has reached a limit.
        """
        ...

    async def tag_volume(self, volume_id: str, tags: Mapping[str, str]) -> None:
        """Set these tags on the volume; a tag replaces the one with the same key.

        Raises:
            VolumeNotFound: The volume does not exist.
            InvalidRequest: EC2 does not allow such a tag, or not so many.
        """
        ...

    async def untag_volume(self, volume_id: str, keys: Collection[str]) -> None:
        """Remove the tags with these keys from the volume.

        Raises:
            VolumeNotFound: The volume does not exist.
        """
        ...

    async def wait_until_modification_shows(self, volume_id: str) -> None:
        """Wait until EC2 shows the modification that was requested for the volume a moment ago."""
        ...

    async def wait_until_tags_show(self, volume_id: str) -> None:
        """Wait until EC2 shows the changes of tags that were requested for the volume a moment ago."""
        ...

    async def describe_modifications(self, ids: Collection[str]) -> Mapping[str, Modification]:
        """Describe the latest modification of each of these volumes, at most 200, by volume id.

        The result leaves out volumes without a modification.

        Raises:
            PartlyRead: Some of several modifications exist and cannot be read; with one id this is a `CloudError`.
        """
        ...

    async def describe_modification(self, volume_id: str) -> Modification | None:
        """Describe the latest modification of the volume; None if it has none."""
        ...


class Snapshots(Protocol):
    """Creates, finds and deletes snapshots."""

    async def create_snapshot(self, spec: SnapshotSpec) -> Snapshot:
        """Request the snapshot. EC2 has no client token for snapshots, so look for the name first.

        Raises:
            VolumeNotFound: The source volume does not exist.
            Refused: The quota or the state of the volume forbids it.
            OutcomeUnknown: AWS did not answer; the snapshot may exist.
        """
        ...

    async def delete_snapshot(self, snapshot_id: str) -> None:
        """Delete the snapshot.

        Raises:
            SnapshotNotFound: The snapshot is gone already.
            InUse: An image is made of the snapshot.
        """
        ...

    async def describe_snapshot(self, snapshot_id: str) -> Snapshot:
        """Describe the snapshot with this id, which the account owns or can see.

        Raises:
            SnapshotNotFound: EC2 does not know the id; of a new snapshot, it may not know it yet.
        """
        ...

    async def find_new_snapshot(self, snapshot_id: str) -> Snapshot | None:
        """Find a snapshot of the account by its id; None if EC2 does not show it, or not yet."""
        ...

    async def find_snapshots_named(self, name: str) -> tuple[Snapshot, ...]:
        """Find the account's snapshots that carry `name` in the tag for the name of the request."""
        ...

    async def list_snapshots(self, size: int, token: str | None, *, volume_id: str | None) -> Page[Snapshot]:
        """List a page of the account's own snapshots, of one volume or of all; `size` is 5 to 1,000.

        Raises:
            Busy: The token is stale, or EC2 did not issue it.
        """
        ...


class InstanceTypes(Protocol):
    """Knows EC2's instance types."""

    async def describe_attach_slots(self, types: Collection[str]) -> PublishedSlots:
        """Describe the attach slots of these types, at most 100. The result leaves out types that EC2 does not know."""
        ...


class Cloud(Volumes, Attachments, Modifications, Snapshots, InstanceTypes, Protocol):
    """All five roles."""
