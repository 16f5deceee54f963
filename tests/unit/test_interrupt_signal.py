"""Tests that send Ctrl-C work however the run of the tests was started."""

import signal
import sys

import pytest

from hyperpod_ebs.kit import command


def test_the_processes_of_a_test_can_be_interrupted() -> None:
    """A process that starts with SIGINT ignored keeps ignoring it (signal(7))."""
    assert signal.getsignal(signal.SIGINT) is not signal.SIG_IGN


@pytest.mark.parametrize("workers", ["0", "1"])
async def test_so_they_can_in_a_run_in_the_background(workers: str) -> None:
    """A shell without job control starts `make test &` with SIGINT ignored (POSIX, Shell Command Language, 2.11)."""
    test = f"{__file__}::test_the_processes_of_a_test_can_be_interrupted"
    argv = [sys.executable, "-m", "pytest", "--numprocesses", workers, test]

    await command.run(["sh", "-c", 'trap "" INT; exec "$@"', "sh", *argv])
