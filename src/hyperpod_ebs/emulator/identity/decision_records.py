"""Decisions as the call log keeps and shows them: the statement that decided, or what was missing."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final, assert_never

from hyperpod_ebs.iam.decision import Allowed, Decision, DeniedExplicitly, DeniedImplicitly, Nearest, Rule
from hyperpod_ebs.iam.request import Request

_LONGEST: Final = 1000
"""Characters of a resource's name or a value that a record keeps; a caller chooses some of them."""

_MAX_VALUES: Final = 10
"""The values of a condition key that a record keeps and shows."""


class Verdict(Enum):
    """What becomes of something that a call needs."""

    ALLOWED = "allowed"
    GRANTED = "granted"
    """No policy allows it, but a grant of the KMS key does."""

    MISSING = "missing"
    """A condition is not met, but the resource does not exist, so the service answers that instead."""

    DENIED = "denied"


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionRecord:
    """A decision about one action on one resource."""

    principal: str
    """The ARN of the principal: the caller, or a service that acts for the caller."""

    action: str
    resource: str
    decision: Decision
    verdict: Verdict
    values: tuple[str, ...]
    """What the request has for the condition key that is not met in the nearest statement."""

    @classmethod
    def create(cls, request: Request, decision: Decision, verdict: Verdict) -> "DecisionRecord":
        """The record of a decision about this request."""
        match decision:
            case DeniedImplicitly(nearest=Nearest() as nearest) if nearest.mismatch.condition:
                values = request.context.get(nearest.mismatch.condition.key)
            case _:
                values = ()
        return cls(
            principal=request.principal.arn,
            action=request.action,
            resource=request.resource[:_LONGEST],
            decision=decision,
            verdict=verdict,
            values=tuple(value[:_LONGEST] for value in values[:_MAX_VALUES]),
        )

    @property
    def is_refusal(self) -> bool:
        """Whether the decision refused something."""
        return self.verdict is Verdict.DENIED

    def document(self) -> Mapping[str, object]:
        """The decision as JSON."""
        rule = _rule(self.decision)
        return {
            "action": self.action,
            "resource": self.resource,
            "principal": self.principal,
            "verdict": self.verdict.value,
            "policy_type": rule.source.value if rule else None,
            "policy": rule.policy if rule else None,
            "statement": rule.statement.name if rule else None,
            "missing": self._missing(),
            "reason": self._reason(),
        }

    def _missing(self) -> Mapping[str, object] | None:
        """The element of the nearest statement that does not match; None if there is no such statement."""
        match self.decision:
            case DeniedImplicitly(nearest=Nearest(mismatch=mismatch)):
                if (condition := mismatch.condition) is None:
                    return {"element": mismatch.element.name.capitalize()}
                return {
                    "element": "Condition",
                    "operator": condition.operator,
                    "key": condition.key,
                    "wanted": [value.source for value in condition.values[:_MAX_VALUES]],
                    "values": list(self.values),
                }
            case _:
                return None

    def _reason(self) -> str:
        match self.decision:
            case Allowed(rule=rule):
                return f"by {_name(rule)}" if rule else "the root user needs no policy"
            case DeniedExplicitly(rule=rule):
                return f"by an explicit deny in {_name(rule)}"
            case DeniedImplicitly(source=source, nearest=nearest):
                reason = f"no {source.value} has an Allow statement with this action"
                if nearest:
                    reason = f"no {source.value} allows it; nearest is {_name(nearest.rule)}, {self._mismatch(nearest)}"
            case _:
                assert_never(self.decision)
        match self.verdict:
            case Verdict.GRANTED:
                return f"{reason}; a grant of the key allows it"
            case Verdict.MISSING:
                return f"{reason}; the resource does not exist"
            case _:
                return reason

    def _mismatch(self, nearest: Nearest) -> str:
        if (condition := nearest.mismatch.condition) is None:
            return f"whose {nearest.mismatch.element.name.capitalize()} does not match"
        wanted = " or ".join(value.source for value in condition.values[:_MAX_VALUES])
        actual = ", ".join(self.values) if self.values else "no such key"
        return f"whose condition {condition.operator} {condition.key} wants {wanted}: the request has {actual}"


def _rule(decision: Decision) -> Rule | None:
    """The statement that decided or, if none did, the nearest one."""
    match decision:
        case Allowed(rule=rule) | DeniedExplicitly(rule=rule):
            return rule
        case DeniedImplicitly(nearest=nearest):
            return nearest.rule if nearest else None
        case _:
            assert_never(decision)


def _name(rule: Rule) -> str:
    statement = f"statement {rule.statement.sid}" if rule.statement.sid else rule.statement.name
    policy = rule.source.value if rule.policy == rule.source.value else f"{rule.source.value} {rule.policy}"
    return f"{statement} of the {policy}"
