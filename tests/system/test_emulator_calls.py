"""The command `emulator calls`: who called what, and why the call was allowed or denied."""

import asyncio
import json
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.callers import Caller
from tests.support.emulator_clients import cloud
from tests.support.emulator_commands import EMULATOR, run_emulator
from tests.support.iam_users import allow

pytestmark = pytest.mark.root

VOLUME = "vol-0123456789abcdef0"
BLUE = {"StringEquals": {"ec2:VolumeType": "gp2"}}


@asynccontextmanager
async def follow(state: Path, *words: str) -> AsyncGenerator[asyncio.subprocess.Process]:
    """Run the command with --follow; the block must end it."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *EMULATOR, "calls", "--state", str(state), "--follow", *words, stdout=pipe, stderr=pipe
    )
    try:
        async with asyncio.timeout(30):
            yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def next_line(process: asyncio.subprocess.Process) -> str:
    """The next line that the command prints."""
    assert process.stdout is not None
    return (await process.stdout.readline()).decode()


async def next_call(process: asyncio.subprocess.Process) -> dict[str, Any]:
    """The next call that the command prints as JSON."""
    call: dict[str, Any] = json.loads(await next_line(process))
    return call


async def test_calls_shows_who_called_what_and_the_statement_that_decided(short_path: Path) -> None:
    """A denied call stands out, and says what was missing."""
    state = short_path / "state"
    async with cloud(state) as (emulator, aws):
        volume = await aws.create_volume()
        caller = await Caller.create(emulator, "bob")
        caller.allow([allow("ec2:DeleteVolume", Sid="OnlyGp2", Condition=BLUE)])
        await caller.aws.expect_error("ec2", "delete_volume", VolumeId=volume)
        await aws("sts", "get_caller_identity")

        table = (await run_emulator("calls", "--state", str(state))).out.splitlines()
        shown = await run_emulator("calls", "--state", str(state), "--count", "2", "--output", "json")

    denied, identity = map(json.loads, shown.out.splitlines())
    (line,) = [line for line in table if "DENIED" in line]
    assert denied["request_id"] in line
    assert all(word in line for word in ("UnauthorizedOperation", "ec2:DeleteVolume", "user/bob", " ms "))
    assert any(
        "denied ec2:DeleteVolume on arn:aws:ec2:" in line
        and "nearest is statement OnlyGp2 of the identity-based policy own" in line
        and "StringEquals ec2:VolumeType wants gp2: the request has gp3" in line
        for line in table
    )
    assert any(
        "allowed ec2:CreateVolume on" in line and "by statement 1 of the identity-based policy" in line
        for line in table
    )
    assert (denied["caller"], denied["denied"]) == ("arn:aws:iam::123456789012:user/bob", True)
    assert (identity["operation"], identity["denied"]) == ("sts:GetCallerIdentity", False)


async def test_the_table_shows_no_control_characters_of_a_caller(short_path: Path) -> None:
    """A caller chooses the names in its requests, and must not write to the terminal of the reader."""
    state = short_path / "state"
    async with cloud(state) as (_, aws):
        await aws.expect_error("ec2", "delete_volume", VolumeId="vol-\x1b]0;title\x07\n\u202e1")

        table = await run_emulator("calls", "--state", str(state))

    assert "vol-?]0;title???1" in table.out


async def test_calls_follows_each_call_once_until_ctrl_c(short_path: Path) -> None:
    """A call that takes long is shown when it has ended, even if later calls have ended before."""
    state = short_path / "state"
    async with cloud(state) as (emulator, aws):
        await aws("sts", "get_caller_identity")
        async with follow(state, "--count", "1", "--output", "json") as process:
            first = await next_call(process)
            emulator.faults.plan("DescribeVolumes", None, delay=2.0, times=1)
            async with asyncio.TaskGroup() as group:
                group.create_task(aws.ec2("describe_volumes"))
                await aws.ec2("describe_snapshots")
                second = await next_call(process)
            third = await next_call(process)
            await aws.ec2("describe_regions")
            fourth = await next_call(process)
            process.send_signal(signal.SIGINT)
            rest, errors = await process.communicate()

    names = [call["operation"].partition(":")[2] for call in (first, second, third, fourth)]
    assert names == ["GetCallerIdentity", "DescribeSnapshots", "DescribeVolumes", "DescribeRegions"]
    assert (process.returncode, rest, errors) == (0, b"", b"")


async def test_calls_ends_quietly_when_its_reader_ends(short_path: Path) -> None:
    """`emulator calls | head -1` must not print a traceback."""
    state = short_path / "state"
    async with cloud(state) as (_, aws):
        for _ in range(3):
            await aws("sts", "get_caller_identity")
        words = " ".join([*EMULATOR, "calls", "--state", str(state)])
        shell = await asyncio.create_subprocess_shell(
            f"({words} --follow | head -1) 2>&1", stdout=asyncio.subprocess.PIPE
        )
        await aws("sts", "get_caller_identity")
        out, _ = await shell.communicate()

    assert out.decode().startswith("TIME")
    assert len(out.splitlines()) == 1


async def test_calls_fails_when_the_emulator_ends(short_path: Path) -> None:
    state = short_path / "state"
    async with cloud(state) as (_, aws):
        await aws("sts", "get_caller_identity")
        follower = follow(state, "--output", "json")
        process = await follower.__aenter__()
        await next_call(process)
    _, errors = await process.communicate()
    await follower.__aexit__(None, None, None)

    assert process.returncode == 1
    assert f"emulator run --state {state}" in errors.decode()
    assert "Traceback" not in errors.decode()


async def test_calls_needs_a_running_emulator_and_a_sensible_count(short_path: Path) -> None:
    state = str(short_path / "state")

    stopped = await run_emulator("calls", "--state", state, code=1)
    count = await run_emulator("calls", "--state", state, "--count", "1001", code=2)

    assert f"emulator run --state {state}" in stopped.err
    assert "1000" in count.out + count.err
