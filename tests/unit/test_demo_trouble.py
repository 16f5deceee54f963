"""What the demo says when it cannot go on: one sentence, with what to do."""

import errno
import os
import sys
import tempfile
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from hyperpod_ebs.demo import machine
from hyperpod_ebs.demo.screen import Silent
from hyperpod_ebs.demo.steps import Steps
from hyperpod_ebs.demo.suggestions import suggestions
from hyperpod_ebs.kit.files import Unresponsive
from hyperpod_ebs.sandbox.trouble import Broken, Ended, Refused, why


class Case(NamedTuple):
    """An error and its sentence."""

    error: Exception
    sentence: str
    id: str


CASES: Final = [
    Case(Broken("digests differ"), "digests differ", "trouble speaks for itself"),
    Case(Unresponsive("no answer"), "no answer", "so does a dead device"),
    Case(OSError(errno.ENOSPC, "No space left", "/a/b"), "/a/b: No space left", "a file by its name"),
    Case(OSError(errno.EIO, "Input/output error"), "Input/output error", "an error without a file"),
    Case(TimeoutError(), "it did not end within its time", "a time that is up"),
    Case(KeyError("x"), "'x' (KeyError)", "a fault of ours by its kind"),
    Case(ExceptionGroup("", [KeyError("x"), Broken("b")]), "b", "of a group the one that says most"),
    Case(
        ExceptionGroup("", [Refused("r"), ExceptionGroup("", [Ended("the emulator died")])]),
        "the emulator died",
        "a death explains the rest",
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_an_error_becomes_a_sentence(case: Case) -> None:
    """Ours: nobody who runs a demo is shown a traceback."""
    assert why(case.error) == case.sentence


async def test_a_step_that_fails_is_named_and_not_counted_as_done() -> None:
    """Ours: with what was said so far, and a way back to the cause."""
    steps = Steps(Silent())

    with pytest.raises(Refused, match=r"^read: /x: gone$") as raised:
        async with steps.step("read"):
            raise FileNotFoundError(errno.ENOENT, "gone", "/x")

    assert isinstance(raised.value.__cause__, FileNotFoundError)
    assert (steps.now, steps.done) == ("read", [])


async def test_a_step_counts_only_the_calls_of_its_own() -> None:
    """Ours: by operation; none once there is no cloud to ask."""
    counts = {"ec2:DescribeVolumes": 2}

    async def calls() -> dict[str, int]:
        return dict(counts)

    steps = Steps(Silent())
    steps.count(calls)
    async with steps.step("look") as result:
        counts |= {"ec2:DescribeVolumes": 5, "ec2:CreateVolume": 1}
        result("seen")
        result("made")
    async with steps.step("end"):
        steps.count()

    look, end = steps.done
    assert look.calls == {"ec2:DescribeVolumes": 3, "ec2:CreateVolume": 1}
    assert look.result == "seen; made"
    assert end.calls == {}


def test_without_root_it_says_what_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours: one sentence, and it is the first."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    assert list(machine.wants()) == [
        "the demo makes loop devices and mounts filesystems, which takes root: run it with sudo"
    ]


def test_a_directory_whose_path_is_too_long_for_sockets_is_refused_beforehand(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """unix(7): a socket's path has at most 107 bytes."""
    deep = tmp_path / ("d" * 60)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    monkeypatch.setattr(os, "geteuid", lambda: 0)

    assert any("name a shorter one with TMPDIR" in want for want in machine.wants())


def test_suggestions_name_programs_by_what_finds_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Ours: what can be typed works, from the repository without its environment, and without an AWS CLI."""
    ours = Path(sys.executable).with_name("hyperpod-ebs")
    monkeypatch.chdir(tmp_path)

    monkeypatch.setenv("PATH", str(tmp_path))
    away = suggestions()
    monkeypatch.chdir(ours.parent.parent.parent)
    monkeypatch.setenv("PATH", str(ours.parent))
    near = suggestions()

    assert [command.split()[0] for _, command in away][::2] == [str(ours)] * 2
    assert "emulator status" in away[1][1]
    assert [command.split()[0] for _, command in near][::2] == ["hyperpod-ebs"] * 2
