"""The mutants of `make mutants`."""

import ast
from pathlib import Path
from typing import Final

import mutations
import pytest

from hyperpod_ebs.driver.model import sizes

MODULE: Final = Path("driver/model/example.py")


def changes(source: str) -> set[str]:
    """The lines that the mutants of a module have in place of its own."""
    return {mutant.after for mutant in mutations.mutants(MODULE, source)}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x = a < b", {"x = (a <= b)"}),
        ("x = a and b", {"x = (a or b)"}),
        ("x = not a", {"x = (a)"}),
        ("x = a // b", {"x = (a * b)"}),
        ("x = 3", {"x = 4"}),
        ("x = True", {"x = False"}),
        ('x = "word"', {"x = 'Xword'"}),
        ("if a.b:\n    x()", {"if (not (a.b)):", "pass"}),
        ("while True:\n    break", {"while False:", "continue"}),
        ("x = a if b() else c", {"x = a if (not (b())) else c"}),
        ("def f():\n    return a", {"return None"}),
        ("raise a", {"pass"}),
    ],
)
def test_a_decision_is_changed_in_one_place(source: str, expected: set[str]) -> None:
    assert changes(source) == expected


@pytest.mark.parametrize(
    "source",
    [
        '"""A docstring."""',
        'log.info("went", code=1)',
        'x = f"{a + 1}"',
        "def f(a: Literal[1]) -> Literal[2]: ...",
        "x = A | B",
    ],
)
def test_what_decides_nothing_is_not_changed(source: str) -> None:
    """A message with another word in it would survive and say nothing about the tests."""
    assert changes(source) == set()


def test_each_mutant_of_a_real_module_is_another_valid_text_with_a_name_of_its_own() -> None:
    source = Path(sizes.__file__).read_text()

    found = list(mutations.mutants(MODULE, source))

    assert found
    assert all(ast.dump(ast.parse(mutant.text)) != ast.dump(ast.parse(source)) for mutant in found)
    assert len({mutant.name for mutant in found}) == len(found)


def test_a_mutant_names_its_function_and_the_lines_of_its_statement() -> None:
    """The tests that run these lines are run on the mutant."""
    [mutant] = mutations.mutants(MODULE, "class A:\n    def f(self):\n        x = (\n            a + b\n        )\n")

    assert (mutant.function, mutant.first, mutant.last) == ("A.f", 3, 5)
