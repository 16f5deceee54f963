"""What a comparison finds, and the smallest change of the documents that fixes it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from hyperpod_ebs.access import exit_codes
from hyperpod_ebs.iam.documents import Json

Operation = Mapping[str, Json]
"""An operation of a JSON patch (RFC 6902)."""


class FindingKind(Enum):
    """The kinds of findings, those that stop the job first."""

    MISSING = "missing"
    MISTYPED = "mistyped"
    OPTIONAL = "missing for some uses"
    """Missing, for a step that not every user needs."""

    TOO_WIDE = "too wide"


_STOPS: Final = frozenset({FindingKind.MISSING, FindingKind.MISTYPED})
_ORDER: Final = {kind: index for index, kind in enumerate(FindingKind)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A difference between the policies and what the job needs."""

    kind: FindingKind
    policy: str
    """The policy that is to change."""

    statement: str = ""
    """The statement that is to change; empty if none is."""

    message: str
    """What is wrong, and what it stops or opens."""

    patch: Sequence[Operation] = ()
    """The change as a JSON patch of the policy; empty if the document cannot be changed."""

    new_statement: Json = None
    """The statement to add, if no document can be changed."""

    @property
    def document(self) -> dict[str, object]:
        """The finding as JSON."""
        return {
            "kind": self.kind.value,
            "policy": self.policy,
            "statement": self.statement or None,
            "message": self.message,
            "patch": list(self.patch),
            "new_statement": self.new_statement,
        }


def sorted_findings(findings: Iterable[Finding]) -> list[Finding]:
    """The findings, those that stop the job first; each once."""
    distinct = {repr(finding): finding for finding in findings}
    return sorted(distinct.values(), key=lambda finding: _ORDER[finding.kind])


def exit_code(findings: Iterable[Finding]) -> int:
    """0 if the policies fit, 3 if something is missing or mistyped, 4 if they are only too wide or lack extras."""
    kinds = {finding.kind for finding in findings}
    if kinds & _STOPS:
        return exit_codes.FAILS
    return exit_codes.MAY_FAIL if kinds else exit_codes.OK
