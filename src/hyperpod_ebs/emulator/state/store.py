"""The emulator's records: dictionaries in memory, kept in SQLite.

While the process runs, the dictionaries are authoritative. A writer thread writes each
change to disk, and a request is answered only once the changes that the answer reports are
on disk. The writer puts all waiting changes into one transaction, so a hundred concurrent
calls cost one fsync. Changes made between two awaits of the event loop are committed
together or not at all.
"""

import asyncio
import json
import queue
import sqlite3
import threading
import time
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final, Generic, Protocol, TypeVar

from hyperpod_ebs.emulator import eks_records, identity_records, kms_records, records

SCHEMA: Final = 2
"""The version of the database's format; a version of the program reads the states of all earlier ones."""

RESTORE: Final = "restore it from a copy, or delete the state with `hyperpod-ebs emulator reset`"
"""What a user can do about a damaged state directory."""

MAX_MOMENTS: Final = 100_000
"""The number of state changes that the history keeps; the oldest are dropped first."""


class Record(Protocol):
    """A frozen dataclass with an id and fields that JSON can hold."""

    @property
    def id(self) -> str:
        """The record's key, unique in its table."""
        ...


R = TypeVar("R", bound=Record)


class StateRefused(Exception):  # noqa: N818 - named for what happened
    """The state directory cannot be used.

    It is in use, is damaged, contains other files, or was created for another region, account, number of zones or
    version.
    """


@dataclass(frozen=True, slots=True)
class _Change:
    """A row to write, or to delete if `body` is None."""

    table: str
    id: str
    body: str | None


class Records(Mapping[str, R], Generic[R]):
    """The records of one kind by id."""

    @abstractmethod
    def where(self, name: str, value: str) -> list[R]:
        """The records whose field `name` is `value`."""


