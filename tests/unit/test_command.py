"""Other programs are run with a deadline, and their failures are errors with the program's own words."""

import os
import select
import sys
from pathlib import Path

import pytest
import uvloop

from hyperpod_ebs.kit import command, files


async def test_a_program_with_an_expected_exit_code_returns_its_output() -> None:
    done = await command.run(["sh", "-c", "cat; echo aside >&2; exit 2"], ok=frozenset({0, 2}), stdin=b"hello")

    assert done == command.Finished(code=2, out="hello", err="aside\n")


async def test_an_unexpected_exit_code_is_an_error_with_the_programs_own_words() -> None:
    with pytest.raises(command.CommandFailed) as caught:
        await command.run(["sh", "-c", "echo no such device >&2; exit 3"])

    assert str(caught.value) == "sh exited with 3: no such device"
    assert (caught.value.code, caught.value.argv[0]) == (3, "sh")


async def test_the_error_of_a_program_with_much_output_quotes_its_head_and_its_tail() -> None:
    """mkfs.xfs gives its reason first and then its usage; other programs give the reason last."""
    with pytest.raises(command.CommandFailed) as caught:
        await command.run(["sh", "-c", "echo no such size >&2; seq 9000 >&2; echo try again >&2; exit 1"])

    assert str(caught.value).startswith("sh exited with 1: no such size\n1\n2\n")
    assert str(caught.value).endswith("\n9000\ntry again")
    assert len(str(caught.value)) < 450


async def test_the_error_for_a_missing_program_names_it() -> None:
    with pytest.raises(command.CommandFailed, match="no-such-program could not be started") as caught:
        await command.run(["no-such-program"])

    assert caught.value.code is None


async def test_arguments_are_not_interpreted_by_a_shell() -> None:
    done = await command.run(["echo", "$HOME; rm -rf x"])

    assert done.out == "$HOME; rm -rf x\n"


async def test_programs_print_their_messages_in_english(monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver searches the messages of mount(8) and umount(8) for words like "busy"."""
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")

    done = await command.run(["sh", "-c", "echo $LC_ALL"])

    assert done.out == "C\n"


async def test_a_program_that_runs_past_its_deadline_is_killed_with_its_children(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)

    try:
        with pytest.raises(command.CommandTimedOut, match="did not end within 1 s"):
            await command.run(["sh", "-c", f"sleep 60 > {pipe} & wait"], deadline=1)

        # The pipe ends when the last process that has it open for writing is gone.
        ended, _, _ = await files.off_loop(select.select, [reader], [], [], 5)
        assert ended
        assert os.read(reader, 1) == b""
    finally:
        os.close(reader)


def test_a_program_that_ends_at_once_succeeds_under_uvloop() -> None:
    """The emulator runs on uvloop, which fails to write to a pipe whose reader has already ended."""

    async def run() -> list[int]:
        return [(await command.run(["true"])).code for _ in range(20)]

    assert uvloop.run(run()) == [0] * 20


async def test_a_program_has_a_session_of_its_own() -> None:
    """A Ctrl-C in the driver's terminal must not stop an mkfs half-way."""
    done = await command.run([sys.executable, "-c", "import os; print(os.getsid(0))"])

    assert int(done.out) != os.getsid(0)
