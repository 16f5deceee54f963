"""The AWS CLI, as a user types it, as a client of every operation.

It starts in most of a second, so independent calls run at the same time, a few at once.
"""

import asyncio
import json
import os
import re
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
from botocore import xform_name

from hyperpod_ebs.emulator.emulator import Emulator
from hyperpod_ebs.emulator.wire.operations import AwsFault
from hyperpod_ebs.kit import command
from tests.support.emulator_clients import Aws
from tests.support.every_operation import (
    OPERATIONS,
    call_every_operation,
    check_every_error,
    error_cases,
    read_called_operations,
)

CLI: Final = Path(__file__).parents[2] / ".tools" / "aws-cli" / "bin" / "aws"

AT_ONCE: Final = 4

REFUSED: Final = 255
"""The CLI's exit code when the service answers an error."""

_ERROR: Final = re.compile(r"An error occurred \((?P<code>[\w.]+)\) when calling the \w+ operation")


@dataclass(frozen=True, slots=True)
class Cli:
    """The AWS CLI in this process's environment."""

    turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))

    async def __call__(self, service: str, operation: str, **members: Any) -> Any:
        """The JSON that it prints; nothing is an empty answer."""
        finished = await self._typed(service, operation, members, code=0)
        return json.loads(finished.out or "{}")

    async def expect_error(self, service: str, operation: str, **members: Any) -> str:
        """The code in its error message."""
        finished = await self._typed(service, operation, members, code=REFUSED)
        error = _ERROR.search(finished.err)
        assert error is not None, finished.err
        return error["code"]

    async def _typed(self, service: str, operation: str, members: Mapping[str, Any], *, code: int) -> command.Finished:
        words = [service, xform_name(operation, "-"), *flags(members), "--output", "json"]
        async with self.turns:
            return await command.run([str(CLI), *words], ok=frozenset({code}))


def flags(members: Mapping[str, Any]) -> list[str]:
    """A request's members as flags: single values as they are, the rest as JSON."""
    words = []
    for name, value in members.items():
        if name == "MaxCount":  # the CLI has one flag for both counts
            continue
        flag = "--count" if name == "MinCount" else f"--{xform_name(name, '-')}"
        if value is True:
            words.append(flag)
        else:
            words += [flag, str(value) if isinstance(value, str | int) else json.dumps(value)]
    return words


@pytest.fixture
def cli(emulator: Emulator) -> Generator[Cli]:
    """The CLI with what `emulator env` prints in its environment, and no configuration of the user's."""
    if not CLI.exists():
        want = f"there is no AWS CLI at {CLI}: scripts/setup.sh aws-cli makes it"
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI has to run the AWS CLI, but {want}", pytrace=False)
        pytest.skip(want)
    with pytest.MonkeyPatch.context() as patch:
        nothing = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull, "AWS_MAX_ATTEMPTS": "1"}
        for name, value in (emulator.env | nothing).items():
            patch.setenv(name, value)
        yield Cli()


async def test_the_cli_gets_an_answer_to_every_operation(cli: Cli, emulator: Emulator) -> None:
    """AWS: its CLI takes each answer, with nothing in its environment but what `emulator env` prints."""
    await call_every_operation(cli)

    assert await read_called_operations(emulator.url) == OPERATIONS


async def test_the_cli_is_refused_by_every_operation(cli: Cli, emulator: Emulator, aws: Aws) -> None:
    """AWS: its CLI tells each refusal's code."""
    volume, (cluster, (node,)) = await aws.create_volume(), await aws.create_cluster()
    emulator.faults.plan("GetCallerIdentity", AwsFault("ExpiredToken", "The security token is expired", 403))

    await check_every_error(cli, error_cases(volume=volume, cluster=cluster, node=node))
