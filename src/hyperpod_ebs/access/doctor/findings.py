"""What the doctor finds: the state of an object, the evidence, what follows from it, and what to do."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from hyperpod_ebs.access import exit_codes

Status = Literal["fails", "may fail", "not checked", "ok"]

ORDER: Final[Sequence[Status]] = ("fails", "may fail", "not checked", "ok")
"""The statuses, the worst first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remedy:
    """A safe change that `--fix` makes after the user has agreed to it."""

    question: str
    """Asks for agreement: `Add the tag ebs.csi.aws.com/cluster=true to volume vol-1?`."""

    apply: Callable[[], Awaitable[None]]
    """Makes the change. Raises `driver.model.errors.Error` if the change fails."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The state of one object."""

    status: Status
    object: str
    """The object with its kind: `volume vol-1`, `node hyperpod-i-1`, `StorageClass fast`."""

    evidence: str
    """What was found, with both values; for `not checked`, why."""

    consequence: str = ""
    """What will not work because of it, in one sentence."""

    fix: str = ""
    """The command or the policy statement that fixes it."""

    remedy: Remedy | None = None
    check: str = ""
    """The check that found it; the runner fills it in."""

    is_elsewhere: bool = False
    """Whether it could only be checked from another place, such as a node, which is not worrying."""


def fails(object_: str, evidence: str, consequence: str, fix: str, remedy: Remedy | None = None) -> Finding:
    """Something that does not work."""
    return Finding(status="fails", object=object_, evidence=evidence, consequence=consequence, fix=fix, remedy=remedy)


def may_fail(object_: str, evidence: str, consequence: str, fix: str, remedy: Remedy | None = None) -> Finding:
    """Something that does not work under a condition, or soon."""
    return Finding(
        status="may fail", object=object_, evidence=evidence, consequence=consequence, fix=fix, remedy=remedy
    )


def not_checked(object_: str, why: str, *, is_elsewhere: bool = False) -> Finding:
    """Something of which the doctor cannot know whether it works."""
    return Finding(status="not checked", object=object_, evidence=why, is_elsewhere=is_elsewhere)


def exit_code(findings: Sequence[Finding]) -> int:
    """The exit code by the worst finding."""
    statuses = {finding.status for finding in findings if not finding.is_elsewhere}
    if "fails" in statuses:
        return exit_codes.FAILS
    return exit_codes.MAY_FAIL if statuses - {"ok"} else exit_codes.OK


def summary(findings: Sequence[Finding]) -> str:
    """The number of findings of each status: `1 fails, 2 may fail, 30 ok`."""
    counts = {status: sum(finding.status == status for finding in findings) for status in ORDER}
    return ", ".join(f"{count} {status}" for status, count in counts.items() if count) or "nothing was checked"
