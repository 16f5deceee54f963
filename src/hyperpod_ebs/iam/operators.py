"""The condition operators: how a value of the request is compared with a value of the policy.

Source: IAM User Guide, "IAM JSON policy elements: Condition operators". Where a value
cannot be parsed, the condition is not met, negated or not.
"""

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from ipaddress import ip_address, ip_network
from typing import Final

from hyperpod_ebs.iam.patterns import ARN_FIELDS, Pattern

_NUMBER: Final = re.compile(r"[+-]?(?:\d{1,64}\.?\d{0,64}|\.\d{1,64})", re.ASCII)
_DATE: Final = re.compile(
    r"\d{4}-\d{2}-\d{2}(?:T\d{2}:\d{2}(?::\d{2}(?:\.\d{1,6})?)?(?:Z|[+-]\d{2}:?\d{2})?)?", re.ASCII
)
_EPOCH: Final = re.compile(r"\d{1,11}", re.ASCII)


class Unparsable(ValueError):  # noqa: N818 - named for what happened
    """A value of the request or of the policy is not of the operator's type."""


Comparison = Callable[[str, Pattern], bool]
"""Compares a value of the request with one of the policy; raises `Unparsable`."""


@dataclass(frozen=True, slots=True)
class Operator:
    """A condition operator, without set prefix and IfExists."""

    compare: Comparison
    is_negated: bool = False
    """Whether the condition is met if no value of the policy matches."""


def _equal_strings(actual: str, expected: Pattern) -> bool:
    return actual == expected.text


def _equal_ignoring_case(actual: str, expected: Pattern) -> bool:
    return actual.casefold() == expected.text.casefold()


def _is_like(actual: str, expected: Pattern) -> bool:
    return expected.is_match(actual)


def _is_like_arn(actual: str, expected: Pattern) -> bool:
    if actual.count(":") < ARN_FIELDS - 1 or expected.text.count(":") < ARN_FIELDS - 1:
        raise Unparsable
    return expected.is_arn_match(actual)


def _equal_booleans(actual: str, expected: Pattern) -> bool:
    values = (actual.lower(), expected.text.lower())
    if not {*values} <= {"true", "false"}:
        raise Unparsable
    return values[0] == values[1]


def _is_in_network(actual: str, expected: Pattern) -> bool:
    try:
        address, network = ip_address(actual), ip_network(expected.text, strict=False)
    except ValueError as error:
        raise Unparsable from error
    return address.version == network.version and address in network


def _number(text: str) -> Decimal:
    if not _NUMBER.fullmatch(text):
        raise Unparsable
    return Decimal(text)


def _date(text: str) -> datetime:
    """The instant that a date in ISO 8601 or a number of seconds since 1970 names; a date without zone is in UTC."""
    try:
        if _EPOCH.fullmatch(text):
            return datetime.fromtimestamp(int(text), UTC)
        if _DATE.fullmatch(text):
            moment = datetime.fromisoformat(text)
            return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise Unparsable from error
    raise Unparsable


def _numeric(relation: Callable[[Decimal, Decimal], bool]) -> Comparison:
    return lambda actual, expected: relation(_number(actual), _number(expected.text))


def _chronological(relation: Callable[[datetime, datetime], bool]) -> Comparison:
    return lambda actual, expected: relation(_date(actual), _date(expected.text))


OPERATORS: Final[Mapping[str, Operator]] = {
    "stringequals": Operator(_equal_strings),
    "stringnotequals": Operator(_equal_strings, is_negated=True),
    "stringequalsignorecase": Operator(_equal_ignoring_case),
    "stringnotequalsignorecase": Operator(_equal_ignoring_case, is_negated=True),
    "stringlike": Operator(_is_like),
    "stringnotlike": Operator(_is_like, is_negated=True),
    "numericequals": Operator(_numeric(operator.eq)),
    "numericnotequals": Operator(_numeric(operator.eq), is_negated=True),
    "numericlessthan": Operator(_numeric(operator.lt)),
    "numericlessthanequals": Operator(_numeric(operator.le)),
    "numericgreaterthan": Operator(_numeric(operator.gt)),
    "numericgreaterthanequals": Operator(_numeric(operator.ge)),
    "dateequals": Operator(_chronological(operator.eq)),
    "datenotequals": Operator(_chronological(operator.eq), is_negated=True),
    "datelessthan": Operator(_chronological(operator.lt)),
    "datelessthanequals": Operator(_chronological(operator.le)),
    "dategreaterthan": Operator(_chronological(operator.gt)),
    "dategreaterthanequals": Operator(_chronological(operator.ge)),
    "bool": Operator(_equal_booleans),
    "binaryequals": Operator(_equal_strings),
    "ipaddress": Operator(_is_in_network),
    "notipaddress": Operator(_is_in_network, is_negated=True),
    "arnequals": Operator(_is_like_arn),
    "arnlike": Operator(_is_like_arn),
    "arnnotequals": Operator(_is_like_arn, is_negated=True),
    "arnnotlike": Operator(_is_like_arn, is_negated=True),
}
"""The operators by name in lower case, except Null, which asks whether the key is present."""
