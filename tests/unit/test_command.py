"""The door to other programs."""

import os
import select
import sys
from pathlib import Path

import pytest
import uvloop

from hyperpod_ebs.kit import command, files


async def test_what_a_program_says_and_its_code_come_back() -> None:
    """Ours: an expected code is an answer, not a failure."""
    done = await command.run(["sh", "-c", "cat; echo aside >&2; exit 2"], ok=frozenset({0, 2}), stdin=b"hello")

    assert done == command.Finished(code=2, out="hello", err="aside\n")


async def test_another_code_is_a_failure_with_what_the_program_said() -> None:
    """Ours: an operator sees mkfs's own words."""
    with pytest.raises(command.CommandFailed) as caught:
        await command.run(["sh", "-c", "echo no such device >&2; exit 3"])

    assert str(caught.value) == "sh exited with 3: no such device"
    assert (caught.value.code, caught.value.argv[0]) == (3, "sh")


async def test_a_missing_program_is_a_failure_that_names_it() -> None:
    """Ours."""
    with pytest.raises(command.CommandFailed, match="no-such-program could not be started") as caught:
        await command.run(["no-such-program"])

    assert caught.value.code is None


async def test_arguments_are_never_a_shells() -> None:
    """Ours."""
    done = await command.run(["echo", "$HOME; rm -rf x"])

    assert done.out == "$HOME; rm -rf x\n"


async def test_programs_speak_english(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours: what they say is compared."""
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")

    done = await command.run(["sh", "-c", "echo $LC_ALL"])

    assert done.out == "C\n"


async def test_a_program_that_overruns_is_killed_with_its_children(tmp_path: Path) -> None:
    """Ours: nothing outlives its deadline."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)

    try:
        with pytest.raises(command.CommandTimedOut, match="did not end within 1 s"):
            await command.run(["sh", "-c", f"sleep 60 > {pipe} & wait"], deadline=1)

        # The pipe ends when the last of those who hold it for writing is gone.
        ended, _, _ = await files.off_loop(select.select, [reader], [], [], 5)
        assert ended
        assert os.read(reader, 1) == b""
    finally:
        os.close(reader)


def test_a_program_that_ends_at_once_is_no_failure_under_uvloop() -> None:
    """Ours: uvloop, which the emulator runs on, fails to write to a pipe whose reader has ended."""

    async def run() -> list[int]:
        return [(await command.run(["true"])).code for _ in range(20)]

    assert uvloop.run(run()) == [0] * 20


async def test_a_program_has_a_session_of_its_own() -> None:
    """Ours: a Ctrl-C that is meant for us does not stop an mkfs half-way."""
    done = await command.run([sys.executable, "-c", "import os; print(os.getsid(0))"])

    assert int(done.out) != os.getsid(0)
