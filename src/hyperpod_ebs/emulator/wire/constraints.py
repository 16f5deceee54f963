"""What the models demand of values, and how the JSON services say that one does not meet it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from botocore.model import Shape

from hyperpod_ebs.emulator.wire.operations import AwsFault
from hyperpod_ebs.emulator.wire.patterns import python_pattern

_SIZED: Final = frozenset({"string", "list", "map", "blob"})
_SINGLE: Final = frozenset({"string", "integer", "long", "float", "double"})


@dataclass(frozen=True, slots=True)
class Constraint:
    """One demand, and AWS's words for it."""

    met_by: Callable[[Any], bool]  # the shape says what it is asked about
    text: str


Check = Callable[[Any, str], Sequence[str]]  # the shape says what it is asked about
"""The violations of a value; the second argument is its name in the messages."""


def constraints(shape: Shape) -> Sequence[Constraint]:
    """What `shape` demands of a value itself, not of its parts."""
    return [*_bounds(shape), *_pattern(shape), *_choice(shape)]


def checker(shape: Shape) -> Check | None:
    """What finds the violations of a value of this shape, None when nothing is demanded of it.

    The elements of lists and maps of single values are judged with their list or map, as
    AWS does; those of structures have checkers of their own.
    """
    demands = [*constraints(shape), *_of_elements(shape)]
    if not demands:
        return None
    show = _shown(shape)

    def check(value: Any, path: str) -> Sequence[str]:  # Any: the shape says which
        return [
            f"Value {show(value)}at '{path}' failed to satisfy constraint: {demand.text}"
            for demand in demands
            if not demand.met_by(value)
        ]

    return check


def missing(path: str) -> str:
    """The violation of a required member that is not there."""
    return f"Value null at '{path}' failed to satisfy constraint: Member must not be null"


def validation_fault(violations: Sequence[str]) -> AwsFault:
    """All violations of a request in one answer."""
    errors = "error" if len(violations) == 1 else "errors"
    return AwsFault(
        "ValidationException", f"{len(violations)} validation {errors} detected: {'; '.join(violations)}", 400
    )


def _bounds(shape: Shape) -> Sequence[Constraint]:
    lowest, highest = shape.metadata.get("min"), shape.metadata.get("max")
    sized = shape.type_name in _SIZED
    measure: Callable[[Any], float] = len if sized else lambda value: value
    what = "length" if sized else "value"
    found = []
    if highest is not None:
        text = f"Member must have {what} less than or equal to {highest}"
        found.append(Constraint(lambda value: measure(value) <= highest, text))
    if lowest is not None:
        text = f"Member must have {what} greater than or equal to {lowest}"
        found.append(Constraint(lambda value: measure(value) >= lowest, text))
    return found


def _pattern(shape: Shape) -> Sequence[Constraint]:
    java = shape.metadata.get("pattern")
    if java is None or (pattern := python_pattern(java)) is None:
        return []
    text = f"Member must satisfy regular expression pattern: {java}"
    return [Constraint(lambda value: pattern.fullmatch(value) is not None, text)]


def _choice(shape: Shape) -> Sequence[Constraint]:
    if not (values := shape.metadata.get("enum")):
        return []
    choice = frozenset(values)
    return [Constraint(choice.__contains__, f"Member must satisfy enum value set: [{', '.join(values)}]")]


def _of_elements(shape: Shape) -> Sequence[Constraint]:
    if shape.type_name == "list":
        return _together("Member", list, shape.member)  # type: ignore[attr-defined] # a list has one
    if shape.type_name == "map":
        keys = _together("Map keys", list, shape.key)  # type: ignore[attr-defined] # a map has one
        values = _together("Map value", lambda value: list(value.values()), shape.value)  # type: ignore[attr-defined] # a map has one
        return [*keys, *values]
    return []


def _together(what: str, parts: Callable[[Any], list[Any]], shape: Shape) -> Sequence[Constraint]:
    demands = constraints(shape) if shape.type_name in _SINGLE else []
    if not demands:
        return []
    text = f"{what} must satisfy constraint: [{', '.join(demand.text for demand in demands)}]"
    return [Constraint(lambda value: all(demand.met_by(part) for part in parts(value) for demand in demands), text)]


def _shown(shape: Shape) -> Callable[[Any], str]:
    """How AWS quotes a refused value; a sensitive one not at all."""
    if shape.metadata.get("sensitive"):
        return lambda _: ""
    return lambda value: f"'{_as_java(value)}' "


def _as_java(value: object) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}={_as_java(below)}" for key, below in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(_as_java, value))}]"
    return str(value)