class Table(Records[R]):
    """Records with `put` and `drop`, whose changes are also written to disk."""

    def __init__(self, cls: type[R], changes: list[_Change], *indexes: str) -> None:
        """Create an empty table; `indexes` are the fields that `where` can look up."""
        self.kind = cls.__name__
        self._cls = cls
        self._changes = changes
        self._observers: list[Callable[[str, R | None], None]] = []
        self._rows: dict[str, R] = {}
        self._names = [field.name for field in fields(cls)]  # type: ignore[arg-type] # records are dataclasses
        self._indexes: dict[str, defaultdict[str, dict[str, R]]] = {name: defaultdict(dict) for name in indexes}

    def put(self, record: R) -> R:
        """Store `record` in place of the one with the same id."""
        body = json.dumps({name: getattr(record, name) for name in self._names}, default=dict)
        self._changes.append(_Change(self.kind, record.id, body))
        self._notify(record.id)
        self._add(record)
        return record

    def drop(self, id_: str) -> None:
        """Delete the record, if there is one."""
        if (record := self._rows.get(id_)) is not None:
            self._changes.append(_Change(self.kind, id_, None))
            self._notify(id_)
            del self._rows[id_]
            self._unindex(record)

    def observe(self, observer: Callable[[str, R | None], None]) -> None:
        """Call `observer` before each change with the record's id and the record that the change replaces."""
        self._observers.append(observer)

    def where(self, name: str, value: str) -> list[R]:
        """The records whose field `name` is `value`."""
        return list(self._indexes[name][value].values()) if value in self._indexes[name] else []

    def load(self, body: str) -> None:
        """Add a record read from disk."""
        members = json.loads(body).items()
        self._add(self._cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in members}))

    def _notify(self, id_: str) -> None:
        for observer in self._observers:
            observer(id_, self._rows.get(id_))

    def _add(self, record: R) -> None:
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
    """All tables, and the writer that keeps them on disk."""

    def __init__(self, database: sqlite3.Connection) -> None:
        changes: list[_Change] = []
        self._changes = changes
        self.volumes = Table(records.Volume, changes)
        self.attachments = Table(records.Attachment, changes, "volume", "instance")
        self.modifications = Table(records.Modification, changes)
        self.snapshots = Table(records.Snapshot, changes)
        self.instances = Table(records.Instance, changes, "cluster", "address")
        self.clusters = Table(records.Cluster, changes)
        self.cluster_events = Table(records.ClusterEvent, changes, "cluster")
        self.eks_clusters = Table(records.EksCluster, changes)
        self.oidc_issuers = Table(eks_records.OidcIssuer, changes, "cluster")
        self.pod_identity_associations = Table(eks_records.PodIdentityAssociation, changes, "cluster")
        self.access_entries = Table(eks_records.AccessEntry, changes, "cluster")
        self.addons = Table(eks_records.Addon, changes, "cluster")
        self.users = Table(identity_records.User, changes)
        self.groups = Table(identity_records.Group, changes)
        self.roles = Table(identity_records.Role, changes)
        self.deletion_tasks = Table(identity_records.DeletionTask, changes)
        self.managed_policies = Table(identity_records.ManagedPolicy, changes)
        self.policy_versions = Table(identity_records.PolicyVersion, changes, "policy")
        self.instance_profiles = Table(identity_records.InstanceProfile, changes)
        self.oidc_providers = Table(identity_records.OidcProvider, changes)
        self.access_keys = Table(identity_records.AccessKey, changes, "user")
        self.sessions = Table(identity_records.Session, changes, "role", "user")
        self.kms_keys = Table(kms_records.Key, changes)
        self.kms_aliases = Table(kms_records.Alias, changes, "key")
        self.kms_grants = Table(kms_records.Grant, changes, "key", "attachment")
        self.ebs_encryption = Table(kms_records.EbsEncryption, changes)
        self.tokens = Table(records.Token, changes)
        self.dues = Table(records.Due, changes)
        self.moments = Table(records.Moment, changes)
        self._writer = _Writer(database)
        self._last_commit: asyncio.Future[None] | None = None
        self._load(database)
        self._next_moment = 1 + max((int(number) for number in self.moments), default=0)
        self._writer.start()

    @classmethod
    def open(cls, file: Path) -> "Store":
        """Open the store in `file`, which is created if it does not exist.

        Raises:
            StateRefused: A newer version of the program wrote the file, or it cannot be read.
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

    def record_state(self, subject: str, state: str) -> None:
        """Add to the history that `subject` entered `state` now."""
        self.moments.put(records.Moment(id=str(self._next_moment), subject=subject, state=state, at=time.time()))
        self._next_moment += 1
        if len(self.moments) > MAX_MOMENTS:
            self.moments.drop(next(iter(self.moments)))

    async def commit(self) -> None:
        """Wait until every change so far is on disk.

        Raises:
            sqlite3.Error: The database cannot be written; every later commit fails too.
        """
        if self._changes:
            self._last_commit = asyncio.get_running_loop().create_future()
            self._writer.enqueue(self._changes[:], self._last_commit)
            self._changes.clear()
        if self._last_commit is not None:
            await asyncio.shield(self._last_commit)

    def close(self) -> None:
        """Write the waiting changes and end the writer."""
        self._writer.enqueue(self._changes[:], None)
        self._changes.clear()
        self._writer.enqueue(None, None)
        self._writer.join()

    def _load(self, database: sqlite3.Connection) -> None:
        tables = {table.kind: table for table in vars(self).values() if isinstance(table, Table)}
        # Moments are read in the order of their numbers, so that the first one in the table is the oldest.
        for kind, body in database.execute("SELECT kind, body FROM record ORDER BY kind, CAST(id AS INTEGER), id"):
            tables[kind].load(body)


def _prepare(database: sqlite3.Connection, file: Path) -> None:
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if version > SCHEMA:
        raise StateRefused(
            f"{file} has schema {version}, but this version of hyperpod-ebs supports only up to schema {SCHEMA}: "
            "use the newer version that wrote it"
        )
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.execute("CREATE TABLE IF NOT EXISTS record (kind, id, body, PRIMARY KEY (kind, id)) WITHOUT ROWID")
    database.execute(f"PRAGMA user_version={SCHEMA}")


class _Writer(threading.Thread):
    """The only thread that writes to the database; after one failure it fails every later batch."""

    def __init__(self, database: sqlite3.Connection) -> None:
        super().__init__(name="store", daemon=True)
        self._database = database
        self._batches: queue.SimpleQueue[tuple[list[_Change] | None, asyncio.Future[None] | None]] = queue.SimpleQueue()
        self._error: Exception | None = None

    def enqueue(self, changes: list[_Change] | None, written: asyncio.Future[None] | None) -> None:
        """Write `changes`, then resolve `written`; None for `changes` ends the thread."""
        self._batches.put((changes, written))

    def run(self) -> None:
        """Write all waiting batches in one transaction, until the batch that ends the thread."""
        running = True
        while running:
            batches = [self._batches.get()]
            while not self._batches.empty():
                batches.append(self._batches.get())
            running = all(changes is not None for changes, _ in batches)
            if self._error is None:
                self._write([change for changes, _ in batches for change in changes or ()])
            for _, written in batches:
                if written is not None:
                    self._resolve(written)
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
            self._error = error

    def _resolve(self, written: asyncio.Future[None]) -> None:
        with suppress(RuntimeError):  # the loop is closed, so nothing waits for the future
            if self._error is None:
                written.get_loop().call_soon_threadsafe(written.set_result, None)
            else:
                written.get_loop().call_soon_threadsafe(written.set_exception, self._error)
