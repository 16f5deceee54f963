"""A plugin of pytest: it writes each test's name into the coverage data, and runs only the tests of a list."""

import json
import os
from collections.abc import Generator
from pathlib import Path

import coverage
import pytest

SELECTION = "MUTANTS_SELECTION"
"""The variable with the path of a JSON list: the tests to run, in this order."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Let coverage note which test runs which lines."""
    if measured := coverage.Coverage.current():
        measured.switch_context(item.nodeid)
    return (yield)


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[object]) -> bool | None:
    """Let coverage take its own lock, which blocks the event loop for a moment."""
    if fixturedef.argname != "no_blocking_calls" or coverage.Coverage.current() is None:
        return None
    fixturedef.cached_result = (None, None, None)
    return True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep only the tests of the list."""
    if path := os.environ.get(SELECTION):
        rank = {name: index for index, name in enumerate(json.loads(Path(path).read_text()))}
        items[:] = sorted((item for item in items if item.nodeid in rank), key=lambda item: rank[item.nodeid])
