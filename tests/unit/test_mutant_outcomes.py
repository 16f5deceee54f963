"""When `make mutants` fails."""

import outcomes
from outcomes import Outcome

KILLED = {f"killed {number}": Outcome.KILLED for number in range(19)}


def test_listed_survivors_pass_while_95_percent_are_killed() -> None:
    """CONTRIBUTING.md: equivalent mutants do not count, and accepted ones do."""
    one = KILLED | {"a": Outcome.SURVIVED, "same": Outcome.SURVIVED, "elsewhere": Outcome.NOT_RUN}
    two = one | {"b": Outcome.SURVIVED}
    listed = {"a": "accepted", "b": "accepted", "same": "equivalent"}

    assert outcomes.mistakes(one, listed) == []
    assert outcomes.mistakes(two, listed) == ["fewer than 95 % killed"]
    assert outcomes.figure(one, listed).startswith("19 of 20 mutants killed (95.0 %)")


def test_a_survivor_that_is_not_listed_and_a_listed_one_that_is_killed_fail_the_run() -> None:
    found = KILLED | {"new": Outcome.SURVIVED}

    [new, stale] = outcomes.mistakes(found, {"killed 3": "accepted"})

    assert new.endswith(": new")
    assert stale.endswith(": killed 3")
