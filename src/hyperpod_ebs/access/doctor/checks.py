"""Checks, and how the doctor runs them: all at once, each with a deadline.

To add a check, write an asynchronous generator that takes the `Context` and yields findings (`findings.fails`,
`findings.may_fail`, `findings.not_checked`), and put a `Check` for it into the `CHECKS` of its module, which
`registry.py` collects in the order in which things depend on each other:

- A check that yields nothing has found everything in order: the runner adds an `ok` finding with `Check.promise`.
- Get what AWS and Kubernetes say from the context, which loads each part once: `await context.volumes()`,
  `await context.objects("/api/v1/nodes")`. A part that is missing raises `Missing`; let it pass. The runner then
  reports the part once, with the checks that needed it. A check of what only a node or a pod can show raises
  `Missing(..., is_elsewhere=True)` at other places.
- A check that has nothing to look at because of what another check reports raises `Moot`, and says nothing then.
- An `errors.Error` that leaves the check becomes a `not checked` finding with the error's message.
- A check reads, and changes nothing. A safe change is a `Remedy` of the finding, which only `--fix` applies.
- Add the fault that it finds to the table of faults in the tests, which is also the reference page of the doctor.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from hyperpod_ebs.access.doctor.context import Context, Missing, Moot
from hyperpod_ebs.access.doctor.findings import ORDER, Finding, not_checked
from hyperpod_ebs.driver.model import errors

DEADLINE: Final = 20.0
"""Seconds for one check, with the loading of what it needs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """Something that the doctor looks at."""

    name: str
    promise: str
    """What is so if the check finds nothing: `AWS accepts the credentials`."""

    run: Callable[[Context], AsyncIterator[Finding]]


async def run_checks(
    checks: Sequence[Check],
    context: Context,
    *,
    on_done: Callable[[str], None] = lambda _: None,
    deadline: float = DEADLINE,
) -> list[Finding]:
    """Run all checks at once; the findings, what to do first on top.

    Args:
        checks: The checks, in the order in which things depend on each other.
        context: What they look at.
        on_done: Called with the name of each finished check.
        deadline: Seconds for each check.
    """
    missing: dict[str, tuple[Missing, list[str]]] = {}
    found: dict[str, list[Finding]] = {check.name: [] for check in checks}

    async def run(check: Check) -> None:
        try:
            with suppress(Moot):
                async with asyncio.timeout(deadline):
                    async for finding in check.run(context):
                        found[check.name].append(finding)
                if not found[check.name]:
                    found[check.name].append(Finding(status="ok", object=check.name, evidence=check.promise))
        except Missing as reason:
            missing.setdefault(reason.part, (reason, []))[1].append(check.name)
        except errors.Error as error:
            found[check.name].append(not_checked(check.name, str(error)))
        except TimeoutError:
            why = f"the check was not finished after {deadline:g} s; repeat it when AWS and Kubernetes answer faster"
            found[check.name].append(not_checked(check.name, why))
        except Exception as error:  # noqa: BLE001 - one broken check must not hide what the others find
            why = f"the check itself has failed: {error} ({type(error).__name__}); please report it"
            found[check.name].append(not_checked(check.name, why))
        on_done(check.name)

    async with asyncio.TaskGroup() as tasks:
        for check in checks:
            tasks.create_task(run(check))
    findings = [
        replace(finding, check=check.name) for check in checks for finding in _without_repetitions(found[check.name])
    ]
    order = [check.name for check in checks]
    parts = [
        replace(
            not_checked(part, reason.why, is_elsewhere=reason.is_elsewhere),
            consequence=f"These checks did not run: {', '.join(sorted(names, key=order.index))}",
            check=min(names, key=order.index),
        )
        for part, (reason, names) in missing.items()
    ]
    return sorted([*findings, *parts], key=lambda each: (ORDER.index(each.status), order.index(each.check)))


def _without_repetitions(findings: Sequence[Finding]) -> list[Finding]:
    """The findings that differ from all others: two EKS clusters may have one role."""
    return list({(each.status, each.object, each.evidence): each for each in findings}.values())
