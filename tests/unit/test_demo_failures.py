"""What the demo prints when it fails: one sentence, with what to do."""

import errno
import os
import sys
import tempfile
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from hyperpod_ebs.demo import prerequisites
from hyperpod_ebs.demo.screen import SilentScreen
from hyperpod_ebs.demo.steps import Steps
from hyperpod_ebs.demo.suggestions import suggestions
from hyperpod_ebs.kit.files import Unresponsive
from hyperpod_ebs.sandbox.failures import DataMismatch, ProcessEnded, StepFailed, explanation


class Case(NamedTuple):
    """An error and its explanation."""

    error: Exception
    explanation: str
    id: str


CASES: Final = [
    Case(DataMismatch("digests differ"), "digests differ", "a failure has its own message"),
    Case(Unresponsive("no answer"), "no answer", "so has a device that does not answer"),
    Case(OSError(errno.ENOSPC, "No space left", "/a/b"), "/a/b: No space left", "an error about a file has its name"),
    Case(OSError(errno.EIO, "Input/output error"), "Input/output error", "an error without a file"),
    Case(TimeoutError(), "the operation timed out", "a timeout"),
    Case(KeyError("x"), "'x' (KeyError)", "a programming error has its class"),
    Case(ExceptionGroup("", [KeyError("x"), DataMismatch("b")]), "b", "the error of a group that explains most"),
    Case(
        ExceptionGroup("", [StepFailed("r"), ExceptionGroup("", [ProcessEnded("the emulator died")])]),
        "the emulator died",
        "the exit of a process explains other errors",
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_an_error_becomes_a_sentence(case: Case) -> None:
    """Users of the demo see no traceback."""
    assert explanation(case.error) == case.explanation


async def test_a_failed_step_is_named_and_not_counted_as_done() -> None:
    """The failure keeps the original error as its cause."""
    steps = Steps(SilentScreen())

    with pytest.raises(StepFailed, match=r"^read: /x: gone$") as raised:
        async with steps.step("read"):
            raise FileNotFoundError(errno.ENOENT, "gone", "/x")

    assert isinstance(raised.value.__cause__, FileNotFoundError)
    assert (steps.current, steps.finished) == ("read", [])


async def test_a_step_counts_only_its_own_calls() -> None:
    """The counts are by operation; after the emulator has stopped, there are none."""
    counts = {"ec2:DescribeVolumes": 2}

    async def call_counts() -> dict[str, int]:
        return dict(counts)

    steps = Steps(SilentScreen())
    steps.count_calls(call_counts)
    async with steps.step("look") as result:
        counts |= {"ec2:DescribeVolumes": 5, "ec2:CreateVolume": 1}
        result("seen")
        result("made")
    async with steps.step("end"):
        steps.count_calls()

    look, end = steps.finished
    assert look.calls == {"ec2:DescribeVolumes": 3, "ec2:CreateVolume": 1}
    assert look.result == "seen; made"
    assert end.calls == {}


def test_without_root_the_only_message_says_why_root_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other checks need root themselves."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    assert list(prerequisites.problems()) == [
        "the demo needs root to create loop devices and mount filesystems; run it with sudo"
    ]


def test_a_directory_whose_path_is_too_long_for_sockets_is_rejected_at_the_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """unix(7): a socket's path has at most 107 bytes."""
    deep = tmp_path / ("d" * 60)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    monkeypatch.setattr(os, "geteuid", lambda: 0)

    assert any("set TMPDIR to a shorter path" in problem for problem in prerequisites.problems())


def test_suggested_commands_work_in_the_users_directory_and_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In the repository without its virtual environment on PATH, and without an AWS CLI."""
    program = Path(sys.executable).with_name("hyperpod-ebs")
    monkeypatch.chdir(tmp_path)

    monkeypatch.setenv("PATH", str(tmp_path))
    away = suggestions()
    monkeypatch.chdir(program.parent.parent.parent)
    monkeypatch.setenv("PATH", str(program.parent))
    near = suggestions()

    assert [command.split()[0] for _, command in away][::2] == [str(program)] * 2
    assert "emulator status" in away[1][1]
    assert [command.split()[0] for _, command in near][::2] == ["hyperpod-ebs"] * 2
