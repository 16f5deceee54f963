"""Checks of a request's members after parsing: the constraints of the model, for the query protocol.

EC2 has constraints of its own, and the JSON protocols check while they parse.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from botocore.model import ListShape, MapShape, Shape, StructureShape

from hyperpod_ebs.emulator.wire import constraints

MAX_VIOLATIONS: Final = 100
"""Violations after which the remaining members are not checked."""

Check = Callable[[Any, str, list[str]], None]  # takes a value of the shape's type
"""Adds the violations of a value to the list; the second argument is the value's name in errors."""


def members_check(shape: StructureShape) -> Callable[[Mapping[str, Any]], Sequence[str]]:
    """A function that returns the violations in the members of a structure of this shape."""
    check = _Compiler().structure(shape)

    def violations(members: Mapping[str, Any]) -> Sequence[str]:
        collected: list[str] = []
        check(members, "", collected)
        return collected

    return violations


class _Compiler:
    """Compiles checks for the shapes of one operation, each structure once."""

    def __init__(self) -> None:
        self._structures: dict[str, Check] = {}

    def structure(self, shape: StructureShape) -> Check:
        if shape.name in self._structures:
            return self._structures[shape.name]
        members: dict[str, tuple[str, Check]] = {}

        def check(value: Any, path: str, violations: list[str]) -> None:
            prefix = f"{path}." if path else ""
            for name, nested in value.items():
                if len(violations) < MAX_VIOLATIONS:
                    label, check_member = members[name]
                    check_member(nested, prefix + label, violations)

        self._structures[shape.name] = check  # before its members, because a shape may contain itself
        for name, member in shape.members.items():
            members[name] = (name[:1].lower() + name[1:], self._member(member))
        return check

    def _member(self, shape: Shape) -> Check:
        check_itself, check_elements = constraints.checker(shape), self._elements(shape)

        def check(value: Any, path: str, violations: list[str]) -> None:
            if check_itself:
                violations.extend(check_itself(value, path))
            if check_elements:
                check_elements(value, path, violations)

        return check

    def _elements(self, shape: Shape) -> Check | None:
        """A check of the structures, lists and maps in a value; single values are checked with their list or map."""
        if isinstance(shape, StructureShape):
            return self.structure(shape)
        if isinstance(shape, ListShape) and isinstance(shape.member, StructureShape | ListShape | MapShape):
            check_element = self._member(shape.member)

            def check(value: Any, path: str, violations: list[str]) -> None:
                for number, nested in enumerate(value, 1):
                    if len(violations) < MAX_VIOLATIONS:
                        check_element(nested, f"{path}.{number}.member", violations)

            return check
        return None
