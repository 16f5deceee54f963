"""Writer of answers as JSON documents (protocols json and rest-json)."""

from collections.abc import Callable, Mapping
from typing import Any

from botocore.model import ListShape, MapShape, Shape, StructureShape

from hyperpod_ebs.emulator.wire import scalars
from hyperpod_ebs.emulator.wire.operations import UnknownMember

Convert = Callable[[Any], Any]  # takes a value of the shape's type, returns JSON
"""Converts a value to JSON."""


def structure_converter(shape: StructureShape) -> Convert:
    """A converter of answers of this shape to JSON objects."""
    return _Compiler().structure(shape)


class _Compiler:
    """Compiles converters for the shapes of one operation, each structure once."""

    def __init__(self) -> None:
        self._structures: dict[str, Convert] = {}

    def structure(self, shape: StructureShape) -> Convert:
        if shape.name in self._structures:
            return self._structures[shape.name]
        members: dict[str, tuple[str, Convert]] = {}
        # Registered before its members are compiled, because a shape may contain itself.
        convert = self._structures[shape.name] = _structure(shape.name, members)
        for name, member in shape.members.items():
            members[name] = (member.serialization.get("name", name), self._converter(member))
        return convert

    def _converter(self, shape: Shape) -> Convert:
        if isinstance(shape, StructureShape):
            return self.structure(shape)
        if isinstance(shape, ListShape):
            element = self._converter(shape.member)
            return lambda value: [element(nested) for nested in value]
        if isinstance(shape, MapShape):
            element = self._converter(shape.value)
            return lambda value: {key: element(nested) for key, nested in value.items()}
        return _SCALARS[shape.type_name]


def _structure(shape_name: str, members: Mapping[str, tuple[str, Convert]]) -> Convert:
    def convert(value: Mapping[str, Any]) -> dict[str, Any]:
        converted = {}
        for name, nested in value.items():
            if nested is None:
                continue
            if (member := members.get(name)) is None:
                raise UnknownMember(f"{shape_name} has no member {name}")
            converted[member[0]] = member[1](nested)
        return converted

    return convert


def _type_check(*kinds: type) -> Convert:
    def check(value: Any) -> Any:  # Any: JSON
        if type(value) not in kinds:
            raise TypeError(f"{value!r} is not of type {' or '.join(kind.__name__ for kind in kinds)}")
        return value

    return check


def _string(value: Any) -> str:  # Any: a handler may answer another type
    if not isinstance(value, str):  # accepts members of string enums too
        raise TypeError(f"{value!r} is not of type str")
    return str.__str__(value)


_SCALARS: Mapping[str, Convert] = {
    "string": _string,
    "character": _string,
    "integer": _type_check(int),
    "long": _type_check(int),
    "float": _type_check(float, int),
    "double": _type_check(float, int),
    "boolean": _type_check(bool),
    "timestamp": scalars.epoch,
    "blob": scalars.base64_text,
}
