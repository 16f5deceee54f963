"""How the doctor runs checks, orders what they find, and chooses the exit code."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import pytest

from hyperpod_ebs.access.aws.session import Aws
from hyperpod_ebs.access.doctor.checks import Check, run_checks
from hyperpod_ebs.access.doctor.context import Context, Missing, Wanted
from hyperpod_ebs.access.doctor.findings import Finding, Status, exit_code, fails, may_fail, not_checked, summary
from hyperpod_ebs.access.doctor.registry import ALL_CHECKS
from hyperpod_ebs.access.kubernetes.reader import Reader
from hyperpod_ebs.driver.model import errors

_WANTED: Final = Wanted(namespace="kube-system", service_account="driver")


@asynccontextmanager
async def no_aws() -> AsyncGenerator[Aws]:
    raise errors.Refused("no AWS credentials; run `aws sso login`")
    yield  # type: ignore[unreachable] # makes this a generator


@asynccontextmanager
async def no_reader() -> AsyncGenerator[Reader]:
    raise errors.Refused("kubectl is not on PATH")
    yield  # type: ignore[unreachable] # as above


def check(name: str, *findings: Finding, error: Exception | None = None) -> Check:
    """A check that finds this, and then raises an error."""

    async def run(_: Context) -> AsyncIterator[Finding]:
        for finding in findings:
            yield finding
        if error:
            raise error

    return Check(name=name, promise=f"{name} is in order", run=run)


async def run(*checks: Check, deadline: float = 5) -> list[Finding]:
    """Run the checks where neither AWS nor Kubernetes answers."""
    async with AsyncExitStack() as stack:
        return await run_checks(checks, Context(_WANTED, no_aws, no_reader, stack), deadline=deadline)


async def test_what_fails_is_on_top_in_the_order_of_the_checks() -> None:
    findings = await run(
        check("first", may_fail("a", "e", "c", "f")),
        check("second", fails("b", "e", "c", "f"), not_checked("c", "why")),
        check("third"),
        check("fourth", fails("d", "e", "c", "f")),
    )

    assert [(each.status, each.check, each.object) for each in findings] == [
        ("fails", "second", "b"),
        ("fails", "fourth", "d"),
        ("may fail", "first", "a"),
        ("not checked", "second", "c"),
        ("ok", "third", "third"),
    ]
    assert summary(findings) == "2 fails, 1 may fail, 1 not checked, 1 ok"


async def test_what_a_check_finds_twice_is_shown_once() -> None:
    findings = await run(check("one", fails("a", "e", "c", "f"), fails("a", "e", "c", "f"), fails("b", "e", "c", "f")))

    assert [each.object for each in findings] == ["a", "b"]


async def test_a_part_that_is_missing_is_named_once_with_the_checks_that_need_it() -> None:
    async def read_twice(context: Context) -> AsyncIterator[Finding]:
        await context.volumes()
        yield fails("a", "e", "c", "f")

    async def read_nodes(context: Context) -> AsyncIterator[Finding]:
        await context.nodes()
        yield fails("a", "e", "c", "f")

    needing = [Check(name=name, promise="", run=read_twice) for name in ("b", "a")]
    findings = await run(*needing, Check(name="c", promise="", run=read_nodes))

    assert [(each.status, each.object, each.consequence) for each in findings] == [
        ("not checked", "AWS", "These checks did not run: b, a"),
        ("not checked", "Kubernetes", "These checks did not run: c"),
    ]
    assert "aws sso login" in findings[0].evidence


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (errors.Denied("cannot list roles: AccessDenied"), "cannot list roles: AccessDenied"),
        (KeyError("x"), "the check itself has failed"),
    ],
    ids=["an error of AWS", "a fault of the check"],
)
async def test_a_check_that_cannot_go_on_keeps_what_it_has_found(error: Exception, words: str) -> None:
    findings = await run(check("one", fails("a", "e", "c", "f"), error=error), check("two"))

    assert [each.status for each in findings] == ["fails", "not checked", "ok"]
    assert words in findings[1].evidence


async def test_a_check_that_does_not_end_is_ended_at_its_deadline() -> None:
    async def wait(_: Context) -> AsyncIterator[Finding]:
        await asyncio.Event().wait()
        yield fails("a", "e", "c", "f")

    findings = await run(Check(name="slow", promise="", run=wait), check("fast"), deadline=0.01)

    assert [(each.status, each.check) for each in findings] == [("not checked", "slow"), ("ok", "fast")]


@pytest.mark.parametrize(
    ("statuses", "code"),
    [
        ([], 0),
        (["ok"], 0),
        (["ok", "may fail"], 4),
        (["not checked", "ok"], 4),
        (["may fail", "fails", "ok"], 3),
    ],
)
def test_the_exit_code_is_that_of_the_worst_finding(statuses: Sequence[Status], code: int) -> None:
    assert exit_code([Finding(status=status, object="a", evidence="e") for status in statuses]) == code


def test_what_only_another_place_can_show_does_not_count() -> None:
    assert exit_code([not_checked("this node", "not on a node", is_elsewhere=True)]) == 0


async def test_a_part_of_another_place_does_not_count_either() -> None:
    findings = await run(check("node", error=Missing("this node", "run the doctor on a node", is_elsewhere=True)))

    assert [each.status for each in findings] == ["not checked"]
    assert exit_code(findings) == 0


def test_the_names_of_checks_are_unique() -> None:
    names = [each.name for each in ALL_CHECKS]

    assert len(names) == len(set(names))
