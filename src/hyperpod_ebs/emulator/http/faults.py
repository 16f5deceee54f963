"""Trouble on order: planned misbehaviour of operations, each with a count.

A plan is met before the operation runs, so that nothing happens, or after it, so
that it has happened and only the answer is lost or replaced. What is left of the
plans afterwards tells which paths a test did not take.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, Self, get_args

from hyperpod_ebs.emulator.wire.operations import AwsFault

When = Literal["before", "after"]

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


class BadPlan(ValueError):  # noqa: N818 - reads as what is wrong with it
    """A plan that cannot be read, or would do nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What goes wrong with an operation, and how often."""

    operation: str
    """CreateVolume; or eks:CreateCluster, where another service has one of that name."""

    fault: AwsFault | None = None
    """Answered in place of the operation's own answer."""

    times: int = 1

    when: When = "before"

    delay: float = 0.0
    """Seconds to wait before anything is answered."""

    drop: bool = False
    """Whether the connection is closed with no answer at all."""

    deny: bool = False
    """Whether the caller is told, in the service's own words, that no policy allows it this."""

    def __post_init__(self) -> None:
        if self.times < 1 or self.delay < 0:
            raise BadPlan(f"plan for {self.operation}: {self.times} times after {self.delay} s cannot be met")
        if self.when not in get_args(When):
            raise BadPlan(f"plan for {self.operation}: when is {self.when!r}, not one of {', '.join(get_args(When))}")
        if self.fault is None and not (self.drop or self.deny or self.delay):
            raise BadPlan(f"plan for {self.operation} does nothing: give a code, a delay, drop or deny")
        if sum([self.fault is not None, self.drop, self.deny]) > 1:
            raise BadPlan(f"plan for {self.operation} cannot answer in two ways: give one of a code, drop and deny")

    @classmethod
    def parse(cls, document: object) -> Self:
        """The plan a JSON document describes.

        Raises:
            BadPlan: It describes none.
        """
        given = _checked(document)
        code, message = given.pop("code", None), given.pop("message", "planned fault")
        status = given.pop("status", 400)
        return cls(fault=None if code is None else AwsFault(code, message, status), **given)

    def document(self) -> Mapping[str, object]:
        """The plan as JSON, the way `parse` takes it."""
        fault = self.fault
        said = {} if fault is None else {"code": fault.code, "message": fault.message, "status": fault.status}
        return {
            "operation": self.operation,
            **said,
            "times": self.times,
            "when": self.when,
            "delay": self.delay,
            "drop": self.drop,
            "deny": self.deny,
        }


def _checked(document: object) -> dict[str, Any]:  # Any: each field has a type of its own, checked here
    if not isinstance(document, dict) or "operation" not in document:
        raise BadPlan("plan has no operation: give an object with the operation's name")
    for name, value in document.items():
        if name not in _FIELDS:
            raise BadPlan(f"plan has an unknown field {name!r}: it may have {', '.join(_FIELDS)}")
        if not isinstance(value, _FIELDS[name]) or (isinstance(value, bool) and _FIELDS[name] is not bool):
            raise BadPlan(f"plan's {name} is {value!r}, which is of the wrong type")
    return dict(document)


class Faults:
    """The plans that are still to be met, in the order in which they were made."""

    def __init__(self) -> None:
        self._plans: list[Plan] = []

    def plan(  # noqa: PLR0913 - a plan is that much, and all but two parts are seldom given
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
        """Let the next `times` calls of `operation` go wrong.

        Raises:
            BadPlan: Nothing would go wrong.
        """
        self.add(Plan(operation=operation, fault=fault, times=times, when=when, delay=delay, drop=drop, deny=deny))

    def add(self, plan: Plan) -> None:
        """Let `plan` be met once those made earlier for its operation are."""
        self._plans.append(plan)

    def take(self, operation: str, when: When) -> Plan | None:
        """The plan that this call of `operation` meets, counted down; None if there is none.

        `operation` has the service before it: eks:CreateCluster.
        """
        names = {operation, operation.rpartition(":")[2]}
        for index, plan in enumerate(self._plans):
            if plan.operation in names and plan.when == when:
                rest = [replace(plan, times=plan.times - 1)] if plan.times > 1 else []
                self._plans[index : index + 1] = rest
                return plan
        return None

    def left(self) -> int:
        """How many planned faults nobody has met."""
        return sum(plan.times for plan in self._plans)

    def plans(self) -> tuple[Plan, ...]:
        """What is still to be met, with the counts that are left."""
        return tuple(self._plans)

    def clear(self) -> None:
        """Forget every plan."""
        self._plans.clear()
