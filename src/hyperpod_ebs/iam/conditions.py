"""The Condition element of a statement.

Source: IAM User Guide, "Conditions with multiple context keys or values" and "Single-valued
vs. multivalued context keys".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from hyperpod_ebs.iam.operators import OPERATORS, Operator, Unparsable
from hyperpod_ebs.iam.patterns import Pattern, Template
from hyperpod_ebs.iam.request import Context

NULL: Final = "null"
IF_EXISTS: Final = "ifexists"


class Quantifier(Enum):
    """What a set prefix demands of a key with several values."""

    NONE = ""
    ALL = "forallvalues:"
    ANY = "foranyvalue:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One operator, one key, and the values that the policy gives."""

    operator: str
    """The operator as the document has it: ForAllValues:StringEqualsIfExists."""

    key: str
    values: Sequence[Template]
    _comparison: Operator | None
    """None for Null."""

    _quantifier: Quantifier
    _if_exists: bool

    @classmethod
    def compile(cls, operator: str, key: str, values: Sequence[Template]) -> "Condition":
        """Compile a condition.

        Raises:
            KeyError: The operator is unknown.
        """
        name = operator.lower()
        quantifier = next((each for each in (Quantifier.ALL, Quantifier.ANY) if name.startswith(each.value)), None)
        name = name.removeprefix(quantifier.value) if quantifier else name
        bare = name.removesuffix(IF_EXISTS)
        return cls(
            operator=operator,
            key=key,
            values=values,
            _comparison=None if name == NULL else OPERATORS[bare],
            _quantifier=quantifier or Quantifier.NONE,
            _if_exists=bare != name,
        )

    def is_met(self, context: Context) -> bool:
        """Whether the request meets the condition."""
        actual = context.get(self.key)
        if self._comparison is None:
            return any(_is_true(value, context) != bool(actual) for value in self.values)
        if not actual:
            return self._is_met_without_key(self._comparison)
        expected = [value.resolve(context) for value in self.values]
        match self._quantifier:
            case Quantifier.ALL:
                return all(_is_value_accepted(self._comparison, value, expected) for value in actual)
            case Quantifier.ANY:
                return any(_is_value_accepted(self._comparison, value, expected) for value in actual)
            case Quantifier.NONE:
                return len(actual) == 1 and _is_value_accepted(self._comparison, actual[0], expected)

    def _is_met_without_key(self, comparison: Operator) -> bool:
        match self._quantifier:
            case Quantifier.ALL:
                return True
            case Quantifier.ANY:
                return False
            case Quantifier.NONE:
                return self._if_exists or comparison.is_negated


def _is_value_accepted(comparison: Operator, actual: str, expected: Sequence[Pattern | None]) -> bool:
    """Whether the value matches one of the policy's; for a negated operator, whether it differs from all of them."""
    if comparison.is_negated:
        return all(_is_equal(comparison, actual, pattern) is False for pattern in expected)
    return any(_is_equal(comparison, actual, pattern) for pattern in expected)


def _is_equal(comparison: Operator, actual: str, expected: Pattern | None) -> bool | None:
    """Whether the values match; None if a policy variable is missing, or a value is not of the operator's type."""
    if expected is None:
        return None
    try:
        return comparison.compare(actual, expected)
    except Unparsable:
        return None


def _is_true(value: Template, context: Context) -> bool:
    pattern = value.resolve(context)
    return pattern is not None and pattern.text.lower() == "true"
