"""What a run of mutants says about the tests."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

FLOOR: Final = 95.0
"""Percent of the mutants, without equivalent ones, that the tests have to kill."""


class Outcome(StrEnum):
    """What the tests made of a mutant."""

    KILLED = "killed"
    SURVIVED = "survived"
    NOT_RUN = "not run"
    """No test without root runs its lines: `make coverage` sees these, with a floor for each package."""


Outcomes = Mapping[str, Outcome]
"""The outcome of each mutant, by its name."""

Listed = Mapping[str, str]
"""The kind of each known survivor, by its name: equivalent or accepted."""


def figure(outcomes: Outcomes, listed: Listed) -> str:
    """How many mutants were killed."""
    killed, total = _counts(outcomes, listed)
    not_run = sum(outcome is Outcome.NOT_RUN for outcome in outcomes.values())
    return (
        f"{killed} of {total} mutants killed ({_percent(killed, total):.1f} %), without equivalent ones; "
        f"{not_run} more are on lines that only tests with root run"
    )


def mistakes(outcomes: Outcomes, listed: Listed) -> list[str]:
    """What fails the run: too few killed mutants, or other survivors than the listed ones."""
    killed, total = _counts(outcomes, listed)
    new = [name for name, outcome in outcomes.items() if outcome is Outcome.SURVIVED and name not in listed]
    stale = [name for name, outcome in outcomes.items() if outcome is Outcome.KILLED and name in listed]
    return [
        *([f"fewer than {FLOOR:g} % killed"] if _percent(killed, total) < FLOOR else []),
        *(f"write a test, or add it to survivors.toml with a reason: {name}" for name in sorted(new)),
        *(f"is killed; remove it from survivors.toml: {name}" for name in sorted(stale)),
    ]


def _counts(outcomes: Outcomes, listed: Listed) -> tuple[int, int]:
    """The number of killed mutants, and of all that are not equivalent and that tests run."""
    killed = sum(outcome is Outcome.KILLED for outcome in outcomes.values())
    survivors = [name for name, outcome in outcomes.items() if outcome is Outcome.SURVIVED]
    return killed, killed + sum(listed.get(name) != "equivalent" for name in survivors)


def _percent(killed: int, total: int) -> float:
    return 100 * killed / total if total else 100.0
