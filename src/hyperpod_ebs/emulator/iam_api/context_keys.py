"""The condition keys that policies refer to, in conditions and in policy variables."""

from collections.abc import Iterable, Iterator

from hyperpod_ebs.iam.documents import Policy
from hyperpod_ebs.iam.patterns import Template, Variable
from hyperpod_ebs.iam.statements import Statement


def keys_of_policies(policies: Iterable[Policy]) -> list[str]:
    """The keys of all statements, once each, in the order of their names."""
    return distinct(key for policy in policies for statement in policy.statements for key in keys_of(statement))


def keys_of(statement: Statement) -> Iterator[str]:
    """The keys that decide whether the statement matches."""
    for condition in statement.conditions:
        yield condition.key
        for value in condition.values:
            yield from _variables(value)
    if statement.resources is not None:
        for template in statement.resources.templates:
            yield from _variables(template)


def distinct(keys: Iterable[str]) -> list[str]:
    """Keys without repetitions, which may differ in case."""
    return sorted({key.lower(): key for key in keys}.values())


def _variables(template: Template) -> Iterator[str]:
    for part in template.parts:
        if isinstance(part, Variable):
            yield part.key
