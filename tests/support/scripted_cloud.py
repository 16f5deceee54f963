"""A cloud whose answers are a test's script, as a function of virtual time.

It is for behaviour that the emulator lacks, such as the answers of a lagging replica.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.modification import WINDOW
from hyperpod_ebs.driver.model.nodes import HyperPodNode, Node
from hyperpod_ebs.driver.model.sizes import GiB
from hyperpod_ebs.driver.model.volume import (
    Attachment,
    AttachState,
    Change,
    Modification,
    ModificationState,
    Snapshot,
    Volume,
    VolumeSpec,
    VolumeState,
)
from hyperpod_ebs.driver.volumes.cloud import Cloud, Page
from hyperpod_ebs.driver.volumes.modify import Modifier
from hyperpod_ebs.driver.volumes.watch import Watcher
from hyperpod_ebs.kit.operations import Operations
from tests.support.virtual_time import now

T = TypeVar("T")

ID = "vol-0123456789abcdef0"
NODE = HyperPodNode("abcdefghijkl", "i-0123456789abcdef0")
OTHER = HyperPodNode("abcdefghijkl", "i-0fedcba9876543210")


def a_volume(state: str = "available", *attachments: Attachment, gib: int = 1, **more: Any) -> Volume:
    """A volume as EC2 describes it."""
    terms: dict[str, Any] = {"id": ID, "zone": "us-west-2a", "type": "gp3", "iops": 3000, "throughput": 125} | more
    return Volume(size=GiB(gib), state=VolumeState(state), attachments=attachments, **terms)


def an_attachment(state: str, node: Node = NODE) -> Attachment:
    """An attachment to `node`."""
    return Attachment(state=AttachState(state), node=node, holder=str(node))


def a_modification(state: str, *, message: str = "", **target: Any) -> Modification:
    """A modification toward `target`."""
    return Modification(volume_id=ID, state=ModificationState(state), target=Change(**target), message=message)


@dataclass
class ScriptedCloud:
    """Gives the answers of its fields, and counts the calls."""

    shows: Callable[[float], Volume | None] = lambda _: None
    """The volume that a description shows, by the time in seconds."""
    lists: Callable[[float], Volume | None] | None = None
    """The volume that a description by filter shows; what `shows` shows, if it is None."""
    modified: Callable[[float], Modification | None] = lambda _: None
    """The modification that a description shows, by the time in seconds."""
    named: tuple[Volume, ...] = ()
    """All volumes that a search by name or a list shows."""
    created: Volume = field(default_factory=lambda: a_volume("creating"))
    attached: Attachment = field(default_factory=lambda: an_attachment("attaching"))
    detached: Attachment = field(default_factory=lambda: an_attachment("detaching"))
    changes: list[Change] = field(default_factory=list[Change])
    """The changes of the requests to modify the volume, in order."""
    turn: float = 0.0
    """Seconds for which a request to modify the volume waits before it is sent."""
    unsent: list[Exception] = field(default_factory=list[Exception])
    """The errors with which the next requests to modify the volume end before they are sent, in order."""
    tagging: float = 0.0
    """Seconds that a change of tags takes, and until it shows."""
    delay: float = 0.0
    """Seconds after which a request to modify the volume is answered."""
    source: Snapshot | None = None
    snapshots: tuple[Snapshot, ...] = ()
    refusals: defaultdict[str, list[Exception]] = field(default_factory=lambda: defaultdict(list))
    """The errors that the next calls of each method raise, in order."""
    calls: Counter[str] = field(default_factory=Counter)
    tokens: list[str] = field(default_factory=list)

    @property
    def cloud(self) -> Cloud:
        """This cloud, which has the methods that the tests need."""
        return cast("Cloud", self)

    async def create_volume(self, spec: VolumeSpec, token: str) -> Volume:
        """Note the token and answer `created`."""
        del spec
        self.tokens.append(token)
        return self._answer("create_volume", self.created)

    async def delete_volume(self, _: str) -> None:
        """Count the call."""
        return self._answer("delete_volume", None)

    async def describe_volumes(self, ids: Collection[str]) -> Mapping[str, Volume]:
        """Answer what `lists` or `shows` shows now, under each id."""
        shown = self._answer("describe_volumes", (self.lists or self.shows)(now()))
        return {} if shown is None else dict.fromkeys(ids, shown)

    async def describe_volume(self, volume_id: str) -> Volume:
        """Answer what `shows` shows now, or that the id is unknown."""
        if (shown := self._answer("describe_volume", self.shows(now()))) is None:
            raise errors.VolumeNotFound(f"volume {volume_id} does not exist")
        return shown

    async def find_volumes_named(self, _: str) -> tuple[Volume, ...]:
        """Answer `named`."""
        return self._answer("find_volumes_named", self.named)

    async def attach(self, _: str, __: Node) -> Attachment:
        """Answer `attached`."""
        return self._answer("attach", self.attached)

    async def detach(self, _: str, __: Node) -> Attachment:
        """Answer `detached`."""
        return self._answer("detach", self.detached)

    async def modify_volume(self, _: str, change: Callable[[], Change]) -> Modification:
        """Wait for the turn, note the change, and answer later with a modification toward it."""
        await asyncio.sleep(self.turn)
        if self.unsent:
            raise self.unsent.pop(0)
        self.changes.append(change())
        await asyncio.sleep(self.delay)
        return self._answer(
            "modify_volume", Modification(volume_id=ID, state=ModificationState.MODIFYING, target=self.changes[-1])
        )

    async def wait_until_modification_shows(self, _: str) -> None:
        """Return at once: the script says what is shown."""

    async def wait_until_tags_show(self, _: str) -> None:
        """Wait as long as a change of tags takes."""
        await asyncio.sleep(self.tagging)

    async def tag_volume(self, _: str, __: Mapping[str, str]) -> None:
        """Count the call, and return later."""
        await asyncio.sleep(self.tagging)
        return self._answer("tag_volume", None)

    async def describe_modifications(self, ids: Collection[str]) -> Mapping[str, Modification]:
        """Answer what `modified` shows now, under each id."""
        shown = self._answer("describe_modifications", self.modified(now()))
        return {} if shown is None else dict.fromkeys(ids, shown)

    async def describe_modification(self, _: str) -> Modification | None:
        """Answer what `modified` shows now."""
        return self._answer("describe_modification", self.modified(now()))

    async def describe_snapshot(self, snapshot_id: str) -> Snapshot:
        """Answer `source`, or that the id is unknown."""
        if (shown := self._answer("describe_snapshot", self.source)) is None:
            raise errors.SnapshotNotFound(f"snapshot {snapshot_id} does not exist")
        return shown

    async def find_new_snapshot(self, _: str) -> Snapshot | None:
        """Answer `source`."""
        return self._answer("find_new_snapshot", self.source)

    async def find_snapshots_named(self, _: str) -> tuple[Snapshot, ...]:
        """Answer `snapshots`."""
        return self._answer("find_snapshots_named", self.snapshots)

    async def list_volumes(self, size: int, token: str | None) -> Page[Volume]:
        """Answer a page of `named`; its token is the number of volumes on the pages before."""
        start = int(token or 0)
        more = start + size < len(self.named)
        return Page(self.named[start : start + size], str(start + size) if more else None)

    def _answer(self, method: str, answer: T) -> T:
        self.calls[method] += 1
        if self.refusals[method]:
            raise self.refusals[method].pop(0)
        return answer


@asynccontextmanager
async def open_modifier(scripted: ScriptedCloud, *, window: float = WINDOW) -> AsyncGenerator[Modifier]:
    """A modifier of the volumes of this cloud."""
    async with Watcher(scripted.cloud) as watcher, Operations[str]() as operations:
        yield Modifier(scripted.cloud, watcher, operations, window=window)
