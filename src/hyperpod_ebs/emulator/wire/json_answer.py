"""Answers as JSON documents (protocols json and rest-json)."""

from collections.abc import Callable, Mapping
from typing import Any

from botocore.model import ListShape, MapShape, Shape, StructureShape

from hyperpod_ebs.emulator.wire import scalars
from hyperpod_ebs.emulator.wire.operations import UnknownMember

Plain = Callable[[Any], Any]  # the shape says what goes in; JSON comes out
"""Makes JSON of a value."""


def structure_plain(shape: StructureShape) -> Plain:
    """What makes a JSON object of an answer of this shape."""
    return _Compiler().structure(shape)


class _Compiler:
    """Writers of the shapes of one operation, each structure compiled once."""

    def __init__(self) -> None:
        self._structures: dict[str, Plain] = {}

    def structure(self, shape: StructureShape) -> Plain:
        if shape.name in self._structures:
            return self._structures[shape.name]
        members: dict[str, tuple[str, Plain]] = {}
        # Known before its members are: a shape may hold itself.
        plain = self._structures[shape.name] = _structure(shape.name, members)
        for name, member in shape.members.items():
            members[name] = (member.serialization.get("name", name), self._plain(member))
        return plain

    def _plain(self, shape: Shape) -> Plain:
        if isinstance(shape, StructureShape):
            return self.structure(shape)
        if isinstance(shape, ListShape):
            element = self._plain(shape.member)
            return lambda value: [element(below) for below in value]
        if isinstance(shape, MapShape):
            element = self._plain(shape.value)
            return lambda value: {key: element(below) for key, below in value.items()}
        return _SCALARS[shape.type_name]


def _structure(shape_name: str, members: Mapping[str, tuple[str, Plain]]) -> Plain:
    def plain(value: Mapping[str, Any]) -> dict[str, Any]:
        found = {}
        for name, below in value.items():
            if below is None:
                continue
            if (member := members.get(name)) is None:
                raise UnknownMember(f"{shape_name} has no member {name}")
            found[member[0]] = member[1](below)
        return found

    return plain


def _typed(*kinds: type) -> Plain:
    def plain(value: Any) -> Any:  # Any: JSON
        if type(value) not in kinds:
            raise TypeError(f"{value!r} is not of type {' or '.join(kind.__name__ for kind in kinds)}")
        return value

    return plain


def _string(value: Any) -> str:  # Any: a handler may slip
    if not isinstance(value, str):  # an enum's member is a string too
        raise TypeError(f"{value!r} is not of type str")
    return str.__str__(value)


_SCALARS: Mapping[str, Plain] = {
    "string": _string,
    "character": _string,
    "integer": _typed(int),
    "long": _typed(int),
    "float": _typed(float, int),
    "double": _typed(float, int),
    "boolean": _typed(bool),
    "timestamp": scalars.epoch,
    "blob": scalars.base64_text,
}
