"""Look-up of EC2's resources by id, with EC2's errors for malformed and unknown ids."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from hyperpod_ebs.emulator.nodes.machines import customer_instances
from hyperpod_ebs.emulator.records import Instance, Snapshot, Volume
from hyperpod_ebs.emulator.state.world import World
from hyperpod_ebs.emulator.wire.operations import AwsFault

R = TypeVar("R")

_HEX: Final = re.compile(r"[0-9a-f]{8}(?:[0-9a-f]{9})?")


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceKind:
    """A kind of resource that EC2 has ids for, with EC2's error codes and texts."""

    prefix: str
    parameter: str
    malformed_code: str
    unknown_code: str
    unknown_text: str
    """For one id."""

    unknown_texts: str
    """For several ids."""


VOLUME: Final = ResourceKind(
    prefix="vol-",
    parameter="volumeId",
    malformed_code="InvalidVolumeID.Malformed",
    unknown_code="InvalidVolume.NotFound",
    unknown_text="The volume '{}' does not exist.",
    unknown_texts="The volumes '{}' do not exist.",
)
SNAPSHOT: Final = ResourceKind(
    prefix="snap-",
    parameter="snapshotId",
    malformed_code="InvalidSnapshotID.Malformed",
    unknown_code="InvalidSnapshot.NotFound",
    unknown_text="The snapshot '{}' does not exist.",
    unknown_texts="The snapshots '{}' do not exist.",
)
INSTANCE: Final = ResourceKind(
    prefix="i-",
    parameter="instanceId",
    malformed_code="InvalidInstanceID.Malformed",
    unknown_code="InvalidInstanceID.NotFound",
    unknown_text="The instance ID '{}' does not exist",
    unknown_texts="The instance IDs '{}' do not exist",
)


def find_volume(world: World, id_: str) -> Volume:
    """The volume that a call is to change.

    Raises:
        AwsFault: The id is malformed, unknown, or not yet shown.
    """
    return _find_to_change(world.store.volumes, world.shown.volumes, [id_], VOLUME)[0]


def find_snapshot(world: World, id_: str) -> Snapshot:
    """The snapshot that a call is to change or to use.

    Raises:
        AwsFault: The id is malformed, unknown, or not yet shown.
    """
    return _find_to_change(world.store.snapshots, world.shown.snapshots, [id_], SNAPSHOT)[0]


def find_instances(world: World, ids: Iterable[str]) -> list[Instance]:
    """The customer's own instances that a call is to change or to use.

    Raises:
        AwsFault: An id is malformed, unknown, or not yet shown.
    """
    own, shown = customer_instances(world.store.instances), customer_instances(world.shown.instances)
    return _find_to_change(own, shown, ids, INSTANCE)


def find_all(table: Mapping[str, R], ids: Iterable[str], kind: ResourceKind) -> list[R]:
    """The records with these ids, without repeats.

    Raises:
        AwsFault: At least one id is malformed or unknown.
    """
    wanted = list(dict.fromkeys(ids))
    for id_ in wanted:
        _check_form(id_, kind)
    if missing := [id_ for id_ in wanted if id_ not in table]:
        text = kind.unknown_text if len(missing) == 1 else kind.unknown_texts
        raise AwsFault(kind.unknown_code, text.format(", ".join(missing)))
    return [table[id_] for id_ in wanted]


def named_or_all(table: Mapping[str, R], ids: Iterable[str] | None, kind: ResourceKind) -> Mapping[str, R]:
    """The records that a describing call names; all of them if it names none.

    Raises:
        AwsFault: At least one id is malformed or unknown.
    """
    if not ids:
        return table
    wanted = list(ids)
    return dict(zip(dict.fromkeys(wanted), find_all(table, wanted, kind), strict=True))


def _find_to_change(table: Mapping[str, R], shown: Mapping[str, R], ids: Iterable[str], kind: ResourceKind) -> list[R]:
    """The true records with these ids, if describing calls show the objects too."""
    wanted = list(ids)
    find_all(shown, wanted, kind)
    return find_all(table, wanted, kind)


def _check_form(id_: str, kind: ResourceKind) -> None:
    if not id_.startswith(kind.prefix):
        text = f"Value ({id_}) for parameter {kind.parameter} is invalid. Expected: '{kind.prefix}...'."
        raise AwsFault("InvalidParameterValue", text)
    if not _HEX.fullmatch(id_.removeprefix(kind.prefix)):
        raise AwsFault(kind.malformed_code, f'Invalid id: "{id_}"')
