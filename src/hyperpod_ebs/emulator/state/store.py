"""The emulated cloud's memory: dictionaries that SQLite remembers.

While the process runs, memory is the truth; each change is handed to a writer
thread and an answer leaves only when the change that it tells of is on disk. The
writer takes all that waits into one transaction, so that a hundred calls at once
cost one fsync. What is put between two awaits of the loop is committed together
or not at all.
"""

import asyncio
import json
import queue
import sqlite3
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final, Generic, Protocol, TypeVar

from hyperpod_ebs.emulator import records

SCHEMA: Final = 1

RESTORE: Final = "put it back from a copy, or start anew after `hyperpod-ebs emulator reset`"
"""What can be done about a state that is damaged."""

MOMENTS: Final = 100_000
"""How many moments are remembered; the oldest go first."""

T = TypeVar("T")


class Record(Protocol):
    """A frozen dataclass with an id and fields that JSON can hold."""

    @property
    def id(self) -> str:
        """Unique in its table."""
        ...


R = TypeVar("R", bound=Record)


class StateRefused(Exception):  # noqa: N818 - reads as what happened
    """The state directory cannot be used by this program, or not now."""


@dataclass(frozen=True, slots=True)
class _Change:
    """A row to write, or to delete where there is no body."""

    table: str
    id: str
    body: str | None


class Table(Mapping[str, R], Generic[R]):
    """The records of one kind by id; reads like a dict, and `put` and `drop` are remembered."""

    def __init__(self, cls: type[R], changes: list[_Change], *indexes: str) -> None:
        """`indexes` are the fields that `where` can look up."""
        self._cls = cls
        self._changes = changes
        self._rows: dict[str, R] = {}
        self._names = [field.name for field in fields(cls)]  # type: ignore[arg-type] # records are dataclasses
        self._indexes: dict[str, defaultdict[str, dict[str, R]]] = {name: defaultdict(dict) for name in indexes}

    def put(self, record: R) -> R:
        """Remember `record` in place of the one with its id."""
        body = json.dumps({name: getattr(record, name) for name in self._names}, default=dict)
        self._changes.append(_Change(self._cls.__name__, record.id, body))
        self._keep(record)
        return record

    def drop(self, id_: str) -> None:
        """Forget the record, if there is one."""
        if (record := self._rows.pop(id_, None)) is not None:
            self._changes.append(_Change(self._cls.__name__, id_, None))
            self._unindex(record)

    def where(self, name: str, value: str) -> list[R]:
        """The records whose field `name` is `value`."""
        return list(self._indexes[name][value].values()) if value in self._indexes[name] else []

    def load(self, body: str) -> None:
        """Take in a row as it was written."""
        members = {name: tuple(v) if isinstance(v, list) else v for name, v in json.loads(body).items()}
        self._keep(self._cls(**members))

    def _keep(self, record: R) -> None:
        if (old := self._rows.get(record.id)) is not None:
            self._unindex(old)
        self._rows[record.id] = record
        for name, index in self._indexes.items():
            index[getattr(record, name)][record.id] = record

    def _unindex(self, record: R) -> None:
        for name, index in self._indexes.items():
            value = getattr(record, name)
            del index[value][record.id]
            if not index[value]:
                del index[value]

    def __getitem__(self, id_: str) -> R:
        return self._rows[id_]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)


