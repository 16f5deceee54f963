"""Planned faults: calls of an operation fail, are answered late or get no answer, a given number of times.

A fault applies before the operation runs, so that it changes nothing, or after it, so that
the operation succeeds and only its answer is replaced or lost. A planned fault that remains
at the end of a test means that the test did not take the code path that it should.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, Self, get_args

from hyperpod_ebs.emulator.wire.operations import AwsFault

When = Literal["before", "after"]

MAX_DELAY: Final = 86_400
"""Maximum seconds of a planned delay."""

MAX_TIMES: Final = 1_000_000_000
"""Maximum number of calls of a plan."""

_CODE: Final = re.compile(r"[A-Za-z0-9._:-]+")
"""A code can be sent in a header."""

_STATUSES: Final = range(400, 600)

_FIELDS: Final[Mapping[str, type | tuple[type, ...]]] = {
    "operation": str,
    "code": str,
    "message": str,
    "status": int,
    "times": int,
    "when": str,
    "delay": (int, float),
    "drop": bool,
    "deny": bool,
}


class BadPlan(ValueError):  # noqa: N818 - named for what is wrong
    """The plan is malformed, or would have no effect."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A fault of an operation, and the number of calls that it applies to."""

    operation: str
    """CreateVolume; or eks:CreateCluster, if several services have an operation of that name."""

    fault: AwsFault | None = None
    """The error that replaces the operation's own answer."""

    times: int = 1
    """The number of calls that meet the fault."""

    when: When = "before"
    """Whether the fault applies before or after the operation runs."""

    delay: float = 0.0
    """Seconds to wait before the answer."""

    drop: bool = False
    """Close the connection without an answer."""

    deny: bool = False
    """Answer the service's error for an operation that no policy allows."""

    def __post_init__(self) -> None:
        if not 1 <= self.times <= MAX_TIMES or not 0 <= self.delay <= MAX_DELAY:  # false for NaN
            raise BadPlan(
                f"plan for {self.operation}: {self.times} times after {self.delay} s is impossible; "
                f"times must be between 1 and {MAX_TIMES}, and delay between 0 and {MAX_DELAY}"
            )
        if self.fault is not None and not (_CODE.fullmatch(self.fault.code) and self.fault.status in _STATUSES):
            raise BadPlan(
                f"plan for {self.operation}: no error has code {self.fault.code!r} and status {self.fault.status}; "
                "a code is one word, and a status between 400 and 599"
            )
        if self.when not in get_args(When):
            raise BadPlan(f"plan for {self.operation}: when is {self.when!r}, not one of {', '.join(get_args(When))}")
        if self.fault is None and not (self.drop or self.deny or self.delay):
            raise BadPlan(f"plan for {self.operation} does nothing: set a code, a delay, drop or deny")
        if sum([self.fault is not None, self.drop, self.deny]) > 1:
            raise BadPlan(f"plan for {self.operation} cannot answer in two ways: set only one of code, drop and deny")

    @classmethod
    def parse(cls, document: object) -> Self:
        """Parse a plan from a JSON document.

        Raises:
            BadPlan: The document is not a plan.
        """
        if not isinstance(document, dict) or "operation" not in document:
            raise BadPlan("plan has no operation: send a JSON object with the operation's name")
        for name, value in document.items():
            if name not in _FIELDS:
                raise BadPlan(f"plan has an unknown field {name!r}: the fields are {', '.join(_FIELDS)}")
            if not isinstance(value, _FIELDS[name]) or (isinstance(value, bool) and _FIELDS[name] is not bool):
                raise BadPlan(f"plan's {name} is {value!r}, which is of the wrong type")
        fields: dict[str, Any] = dict(document)  # Any: each field has its own type, checked above
        code, message = fields.pop("code", None), fields.pop("message", "planned fault")
        status = fields.pop("status", 400)
        return cls(fault=None if code is None else AwsFault(code, message, status), **fields)

    def document(self) -> Mapping[str, object]:
        """The plan as a JSON document that `parse` accepts."""
        fault = self.fault
        error = {} if fault is None else {"code": fault.code, "message": fault.message, "status": fault.status}
        return {
            "operation": self.operation,
            **error,
            "times": self.times,
            "when": self.when,
            "delay": self.delay,
            "drop": self.drop,
            "deny": self.deny,
        }


class Faults:
    """The remaining plans, in the order in which they were added."""

    def __init__(self) -> None:
        self._plans: list[Plan] = []

    def plan(  # noqa: PLR0913 - the fields of a plan; most are rarely given
        self,
        operation: str,
        fault: AwsFault | None = None,
        *,
        times: int = 1,
        when: When = "before",
        delay: float = 0.0,
        drop: bool = False,
        deny: bool = False,
    ) -> None:
        """Plan a fault for the next `times` calls of `operation`.

        Raises:
            BadPlan: The plan would have no effect.
        """
        self.add(Plan(operation=operation, fault=fault, times=times, when=when, delay=delay, drop=drop, deny=deny))

    def add(self, plan: Plan) -> None:
        """Add a plan, which applies after the earlier plans for its operation."""
        self._plans.append(plan)

    def take(self, operation: str, when: When) -> Plan | None:
        """Count down the first plan for this call and return it; None if there is none.

        Args:
            operation: The operation with its service: eks:CreateCluster.
            when: Whether the operation is about to run or has run.
        """
        names = {operation, operation.rpartition(":")[2]}
        for index, plan in enumerate(self._plans):
            if plan.operation in names and plan.when == when:
                rest = [replace(plan, times=plan.times - 1)] if plan.times > 1 else []
                self._plans[index : index + 1] = rest
                return plan
        return None

    def remaining(self) -> int:
        """The number of planned faults that have not happened yet."""
        return sum(plan.times for plan in self._plans)

    def plans(self) -> tuple[Plan, ...]:
        """The remaining plans with their remaining counts."""
        return tuple(self._plans)

    def clear(self) -> None:
        """Delete all plans."""
        self._plans.clear()
