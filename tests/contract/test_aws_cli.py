"""The AWS CLI as a client of every operation.

The CLI takes most of a second to start, so a few independent calls run at the same time.
"""

import asyncio
import hashlib
import json
import os
import re
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
from botocore import xform_name

from hyperpod_ebs.emulator.emulator import Emulator
from hyperpod_ebs.emulator.wire.operations import AwsFault
from hyperpod_ebs.kit import command
from tests.support.emulator_clients import Aws
from tests.support.every_iam_operation import IAM_OPERATIONS, call_every_iam_operation, plan_iam_errors
from tests.support.every_operation import (
    OPERATIONS,
    ErrorCase,
    call_every_operation,
    check_every_error,
    error_cases,
    read_called_operations,
)

CLI: Final = Path(__file__).parents[2] / ".tools" / "aws-cli" / "bin" / "aws"

AT_ONCE: Final = 4

SLOW: Final = 300
"""Seconds for about a hundred runs of the CLI on a busy machine."""

REFUSED: Final = 255
"""The CLI's exit code when the service answers an error."""

_ERROR: Final = re.compile(r"An error occurred \((?P<code>[\w.]+)\) when calling the \w+ operation")


@dataclass(frozen=True, slots=True)
class Cli:
    """The AWS CLI with this process's environment."""

    directory: Path
    """Directory for files that hold blobs."""

    semaphore: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))

    async def __call__(self, service: str, operation: str, **members: Any) -> Any:
        """Run the command and return the JSON that it prints; no output is an empty answer."""
        finished = await self._run(service, operation, members, code=0)
        return json.loads(finished.out or "{}")

    async def expect_error(self, service: str, operation: str, **members: Any) -> str:
        """Run the command, which must fail; return the code in its error message."""
        finished = await self._run(service, operation, members, code=REFUSED)
        error = _ERROR.search(finished.err)
        assert error is not None, finished.err
        return error["code"]

    async def _run(self, service: str, operation: str, members: Mapping[str, Any], *, code: int) -> command.Finished:
        words = [service, xform_name(operation, "-"), *flags(members, self.directory), "--output", "json"]
        async with self.semaphore:
            return await command.run([str(CLI), *words], ok=frozenset({code}))


def flags(members: Mapping[str, Any], directory: Path) -> list[str]:
    """A request's members as flags: single values as text, blobs in files in `directory`, the others as JSON."""
    words = []
    for name, value in members.items():
        if name == "MaxCount":  # the CLI has one flag for both counts
            continue
        flag = "--count" if name == "MinCount" else f"--{xform_name(name, '-')}"
        if value is True:
            words.append(flag)
        elif isinstance(value, bytes):
            file = directory / hashlib.sha256(value).hexdigest()
            file.write_bytes(value)
            words += [flag, f"fileb://{file}"]
        else:
            words += [flag, str(value) if isinstance(value, str | int) else json.dumps(value)]
    return words


@pytest.fixture
def cli(emulator: Emulator, tmp_path: Path) -> Generator[Cli]:
    """The CLI with the environment variables that `emulator env` prints, without the user's configuration."""
    if not CLI.exists():
        missing = f"the AWS CLI is missing at {CLI}: scripts/setup.sh aws-cli installs it"
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI must run the AWS CLI, but {missing}", pytrace=False)
        pytest.skip(missing)
    with pytest.MonkeyPatch.context() as patch:
        no_configuration = {
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_MAX_ATTEMPTS": "1",
        }
        for name, value in (emulator.env | no_configuration).items():
            patch.setenv(name, value)
        yield Cli(tmp_path)


@pytest.mark.timeout(SLOW)
async def test_the_cli_gets_an_answer_to_every_operation(cli: Cli, emulator: Emulator) -> None:
    """The AWS CLI parses each answer, and needs no configuration but the output of `emulator env`."""
    await call_every_operation(cli, emulator)

    called = await read_called_operations(emulator.url)
    assert {**called, "iam": IAM_OPERATIONS} == OPERATIONS


@pytest.mark.timeout(SLOW)
async def test_the_cli_gets_an_answer_to_every_operation_of_iam(cli: Cli, emulator: Emulator) -> None:
    """IAM has as many operations as all other services together."""
    await call_every_iam_operation(cli)

    assert (await read_called_operations(emulator.url))["iam"] == IAM_OPERATIONS


@pytest.mark.timeout(SLOW)
async def test_the_cli_gets_an_error_from_every_operation(cli: Cli, emulator: Emulator, aws: Aws) -> None:
    """The AWS CLI parses each protocol's errors."""
    volume, (cluster, (node,)) = await aws.create_volume(), await aws.create_cluster()
    plan_iam_errors(emulator.faults)
    emulator.faults.plan("GetCallerIdentity", AwsFault("ExpiredToken", "The security token is expired", 403))

    await check_every_error(cli, fewer_of_iam(error_cases(volume=volume, cluster=cluster, node=node)))


def fewer_of_iam(cases: Sequence[ErrorCase]) -> Sequence[ErrorCase]:
    """The cases with fewer of IAM: all of IAM's errors have one form, and boto3 gets all of them."""
    unknown = [case for case in cases if (case.service, case.code) == ("iam", "NoSuchEntity")]
    return [case for case in cases if case not in unknown[1:]]
