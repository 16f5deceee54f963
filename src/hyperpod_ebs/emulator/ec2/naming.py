"""Ids as EC2 reads them: which are malformed, which unknown, and in which words."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from hyperpod_ebs.emulator.wire.operations import Asked, AwsFault

R = TypeVar("R")

_HEX: Final = re.compile(r"[0-9a-f]{8}(?:[0-9a-f]{9})?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Noun:
    """A kind of thing that EC2 has ids for."""

    prefix: str
    parameter: str
    malformed: str
    unknown: str
    one: str
    many: str


VOLUME: Final = Noun(
    prefix="vol-",
    parameter="volumeId",
    malformed="InvalidVolumeID.Malformed",
    unknown="InvalidVolume.NotFound",
    one="The volume '{}' does not exist.",
    many="The volumes '{}' do not exist.",
)
SNAPSHOT: Final = Noun(
    prefix="snap-",
    parameter="snapshotId",
    malformed="InvalidSnapshotID.Malformed",
    unknown="InvalidSnapshot.NotFound",
    one="The snapshot '{}' does not exist.",
    many="The snapshots '{}' do not exist.",
)
INSTANCE: Final = Noun(
    prefix="i-",
    parameter="instanceId",
    malformed="InvalidInstanceID.Malformed",
    unknown="InvalidInstanceID.NotFound",
    one="The instance ID '{}' does not exist",
    many="The instance IDs '{}' do not exist",
)


def found(table: Mapping[str, R], id_: str, noun: Noun) -> R:
    """The record of this id.

    Raises:
        AwsFault: No id looks like this, or nothing has it.
    """
    return all_found(table, [id_], noun)[0]


def all_found(table: Mapping[str, R], ids: Iterable[str], noun: Noun) -> list[R]:
    """The records of these ids, each once.

    Raises:
        AwsFault: One of them is malformed or unknown; it fails them all.
    """
    wanted = list(dict.fromkeys(ids))
    for id_ in wanted:
        _check(id_, noun)
    if missing := [id_ for id_ in wanted if id_ not in table]:
        text = noun.one if len(missing) == 1 else noun.many
        raise AwsFault(noun.unknown, text.format(", ".join(missing)))
    return [table[id_] for id_ in wanted]


def needed(asked: Asked, *names: str) -> Sequence[Any]:  # members have the types of their shapes
    """The members of these names.

    Raises:
        AwsFault: One of them is missing.
    """
    for name in names:
        if not asked.get(name):
            raise AwsFault("MissingParameter", f"The request must contain the parameter {name}")
    return [asked[name] for name in names]


def dry_run(asked: Asked) -> None:
    """Stop here when only the checks were asked for.

    Raises:
        AwsFault: DryRunOperation; the request would have succeeded.
    """
    if asked.get("DryRun"):
        text = "Request would have succeeded, but DryRun flag is set."
        raise AwsFault("DryRunOperation", text, 412)


def _check(id_: str, noun: Noun) -> None:
    if not id_.startswith(noun.prefix):
        text = f"Value ({id_}) for parameter {noun.parameter} is invalid. Expected: '{noun.prefix}...'."
        raise AwsFault("InvalidParameterValue", text)
    if not _HEX.fullmatch(id_.removeprefix(noun.prefix)):
        raise AwsFault(noun.malformed, f'Invalid id: "{id_}"')
