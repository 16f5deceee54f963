"""`hyperpod-ebs leftovers`: find what the driver made and nothing needs any more, and delete it on request."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Final

from cyclopts import App, Parameter
from cyclopts.validators import Number

from hyperpod_ebs.access import exit_codes
from hyperpod_ebs.access.aws.session import ANY_CALLER, Aws, AwsOptions, Caller, open_aws
from hyperpod_ebs.access.console import Output, agrees, note, print_json, print_table
from hyperpod_ebs.access.help_texts import epilogue
from hyperpod_ebs.access.kubernetes.reader import CURRENT_CONTEXT, KubernetesOptions
from hyperpod_ebs.access.leftovers import prices
from hyperpod_ebs.access.leftovers.deletion import Deletion, Outcome
from hyperpod_ebs.access.leftovers.judgement import Rules, Verdict, judge, wanted_cluster
from hyperpod_ebs.access.leftovers.record import Record, default_record
from hyperpod_ebs.access.leftovers.survey import survey
from hyperpod_ebs.access.leftovers.world import World
from hyperpod_ebs.driver.model import errors

_FAILURE: Final = 1
_WEEK: Final = timedelta(days=7)
_YOUNGEST: Final = timedelta(hours=1)
"""A volume exists some time before the objects that need it."""

_COLUMNS: Final = ("kind", "id", "description", "since", "usd_per_month", "why", "to_remove")
_OUTCOME_COLUMNS: Final = ("kind", "id", "result", "reason")

_END_OF_HELP: Final = epilogue(
    {
        "hyperpod-ebs leftovers": "what is left over of the cluster of your kubeconfig, and what it costs",
        "hyperpod-ebs leftovers --kept --output json": "all objects, with the reasons for which they are kept",
        "hyperpod-ebs leftovers --delete --older-than 30d --limit 5": "delete up to five objects, asking for each",
    },
    codes={
        exit_codes.OK: "nothing is left over",
        1: "failure, for instance of a deletion",
        exit_codes.MAY_FAIL: "something is left over, or the Kubernetes cluster was not read completely",
    },
    json="an object with leftovers and outcomes, each with kind and id, and kept_count, not_read and usd_per_month",
)

app = App(name="leftovers", help_epilogue=_END_OF_HELP)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Access:
    """What a run reads."""

    aws: AwsOptions
    kubernetes: KubernetesOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class _Findings:
    """What a run found, before it deletes anything."""

    caller: Caller
    world: World
    rules: Rules
    verdicts: Sequence[Verdict]

    @property
    def leftovers(self) -> list[Verdict]:
        """The expensive ones first."""
        return sorted((each for each in self.verdicts if each.is_leftover), key=lambda each: -each.monthly_cost)

    @property
    def others(self) -> list[Verdict]:
        return [each for each in self.verdicts if not each.is_leftover]


@app.default
def find_leftovers(  # noqa: PLR0913 - each is a flag
    *,
    delete: Annotated[bool, Parameter(negative="")] = False,
    yes: Annotated[bool, Parameter(negative="")] = False,
    older_than: timedelta = _WEEK,
    cluster: str | None = None,
    untagged: Annotated[bool, Parameter(negative="")] = False,
    limit: Annotated[int, Parameter(validator=Number(gte=1))] = 20,
    kept: Annotated[bool, Parameter(negative="")] = False,
    record: Path | None = None,
    output: Output = "table",
    aws: AwsOptions = ANY_CALLER,
    kubernetes: KubernetesOptions = CURRENT_CONTEXT,
) -> int:
    """Find volumes, snapshots and attachments of the driver that nothing needs any more.

    An object is a leftover if the Kubernetes cluster that kubectl reads is its cluster, all objects of that cluster
    could be read, and none of them needs it. Without --delete, nothing is changed.

    Args:
        delete: Delete leftover volumes and snapshots, and detach volumes from machines that are gone or stopped. Each
            object is looked at again right before.
        yes: Do not ask before each deletion.
        older_than: Keep what is younger, such as 7d or 12h; for an attachment, what is attached since then.
        cluster: The cluster's name in the tags ebs.csi.aws.com/cluster-name and kubernetes.io/cluster/NAME; by default
            the one that the cluster's own controller writes. A controller of the cluster must write it.
        untagged: Judge objects whose tags name no cluster, too. Only right if no other Kubernetes cluster uses the
            driver in this account and region.
        limit: Delete at most so many objects.
        kept: Show also what is kept, and why.
        record: The file to which the record of deletions is appended, as lines of JSON; by default a new file in
            hyperpod-ebs/leftovers in $XDG_STATE_HOME or ~/.local/state.
        output: A table for people, or one JSON document on stdout.
        aws: Whose credentials are used, and where.
        kubernetes: Which cluster's API server is read.
    """
    rules = Rules(older_than=older_than, cluster=cluster, untagged=untagged)
    _check(rules, delete=delete)
    access = _Access(aws=aws, kubernetes=kubernetes)
    findings = asyncio.run(_look(access, rules))
    _explain(findings)
    if output == "table":
        _print_verdicts(findings, with_kept=kept)
    chosen = [each for each in findings.leftovers if each.is_deletable][:limit] if delete else []
    outcomes = _delete(access, findings, [each for each in chosen if _agrees(findings, each, yes=yes)], record)
    if output == "json":
        print_json(_document(findings, outcomes, with_kept=kept))
    elif outcomes:
        print_table([_outcome_row(each) for each in outcomes], _OUTCOME_COLUMNS)
    return _exit_code(findings, outcomes)


def _check(rules: Rules, *, delete: bool) -> None:
    """Check the flags.

    Raises:
        InvalidRequest: The age is not a time in the past, or too short to delete by it.
    """
    if rules.older_than < timedelta(0):
        raise errors.InvalidRequest(f"--older-than {rules.older_than} is negative; give a time such as 7d")
    if delete and rules.older_than < _YOUNGEST:
        raise errors.InvalidRequest(
            f"--older-than {rules.older_than} is too short for --delete: a volume exists before the objects that "
            "need it; give at least 1h"
        )
    if rules.cluster == "":
        raise errors.InvalidRequest("--cluster is empty; give the cluster's name, or --untagged")


async def _look(access: _Access, rules: Rules) -> _Findings:
    async with open_aws(access.aws) as aws:
        caller = await aws.caller()
        note(f"reading account {caller.account} in {aws.region}, and the Kubernetes cluster")
        world = await survey(aws, access.kubernetes)
    return _Findings(caller=caller, world=world, rules=rules, verdicts=judge(world, rules))


def _explain(findings: _Findings) -> None:
    """Say how much is left over, and why the rest is not."""
    for gap in findings.world.kubernetes.gaps:
        note(f"not read, so that nothing can be judged: {gap}")
    region = prices.priced_region(findings.world.region)
    total = sum(each.monthly_cost for each in findings.leftovers)
    name = wanted_cluster(findings.world.kubernetes, findings.rules) or "without a name in tags"
    note(
        f"cluster {name}: {len(findings.leftovers)} of {len(findings.verdicts)} objects left over, about "
        f"{total:.2f} USD a month (estimate by list prices of {region}, {prices.AS_OF})"
    )
    for kind, count in Counter(each.protections[0].kind for each in findings.others).most_common():
        of_kind = [each for each in findings.others if each.protections[0].kind == kind]
        cost, example = sum(each.monthly_cost for each in of_kind), of_kind[0]
        note(
            f"kept: {count} {kind}, {cost:.2f} USD a month, for example {example.kind} {example.id}: "
            f"{example.protections[0].text}"
        )


def _print_verdicts(findings: _Findings, *, with_kept: bool) -> None:
    shown = [*findings.leftovers, *(findings.others if with_kept else [])]
    if shown:
        print_table([_row(each) for each in shown], _COLUMNS)


def _delete(access: _Access, findings: _Findings, agreed: Sequence[Verdict], path: Path | None) -> list[Outcome]:
    """Delete what the user agreed to."""
    if not agreed:
        return []
    with Record(path or default_record(datetime.now(UTC))) as record:
        note(f"the record is {record.path}")
        try:
            return asyncio.run(_delete_all(access, findings, agreed, record))
        except KeyboardInterrupt:
            note(
                "interrupted: AWS finishes a deletion that it has received; the record says which one was running "
                f"({record.path}); run the command again to see what is left"
            )
            raise


async def _delete_all(access: _Access, findings: _Findings, agreed: Sequence[Verdict], record: Record) -> list[Outcome]:
    async with open_aws(access.aws) as aws:
        await _check_caller(aws, findings.caller)
        deletion = Deletion(
            aws=aws, kubernetes=access.kubernetes, rules=findings.rules, world=findings.world, record=record
        )
        return await deletion.delete_all(agreed)


async def _check_caller(aws: Aws, before: Caller) -> None:
    """Check that the credentials have not become another account's while the user was asked.

    Raises:
        Refused: They have.
    """
    if (caller := await aws.caller()).account != before.account:
        raise errors.Refused(f"the credentials are now of account {caller.account}, not {before.account}; run again")


def _agrees(findings: _Findings, verdict: Verdict, *, yes: bool) -> bool:
    """Whether the user agrees to a deletion.

    Raises:
        Declined: There is no terminal to ask on.
    """
    verb = "Detach" if verdict.kind == "attachment" else "Delete"
    where = f"account {findings.caller.account}, {findings.world.region}"
    return agrees(f"{verb} {verdict.kind} {verdict.id}, {verdict.description} ({where})?", yes=yes)


def _document(findings: _Findings, outcomes: Sequence[Outcome], *, with_kept: bool) -> dict[str, object]:
    kubernetes = findings.world.kubernetes
    return {
        "account": findings.caller.account,
        "region": findings.world.region,
        "cluster": wanted_cluster(kubernetes, findings.rules) or None,
        "older_than_seconds": findings.rules.older_than.total_seconds(),
        "not_read": list(kubernetes.gaps),
        "prices": {"region": prices.priced_region(findings.world.region), "as_of": prices.AS_OF, "estimate": True},
        "usd_per_month": round(sum(each.monthly_cost for each in findings.leftovers), 2),
        "leftovers": [_verdict(each) for each in findings.leftovers],
        "kept_count": Counter(each.protections[0].kind for each in findings.others),
        **({"kept": [_verdict(each) for each in findings.others]} if with_kept else {}),
        "outcomes": [_outcome_row(each) for each in outcomes],
    }


def _verdict(verdict: Verdict) -> dict[str, object]:
    why = [reason.text for reason in verdict.protections] or list(verdict.evidence)
    return {
        "kind": verdict.kind,
        "id": verdict.id,
        "description": verdict.description,
        "since": verdict.since.isoformat() if verdict.since else None,
        "usd_per_month": round(verdict.monthly_cost, 2),
        "protected_by": sorted({reason.kind for reason in verdict.protections}),
        "why": why,
        "to_remove": (verdict.removal or "--delete") if verdict.is_leftover else None,
    }


def _row(verdict: Verdict) -> dict[str, object]:
    row = _verdict(verdict)
    why = "; ".join([reason.text for reason in verdict.protections] or verdict.evidence)
    since = f"{verdict.since:%Y-%m-%d}" if verdict.since else None
    return {**row, "since": since, "usd_per_month": f"{verdict.monthly_cost:.2f}", "why": why}


def _outcome_row(outcome: Outcome) -> dict[str, object]:
    return {
        "kind": outcome.verdict.kind,
        "id": outcome.verdict.id,
        "result": outcome.result,
        "reason": outcome.reason,
    }


def _exit_code(findings: _Findings, outcomes: Sequence[Outcome]) -> int:
    removed = sum(outcome.result in {"deleted", "detaching", "gone"} for outcome in outcomes)
    if any(outcome.result == "failed" for outcome in outcomes):
        return _FAILURE
    if findings.world.kubernetes.gaps or removed < len(findings.leftovers):
        return exit_codes.MAY_FAIL
    return exit_codes.OK
