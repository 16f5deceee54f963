"""Parser of form requests such as `Filter.1.Value.2=x` (protocols ec2 and query).

First, the names of the form's parameters are split at their dots, which gives a tree. Readers
compiled from the shapes then read the tree. The two protocols differ in their names and
errors, which are in their `Dialect`.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from botocore.model import ListShape, MapShape, Shape, StructureShape

from hyperpod_ebs.emulator.wire import scalars
from hyperpod_ebs.emulator.wire.operations import AwsFault

_NUMBER: Final = re.compile("[0-9]{1,9}")

MAX_LEVELS: Final = 16
"""Parts of a parameter's name; EC2's and STS's deepest structures have ten or fewer."""

Node = str | dict[str, "Node"]
Read = Callable[[Node, str], Any]  # returns a value of the shape's type
"""Reads a node of the form; the second argument is the node's name in errors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """A protocol's names for the parts of a form, and its errors for an invalid form."""

    name: Callable[[str, Shape], str]
    """Returns a member's name on the wire, from its name in the model."""

    elements: Callable[[Shape], str | None]
    """Returns the name between a list's name and its numbers: `member` in `Tags.member.1`. None if there is none."""

    missing: Callable[[str], AwsFault]
    """Returns the error for a form without this required parameter."""

    unknown: Callable[[str], AwsFault] | None
    """Returns the error for a parameter that no shape has; None if such parameters are ignored."""

    invalid: Callable[[str, str], AwsFault]
    """Returns the error for this parameter with this value."""


def tree(pairs: Iterable[tuple[str, str]]) -> dict[str, Node]:
    """The parameters of a form as a tree; each part of a name is a level, and parts beyond `MAX_LEVELS` are one."""
    root: dict[str, Node] = {}
    for name, value in pairs:
        *parents, last = name.split(".", MAX_LEVELS)
        node = root
        for part in parents:
            nested = node.get(part)
            if not isinstance(nested, dict):
                nested = node[part] = {}
            node = nested
        node[last] = value
    return root


def structure_reader(shape: StructureShape, dialect: Dialect) -> Read:
    """A reader of forms of this shape.

    The reader raises the dialect's `AwsFault` for a form that does not fit the shape.
    """
    return _Compiler(dialect).structure(shape)


class _Compiler:
    """Compiles readers for the shapes of one operation, each structure once."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._structures: dict[str, Read] = {}

    def structure(self, shape: StructureShape) -> Read:
        if shape.name in self._structures:
            return self._structures[shape.name]
        members: dict[str, tuple[str, Read]] = {}
        required = [
            (name, self._dialect.name(name, shape.members[name]))
            for name in shape.required_members
            if not self._is_absent_if_empty(shape.members[name])
        ]
        # Registered before its members are compiled, because a shape may contain itself.
        read = self._structures[shape.name] = _structure(members, required, self._dialect)
        for name, member in shape.members.items():
            members[self._dialect.name(name, member)] = (name, self._reader(member))
        return read

    def _is_absent_if_empty(self, shape: Shape) -> bool:
        """Whether a form has no parameter for an empty value of this shape; the operation then decides."""
        return isinstance(shape, ListShape) and self._dialect.elements(shape) is None

    def _reader(self, shape: Shape) -> Read:
        if isinstance(shape, StructureShape):
            return self.structure(shape)
        if isinstance(shape, ListShape):
            return _list(self._reader(shape.member), self._dialect.elements(shape), self._dialect)
        if isinstance(shape, MapShape):
            return self._map(shape)
        return _scalar(scalars.READ[shape.type_name], self._dialect)

    def _map(self, shape: MapShape) -> Read:
        key_name, value_name = (part.serialization.get("name") for part in (shape.key, shape.value))
        key, value = key_name or "key", value_name or "value"
        pair = _structure(
            {key: ("key", self._reader(shape.key)), value: ("value", self._reader(shape.value))},
            [("key", key), ("value", value)],
            self._dialect,
        )
        entries = _list(pair, None if shape.serialization.get("flattened") else "entry", self._dialect)
        return lambda node, path: {entry["key"]: entry["value"] for entry in entries(node, path)}


def _structure(members: Mapping[str, tuple[str, Read]], required: list[tuple[str, str]], dialect: Dialect) -> Read:
    def read(node: Node, path: str) -> dict[str, Any]:
        if isinstance(node, str):
            raise dialect.invalid(path, node)
        prefix = f"{path}." if path else ""
        values: dict[str, Any] = {}
        for name, nested in node.items():
            if member := members.get(name):
                values[member[0]] = member[1](nested, prefix + name)
            elif dialect.unknown is not None:
                raise dialect.unknown(prefix + name)
        for member_name, name in required:
            if member_name not in values:
                raise dialect.missing(prefix + name)
        return values

    return read


def _list(element: Read, between: str | None, dialect: Dialect) -> Read:
    def read(node: Node, path: str) -> list[Any]:
        if node == "":  # an empty list in the query protocol
            return []
        if between is not None and isinstance(node, dict):
            node, path = node.get(between, ""), f"{path}.{between}"
        if isinstance(node, str):
            raise dialect.invalid(path, node)
        for number in node:
            if not _NUMBER.fullmatch(number):
                raise (dialect.unknown or dialect.missing)(f"{path}.{number}")
        return [element(node[number], f"{path}.{number}") for number in sorted(node, key=int)]

    return read


def _scalar(convert: scalars.Read, dialect: Dialect) -> Read:
    def read(node: Node, path: str) -> Any:  # Any: a value of the shape's type
        if isinstance(node, dict):
            raise (dialect.unknown or dialect.missing)(f"{path}.{next(iter(node))}")
        try:
            return convert(node)
        except ValueError:
            raise dialect.invalid(path, node) from None

    return read
