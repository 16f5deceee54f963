"""What describing calls show: everything at once, or each object as it was a moment ago.

EC2 is eventually consistent: its replicas learn of a change some time after the call that made it. With the setting
`eventual`, each object has a lag of its own, up to `MAX_LAG` seconds. A describing call shows the object as it was that
long ago: a new volume is unknown, a tag is missing, a detached volume is still attached. A call that changes something
checks the object's true state, but it too answers NotFound for an object that is not shown yet. Source: the EC2
developer guide, "Ensure idempotency and eventual consistency".
"""

import random
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

from hyperpod_ebs.emulator.records import Attachment, Instance, Modification, Snapshot, Volume
from hyperpod_ebs.emulator.state.store import R, Records, Store, Table

Consistency = Literal["immediate", "eventual"]

MAX_LAG: Final = 2.0
"""The longest lag of an object, in seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The records of EC2's objects at one degree of consistency."""

    volumes: Records[Volume]
    attachments: Records[Attachment]
    modifications: Records[Modification]
    snapshots: Records[Snapshot]
    instances: Records[Instance]


def view_of(store: Store, *, consistency: Consistency, seed: int) -> View:
    """What describing calls show of `store`; `seed` decides the lag of each object."""

    def records_of(table: Table[R]) -> Records[R]:
        if consistency == "immediate":
            return table
        return LaggingRecords(table, lambda id_: _lag(f"{seed}/{table.kind}/{id_}"))

    return View(
        volumes=records_of(store.volumes),
        attachments=records_of(store.attachments),
        modifications=records_of(store.modifications),
        snapshots=records_of(store.snapshots),
        instances=records_of(store.instances),
    )


def _lag(key: str) -> float:
    return random.Random(key).uniform(0, MAX_LAG)  # noqa: S311 - must be repeatable


class LaggingRecords(Records[R]):
    """A table as it was a moment ago: each record changes its own lag later than in the table."""

    def __init__(self, table: Table[R], lag: Callable[[str], float]) -> None:
        """`lag` is the lag in seconds of the record with an id, always the same for one id."""
        self._table = table
        self._lag = lag
        self._past: dict[str, deque[tuple[float, R | None]]] = {}  # until when each replaced version is shown
        table.observe(self._remember)

    def where(self, name: str, value: str) -> list[R]:
        """The records that are shown with this value in the field `name`."""
        ids = dict.fromkeys([*(record.id for record in self._table.where(name, value)), *self._past])
        shown = (self._visible_record(id_) for id_ in ids)
        return [record for record in shown if record is not None and getattr(record, name) == value]

    def __getitem__(self, id_: str) -> R:
        if (record := self._visible_record(id_)) is None:
            raise KeyError(id_)
        return record

    def __iter__(self) -> Iterator[str]:
        return (id_ for id_ in dict.fromkeys([*self._table, *self._past]) if self._visible_record(id_) is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _remember(self, id_: str, replaced: R | None) -> None:
        self._forget_expired()
        self._past.setdefault(id_, deque()).append((time.time() + self._lag(id_), replaced))

    def _visible_record(self, id_: str) -> R | None:
        now = time.time()
        return next((record for until, record in self._past.get(id_, ()) if until > now), self._table.get(id_))

    def _forget_expired(self) -> None:
        now = time.time()
        for id_ in [id_ for id_, versions in self._past.items() if versions[-1][0] <= now]:
            del self._past[id_]
