"""Delete leftovers one after the other, each only if a second look finds it unchanged."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from hyperpod_ebs.access.aws.detachment import request_detach
from hyperpod_ebs.access.aws.session import Aws
from hyperpod_ebs.access.aws.snapshots import EbsSnapshot, delete_snapshot
from hyperpod_ebs.access.aws.volumes import EbsVolume, Holder, delete_volume
from hyperpod_ebs.access.console import note
from hyperpod_ebs.access.kubernetes.reader import KubernetesOptions
from hyperpod_ebs.access.leftovers.judgement import Rules, Verdict, attachment_id, judge
from hyperpod_ebs.access.leftovers.record import Record
from hyperpod_ebs.access.leftovers.survey import survey_again
from hyperpod_ebs.access.leftovers.world import World
from hyperpod_ebs.driver.model import errors

Result = Literal["deleted", "detaching", "kept", "gone", "failed"]

_PAUSE: Final = 0.25
"""Seconds between two deletions, which leaves most of the account's rate of calls to the driver."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What happened to a leftover."""

    verdict: Verdict
    result: Result
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deletion:
    """A run that deletes."""

    aws: Aws
    kubernetes: KubernetesOptions
    rules: Rules
    world: World
    """What the user has seen."""

    record: Record

    async def delete_all(self, chosen: Sequence[Verdict]) -> list[Outcome]:
        """Delete these volumes and snapshots, and detach these volumes.

        Raises:
            Refused: The record cannot be written; no further object is deleted.
        """
        outcomes = list[Outcome]()
        for number, verdict in enumerate(chosen, 1):
            note(f"{_verb(verdict)} {verdict.kind} {verdict.id} ({number} of {len(chosen)})")
            outcome = await self._delete(verdict)
            if outcome.reason:
                note(f"{outcome.result}: {verdict.kind} {verdict.id}: {outcome.reason}")
            outcomes.append(outcome)
            if number < len(chosen):
                await asyncio.sleep(_PAUSE)
        return outcomes

    async def _delete(self, verdict: Verdict) -> Outcome:
        try:
            now = await survey_again(self.aws, self.kubernetes, verdict)
        except errors.NotFound:
            return Outcome(verdict=verdict, result="gone", reason="it is gone")
        except errors.Error as error:
            return Outcome(verdict=verdict, result="failed", reason=str(error))
        if change := _change(self.world, now, self.rules, verdict):
            self.record.write({"act": _act(verdict), "id": verdict.id, "phase": "given up", "reason": change})
            return Outcome(verdict=verdict, result="kept", reason=change)
        try:
            with self.record.act(_act(verdict), verdict.id, _details(now, verdict)):
                await _act_on(self.aws, now, verdict)
        except (errors.VolumeNotFound, errors.SnapshotNotFound):
            return Outcome(verdict=verdict, result="gone", reason="it is gone")
        except errors.Error as error:
            if self.record.is_broken:
                raise
            return Outcome(verdict=verdict, result="failed", reason=str(error))
        return Outcome(verdict=verdict, result="detaching" if verdict.kind == "attachment" else "deleted")


def _change(before: World, now: World, rules: Rules, verdict: Verdict) -> str:
    """Why the object must be kept after all; empty if nothing has changed."""
    old, new = _object(before, verdict), _object(now, verdict)
    judged = next((each for each in judge(now, rules) if (each.kind, each.id) == (verdict.kind, verdict.id)), None)
    if judged is None:
        return "it is not there any more"
    if not judged.is_deletable:
        return "; ".join(reason.text for reason in judged.protections) or judged.removal
    return "" if old == new else "it has changed since it was judged; run the command again"


def _object(world: World, verdict: Verdict) -> EbsVolume | EbsSnapshot | None:
    id_ = verdict.id.partition("@")[0]
    objects: list[EbsVolume | EbsSnapshot] = [*world.volumes, *world.snapshots]
    return next((each for each in objects if each.id == id_), None)


def _details(world: World, verdict: Verdict) -> dict[str, object]:
    """What the record keeps of an object that will be gone."""
    found = _object(world, verdict)
    return {
        "kind": verdict.kind,
        "region": world.region,
        "description": verdict.description,
        "since": verdict.since,
        "tags": found.tags if found else {},
        "evidence": verdict.evidence,
    }


async def _act_on(aws: Aws, world: World, verdict: Verdict) -> None:
    match _object(world, verdict):
        case EbsVolume() as volume if verdict.kind == "attachment":
            await request_detach(aws, volume.id, _holder(volume, verdict))
        case EbsVolume() as volume:
            await delete_volume(aws, volume.id)
        case EbsSnapshot() as snapshot:
            await delete_snapshot(aws, snapshot.id)
        case None:
            raise errors.NotFound(f"{verdict.kind} {verdict.id} is gone")


def _holder(volume: EbsVolume, verdict: Verdict) -> Holder:
    return next(each for each in volume.holders if attachment_id(volume, each) == verdict.id)


def _act(verdict: Verdict) -> str:
    return "detach" if verdict.kind == "attachment" else "delete"


def _verb(verdict: Verdict) -> str:
    return "detaching" if verdict.kind == "attachment" else "deleting"