class Store:
    """All tables, and the way to disk."""

    def __init__(self, database: sqlite3.Connection) -> None:
        changes: list[_Change] = []
        self._changes = changes
        self.volumes = Table(records.Volume, changes)
        self.attachments = Table(records.Attachment, changes, "volume", "instance")
        self.modifications = Table(records.Modification, changes)
        self.snapshots = Table(records.Snapshot, changes)
        self.instances = Table(records.Instance, changes, "cluster", "address")
        self.clusters = Table(records.Cluster, changes)
        self.eks_clusters = Table(records.EksCluster, changes)
        self.tokens = Table(records.Token, changes)
        self.dues = Table(records.Due, changes)
        self.moments = Table(records.Moment, changes)
        self._writer = _Writer(database)
        self._last: asyncio.Future[None] | None = None
        self._load(database)
        self._numbers = 1 + max((int(number) for number in self.moments), default=0)
        self._writer.start()

    @classmethod
    def open(cls, file: Path) -> "Store":
        """The store in `file`, which is made when there is none.

        Raises:
            StateRefused: A newer version of the program wrote it, or it cannot be read.
        """
        file.touch(mode=0o600)
        database = sqlite3.connect(file, check_same_thread=False, isolation_level=None)
        try:
            _prepare(database, file)
            return cls(database)
        except (sqlite3.Error, LookupError, TypeError, ValueError) as error:
            database.close()
            raise StateRefused(f"{file} cannot be read ({error}): {RESTORE}") from error
        except StateRefused:
            database.close()
            raise

    def note(self, subject: str, state: str) -> None:
        """Remember that `subject` came into `state` now."""
        self.moments.put(records.Moment(id=str(self._numbers), subject=subject, state=state, at=time.time()))
        self._numbers += 1
        if len(self.moments) > MOMENTS:
            self.moments.drop(next(iter(self.moments)))

    async def commit(self) -> None:
        """Come back when every change so far is on disk.

        Raises:
            sqlite3.Error: It cannot be written; nothing can be from now on.
        """
        if self._changes:
            self._last = asyncio.get_running_loop().create_future()
            self._writer.hand(self._changes[:], self._last)
            self._changes.clear()
        if self._last is not None:
            await asyncio.shield(self._last)

    async def acknowledged(self, answer: T) -> T:
        """`answer`, once all that it can tell of is on disk."""
        await self.commit()
        return answer

    def close(self) -> None:
        """Write what waits and end the writer."""
        self._writer.hand(self._changes[:], None)
        self._changes.clear()
        self._writer.hand(None, None)
        self._writer.join()

    def _load(self, database: sqlite3.Connection) -> None:
        tables = {table._cls.__name__: table for table in vars(self).values() if isinstance(table, Table)}  # noqa: SLF001 - its own module's class
        for kind, body in database.execute("SELECT kind, body FROM record ORDER BY kind, CAST(id AS INTEGER), id"):
            tables[kind].load(body)


def _prepare(database: sqlite3.Connection, file: Path) -> None:
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if version > SCHEMA:
        raise StateRefused(f"{file} has schema {version}, this program knows {SCHEMA}: use the newer program")
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.execute("CREATE TABLE IF NOT EXISTS record (kind, id, body, PRIMARY KEY (kind, id)) WITHOUT ROWID")
    database.execute(f"PRAGMA user_version={SCHEMA}")


class _Writer(threading.Thread):
    """The one thread that writes; after a failure it refuses everything."""

    def __init__(self, database: sqlite3.Connection) -> None:
        super().__init__(name="store", daemon=True)
        self._database = database
        self._batches: queue.SimpleQueue[tuple[list[_Change] | None, asyncio.Future[None] | None]] = queue.SimpleQueue()
        self._broken: Exception | None = None

    def hand(self, changes: list[_Change] | None, written: asyncio.Future[None] | None) -> None:
        """Write `changes` and then tell `written`; None ends the thread."""
        self._batches.put((changes, written))

    def run(self) -> None:
        """Take all that waits into one transaction, again and again."""
        going = True
        while going:
            batches = [self._batches.get()]
            while not self._batches.empty():
                batches.append(self._batches.get())
            going = all(changes is not None for changes, _ in batches)
            if self._broken is None:
                self._write([change for changes, _ in batches for change in changes or ()])
            for _, written in batches:
                self._tell(written)
        self._database.close()

    def _write(self, changes: list[_Change]) -> None:
        try:
            self._database.execute("BEGIN IMMEDIATE")
            for change in changes:
                if change.body is None:
                    self._database.execute("DELETE FROM record WHERE kind=? AND id=?", (change.table, change.id))
                else:
                    row = (change.table, change.id, change.body)
                    self._database.execute("INSERT OR REPLACE INTO record VALUES (?,?,?)", row)
            self._database.execute("COMMIT")
        except sqlite3.Error as error:
            self._broken = error

    def _tell(self, written: asyncio.Future[None] | None) -> None:
        if written is None:
            return
        with suppress(RuntimeError):  # the loop is closed, and nobody waits any more
            if self._broken is None:
                written.get_loop().call_soon_threadsafe(written.set_result, None)
            else:
                written.get_loop().call_soon_threadsafe(written.set_exception, self._broken)
