"""Parser of JSON requests, with checks of the model's constraints."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from botocore.model import ListShape, MapShape, Shape, StructureShape

from hyperpod_ebs.emulator.wire import constraints, scalars
from hyperpod_ebs.emulator.wire.operations import AwsFault

MAX_VIOLATIONS: Final = 100
"""Violations after which the rest of a list or map is not read; an error with all of them could be 100 times as long as
the request."""

Read = Callable[[Any, str, list[str]], Any]  # takes JSON, returns a value of the shape's type
"""Reads a value; the second argument is the value's name in errors, the third collects violations."""


def document(body: bytes) -> dict[str, Any]:
    """The JSON object in `body`; an empty body is an empty object.

    Raises:
        AwsFault: The body is not a JSON object.
    """
    try:
        value = json.loads(body or b"{}")
    except (ValueError, RecursionError) as error:
        raise AwsFault("SerializationException", "Could not parse request body into json", 400) from error
    return _object(value)


def members_reader(shape: StructureShape) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """A reader of JSON objects of this shape; it ignores unknown members.

    The reader raises `AwsFault` for the first value of a wrong type, or else for all violated constraints.
    """
    read = _Compiler().structure(shape)

    def members(value: dict[str, Any]) -> dict[str, Any]:
        violations: list[str] = []
        values: dict[str, Any] = read(value, "", violations)
        if violations:
            raise constraints.validation_fault(violations)
        return values

    return members


@dataclass(frozen=True, slots=True)
class _Member:
    name: str
    path: str
    read: Read


class _Compiler:
    """Compiles readers for the shapes of one operation, each structure once."""

    def __init__(self) -> None:
        self._structures: dict[str, Read] = {}

    def structure(self, shape: StructureShape) -> Read:
        if shape.name in self._structures:
            return self._structures[shape.name]
        members: dict[str, _Member] = {}
        # Registered before its members are compiled, because a shape may contain itself.
        read = self._structures[shape.name] = _structure(members, list(shape.required_members))
        for name, member in shape.members.items():
            wire_name = member.serialization.get("name", name)
            members[wire_name] = _Member(name, _path_name(name), self._checking_reader(member))
        return read

    def _checking_reader(self, shape: Shape) -> Read:
        read = self._reader(shape)
        check = constraints.checker(shape)
        if check is None:
            return read

        def read_and_check(value: Any, path: str, violations: list[str]) -> Any:  # Any: a value of the shape's type
            member = read(value, path, violations)
            violations.extend(check(member, path))
            return member

        return read_and_check

    def _reader(self, shape: Shape) -> Read:
        if isinstance(shape, StructureShape):
            return self.structure(shape)
        if isinstance(shape, ListShape):
            return _list(self._element_reader(shape.member))
        if isinstance(shape, MapShape):
            return _map(self._element_reader(shape.value))
        return _SCALARS[shape.type_name]

    def _element_reader(self, shape: Shape) -> Read:
        """The reader of an element; single values are checked with their list or map."""
        is_single = not isinstance(shape, StructureShape | ListShape | MapShape)
        return self._reader(shape) if is_single else self._checking_reader(shape)


def _path_name(member: str) -> str:
    """A member's name in errors."""
    return member[:1].lower() + member[1:]


def _structure(members: Mapping[str, _Member], required: list[str]) -> Read:
    def read(value: Any, path: str, violations: list[str]) -> dict[str, Any]:  # Any: JSON
        prefix = f"{path}." if path else ""
        values: dict[str, Any] = {}
        for name, nested in _object(value).items():
            if nested is not None and (member := members.get(name)):
                values[member.name] = member.read(nested, prefix + member.path, violations)
        violations.extend(constraints.missing(prefix + _path_name(name)) for name in required if name not in values)
        return values

    return read


def _list(element: Read) -> Read:
    def read(value: Any, path: str, violations: list[str]) -> list[Any]:  # Any: JSON
        if not isinstance(value, list):
            raise _mismatch(value, "a list")
        return [
            element(nested, f"{path}.{number}.member", violations)
            for number, nested in enumerate(value, 1)
            if len(violations) < MAX_VIOLATIONS
        ]

    return read


def _map(element: Read) -> Read:
    def read(value: Any, path: str, violations: list[str]) -> dict[str, Any]:  # Any: JSON
        return {
            key: element(nested, f"{path}.{key}.member", violations)
            for key, nested in _object(value).items()
            if len(violations) < MAX_VIOLATIONS
        }

    return read


def _object(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _mismatch(value, "a structure or map")
    return value


def _single(kinds: type | tuple[type, ...], what: str) -> Read:
    def read(value: Any, path: str, violations: list[str]) -> Any:  # noqa: ARG001 - Any: JSON; constraints are checked by the list, map or structure
        if not isinstance(value, kinds) or (isinstance(value, bool) and kinds is not bool):
            raise _mismatch(value, what)
        return value

    return read


def _time(value: Any, path: str, violations: list[str]) -> datetime:  # noqa: ARG001 - Any: JSON; constraints are checked by the list, map or structure
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _mismatch(value, "a timestamp")
    try:
        return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise _mismatch(value, "a timestamp") from error


def _blob(value: Any, path: str, violations: list[str]) -> bytes:  # noqa: ARG001 - Any: JSON; constraints are checked by the list, map or structure
    try:
        return scalars.blob_of(value)
    except (ValueError, TypeError) as error:
        raise _mismatch(value, "a blob") from error


_WHOLE: Final = _single(int, "an integer")
_NUMBER: Final = _single((int, float), "a number")
_SCALARS: Final[Mapping[str, Read]] = {
    "string": _single(str, "a string"),
    "character": _single(str, "a string"),
    "integer": _WHOLE,
    "long": _WHOLE,
    "float": _NUMBER,
    "double": _NUMBER,
    "boolean": _single(bool, "a boolean"),
    "timestamp": _time,
    "blob": _blob,
}
_JSON_TYPES: Final = {
    dict: "STRUCTURE_VALUE",
    list: "LIST_VALUE",
    str: "STRING_VALUE",
    bool: "BOOLEAN_VALUE",
    int: "NUMBER_VALUE",
    float: "NUMBER_VALUE",
    type(None): "NULL_VALUE",
}


def _mismatch(value: object, wanted: str) -> AwsFault:
    return AwsFault("SerializationException", f"{_JSON_TYPES[type(value)]} cannot be converted to {wanted}", 400)
