"""The permissions in policy documents, taken away one at a time.

A removal is a change of the documents: without a statement, without an action of a statement, without an action in all
statements, with another resource, or with a condition that the requests do not meet.
"""

import copy
import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

Document = Mapping[str, Any]  # JSON
Documents = Mapping[str, Document]
"""The policies of a role by name."""

TAG_IN_CLASS: Final = "tier"
"""The key of the tag that the job's VolumeAttributesClass sets."""

_OTHER: Final = "another"
_OTHER_THAN_ALL: Final = {
    "ec2": "arn:aws:ec2:us-west-2:123456789012:volume/*",
    "kms": "arn:aws:kms:us-west-2:123456789012:key/another",
}
"""What replaces the resource `*`, by service; for EC2 as in a form of SageMaker's guide."""


@dataclass(frozen=True, slots=True)
class Part:
    """An action of a statement, by the policy's name and the statement's position in it."""

    policy: str
    statement: int
    action: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """Something taken away, and the documents without it."""

    what: str
    """Markdown: what is taken away."""

    parts: frozenset[Part]
    """The actions of statements that allow nothing, or less, without it."""

    documents: Documents
    is_value: bool = False
    """Whether it is one of several values that a condition accepts."""


def parts(documents: Documents) -> list[Part]:
    """All actions of all statements, in order."""
    return [
        Part(name, index, action)
        for name, document in documents.items()
        for index, statement in enumerate(document["Statement"])
        for action in _list(statement["Action"])
    ]


def statement_name(documents: Documents, policy: str, index: int) -> str:
    """A statement's id, or its position, with what it is about if it has no id."""
    statement = documents[policy]["Statement"][index]
    return f"`{statement['Sid']}`" if "Sid" in statement else f"statement {index + 1} of {policy}"


def without_statements(documents: Documents) -> Iterator[Removal]:
    """Each statement taken away."""
    for (policy, index), group in itertools.groupby(parts(documents), lambda part: (part.policy, part.statement)):
        removed = frozenset(group)
        name = statement_name(documents, policy, index)
        yield Removal(what=name, parts=removed, documents=without(documents, removed))


def without_actions(documents: Documents) -> Iterator[Removal]:
    """Each action taken away from each statement that has others, and from all statements that have it."""
    by_action: dict[str, list[Part]] = {}
    count: dict[tuple[str, int], int] = {}
    for part in parts(documents):
        by_action.setdefault(part.action, []).append(part)
        count[part.policy, part.statement] = count.get((part.policy, part.statement), 0) + 1
    for part in parts(documents):
        if count[part.policy, part.statement] > 1:
            what = f"`{part.action}` in {statement_name(documents, part.policy, part.statement)}"
            yield Removal(what=what, parts=frozenset({part}), documents=without(documents, {part}))
    for action, everywhere in by_action.items():
        if len(everywhere) > 1:
            removed = frozenset(everywhere)
            yield Removal(what=f"`{action}` everywhere", parts=removed, documents=without(documents, removed))


def with_unmet_conditions(documents: Documents) -> Iterator[Removal]:
    """Each condition with other values, or without one of its values, so that the driver's requests do not meet it."""
    for policy, document in documents.items():
        for index, statement in enumerate(document["Statement"]):
            affected = frozenset(Part(policy, index, action) for action in _list(statement["Action"]))
            for operator, keys in statement.get("Condition", {}).items():
                for key, value in keys.items():
                    for change, unmet in _unmet_values(operator, value):
                        changed: Any = copy.deepcopy(documents)
                        changed[policy]["Statement"][index]["Condition"][operator][key] = unmet
                        what = f"`{key}` in {statement_name(documents, policy, index)}: {change}"
                        is_value = isinstance(unmet, list) and len(unmet) < len(value)
                        yield Removal(what=what, parts=affected, documents=changed, is_value=is_value)


def with_other_resources(documents: Documents) -> Iterator[Removal]:
    """Each resource of each statement replaced by another one."""
    for policy, document in documents.items():
        for index, statement in enumerate(document["Statement"]):
            actions, resources = _list(statement["Action"]), _list(statement.get("Resource", []))
            affected = frozenset(Part(policy, index, action) for action in actions)
            for position, resource in enumerate(resources):
                changed: Any = copy.deepcopy(documents)
                other = _other_resource(resource, actions[0])
                changed[policy]["Statement"][index]["Resource"] = [
                    *resources[:position],
                    other,
                    *resources[position + 1 :],
                ]
                what = f"{statement_name(documents, policy, index)}: `{resource}` becomes `{other}`"
                yield Removal(what=what, parts=affected, documents=changed)


def without(documents: Documents, removed: Collection[Part]) -> Documents:
    """The documents without these actions; a statement whose actions are all removed is removed."""
    changed: Any = copy.deepcopy(documents)
    for policy, document in changed.items():
        for index, statement in enumerate(document["Statement"]):
            kept = [each for each in _list(statement["Action"]) if Part(policy, index, each) not in removed]
            statement["Action"] = kept
        document["Statement"] = [statement for statement in document["Statement"] if statement["Action"]]
    return changed  # type: ignore[no-any-return] # a copy of `documents`


def without_conditions(documents: Documents) -> Documents:
    """The documents without any condition."""
    return {
        name: {
            **document,
            "Statement": [
                {key: value for key, value in statement.items() if key != "Condition"}
                for statement in document["Statement"]
            ],
        }
        for name, document in documents.items()
    }


def _unmet_values(operator: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The changes of a condition's values after which it is not met, each with its description."""
    values = _list(value)
    if operator == "Null":
        yield f"`{value}` becomes `true`", "true"
    elif "NotEquals" in operator:
        yield f"it excludes `{TAG_IN_CLASS}`", [*values, TAG_IN_CLASS]
    elif len(values) == 1:
        yield f"`{values[0]}` becomes `{_OTHER}`", _OTHER
    else:
        for each in values:
            yield f"without `{each}`", [other for other in values if other != each]


def _other_resource(resource: str, action: str) -> str:
    if resource == "*":
        return _OTHER_THAN_ALL[action.partition(":")[0]]
    return f"{resource.rpartition('/')[0]}/{_OTHER}"


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else [value]
