"""A process that starts without stdin, stdout or stderr: work that is done must not fail when it is printed."""

import sys

import pytest

from hyperpod_ebs.kit import command


async def run_closed(words: str, closed: str, *, code: int = 0) -> command.Finished:
    """Run a command without some of its standard streams; it must exit with `code`."""
    script = f'exec "$0" -m hyperpod_ebs.cli {words} {closed}'
    return await command.run(["bash", "-c", script, sys.executable], ok=frozenset({code}))


@pytest.mark.parametrize("closed", [">&-", "<&- >&- 2>&-"])
async def test_a_command_works_when_a_stream_is_closed(closed: str) -> None:
    """POSIX: the next file that such a process opens would get the descriptor, and children would write into it."""
    done = await run_closed("completion bash", closed)

    assert done.err == ""


async def test_the_exit_code_of_wrong_usage_is_the_same_without_stderr() -> None:
    await run_closed("nonsense", "2>&-", code=2)
