"""The constraints of the models, and the errors with which the JSON services report a violation."""

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
    """One constraint, and AWS's text for it."""

    is_met: Callable[[Any], bool]  # takes a value of the shape's type
    text: str


Check = Callable[[Any, str], Sequence[str]]  # takes a value of the shape's type
"""Returns the violations of a value; the second argument is the value's name in the messages."""


def constraints(shape: Shape) -> Sequence[Constraint]:
    """The constraints on a value of this shape itself, not on its elements."""
    return [*_bounds(shape), *_pattern(shape), *_enum(shape)]


def checker(shape: Shape) -> Check | None:
    """A check of values of this shape; None if the shape has no constraints.

    As on AWS, the single values in a list or map are checked together with the list or map. Structures in a list or
    map have their own checks.
    """
    all_constraints = [*constraints(shape), *_element_constraints(shape)]
    if not all_constraints:
        return None
    is_sensitive = bool(shape.metadata.get("sensitive"))

    def check(value: Any, path: str) -> Sequence[str]:  # Any: a value of the shape's type
        quoted = "" if is_sensitive else f"'{_as_java(value)}' "  # AWS does not quote sensitive values
        return [
            f"Value {quoted}at '{path}' failed to satisfy constraint: {constraint.text}"
            for constraint in all_constraints
            if not constraint.is_met(value)
        ]

    return check


def missing(path: str) -> str:
    """The violation of a required member that is absent."""
    return f"Value null at '{path}' failed to satisfy constraint: Member must not be null"


def validation_fault(violations: Sequence[str]) -> AwsFault:
    """The error that reports all violations of a request."""
    errors = "error" if len(violations) == 1 else "errors"
    return AwsFault(
        "ValidationException", f"{len(violations)} validation {errors} detected: {'; '.join(violations)}", 400
    )


def _bounds(shape: Shape) -> Sequence[Constraint]:
    lowest, highest = shape.metadata.get("min"), shape.metadata.get("max")
    sized = shape.type_name in _SIZED
    measure: Callable[[Any], float] = len if sized else lambda value: value
    what = "length" if sized else "value"
    bounds = []
    if highest is not None:
        text = f"Member must have {what} less than or equal to {highest}"
        bounds.append(Constraint(lambda value: measure(value) <= highest, text))
    if lowest is not None:
        text = f"Member must have {what} greater than or equal to {lowest}"
        bounds.append(Constraint(lambda value: measure(value) >= lowest, text))
    return bounds


def _pattern(shape: Shape) -> Sequence[Constraint]:
    java = shape.metadata.get("pattern")
    if java is None or (pattern := python_pattern(java)) is None:
        return []
    text = f"Member must satisfy regular expression pattern: {java}"
    return [Constraint(lambda value: pattern.fullmatch(value) is not None, text)]


def _enum(shape: Shape) -> Sequence[Constraint]:
    if not (values := shape.metadata.get("enum")):
        return []
    return [Constraint(frozenset(values).__contains__, f"Member must satisfy enum value set: [{', '.join(values)}]")]


def _element_constraints(shape: Shape) -> Sequence[Constraint]:
    """The constraints on the single values in a list or map."""
    if shape.type_name == "list":
        return _all_elements("Member", list, shape.member)  # type: ignore[attr-defined] # a list has one
    if shape.type_name == "map":
        keys = _all_elements("Map keys", list, shape.key)  # type: ignore[attr-defined] # a map has one
        values = _all_elements("Map value", lambda value: list(value.values()), shape.value)  # type: ignore[attr-defined] # a map has one
        return [*keys, *values]
    return []


def _all_elements(what: str, elements: Callable[[Any], list[Any]], shape: Shape) -> Sequence[Constraint]:
    """One constraint that all elements meet the constraints of their shape."""
    each = constraints(shape) if shape.type_name in _SINGLE else []
    if not each:
        return []
    text = f"{what} must satisfy constraint: [{', '.join(constraint.text for constraint in each)}]"

    def is_met(value: Any) -> bool:  # Any: a list or map
        return all(constraint.is_met(element) for element in elements(value) for constraint in each)

    return [Constraint(is_met, text)]


def _as_java(value: object) -> str:
    """The value as Java's toString writes it."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}={_as_java(nested)}" for key, nested in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(_as_java, value))}]"
    return str(value)
