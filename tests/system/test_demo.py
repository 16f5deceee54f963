"""The demo as users run it: in a pipe, in a terminal, from a script; interrupted, killed, and without prerequisites."""

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from hyperpod_ebs.kit import command
from hyperpod_ebs.sandbox import janitor

pytestmark = pytest.mark.root

DEMO: Final = (sys.executable, "-m", "hyperpod_ebs.cli", "demo")
INSTANT: Final = ("--profile", "instant")
STEP_LINE: Final = re.compile(r"^ *[0-9.]+ s  ([^:]+): .+  \[.+\]$")
"""A line of plain output; its group is the name of the step."""

STEPS: Final = (
    "start the embedded cloud",
    "create a HyperPod cluster",
    "start the driver",
    "create a volume in advance",
    "create a volume",
    "attach to node-1",
    "stage and publish on node-1",
    "write a checkpoint",
    "take a snapshot during writes",
    "grow from 2 to 4 GiB while mounted",
    "unmount and detach from node-1",
    "attach and mount on node-2",
    "verify the data",
    "wait until the snapshot is ready",
    "restore the snapshot",
    "use the volume created in advance",
    "use a raw block volume",
    "delete everything",
    "stop and check for leftovers",
)


@dataclass(frozen=True)
class Outcome:
    """The output of a demo that has ended, and where it ran."""

    code: int
    out: str
    err: str
    directory: Path
    sandbox: Path | None
    """The demo's sandbox, if the test looked for it while the demo ran."""

    def assert_nothing_is_left(self) -> None:
        """Check that no loop device, process or file is left, and no mount except the directory itself."""
        assert not janitor.loops_below(self.directory)
        assert [point for point in janitor.mounts_below(self.directory) if point != self.directory] == []
        assert self.sandbox is None or not janitor.processes_of(self.sandbox)
        assert not list(self.directory.iterdir())


class RunningDemo:
    """A running demo, whose plain lines are read one by one."""

    def __init__(self, process: asyncio.subprocess.Process, directory: Path) -> None:
        self.process = process
        self.sandbox: Path | None = None
        self._directory = directory
        self._lines: list[str] = []

    async def wait_for_step(self, step: str) -> Path:
        """Wait until `step` starts, which is when the line of the previous step is printed; the demo's sandbox."""
        assert self.process.stdout
        before = STEPS[STEPS.index(step) - 1]
        async with asyncio.timeout(60):
            while not self._lines or (match := STEP_LINE.match(self._lines[-1])) is None or match[1] != before:
                line = (await self.process.stdout.readline()).decode()
                assert line, f"the demo ended before {step}: {await self.wait()}"
                self._lines.append(line.rstrip("\n"))
        (self.sandbox,) = self._directory.iterdir()
        return self.sandbox

    async def wait(self) -> Outcome:
        """Wait for the end of the demo and of its janitor, which holds stderr open while it runs."""
        async with asyncio.timeout(110):
            out, err = await self.process.communicate()
        printed = "\n".join([*self._lines, out.decode()])
        return Outcome(self.process.returncode or 0, printed, err.decode(), self._directory, self.sandbox)


@asynccontextmanager
async def start_demo(directory: Path, *options: str, **env: str) -> AsyncGenerator[RunningDemo]:
    """Start a demo that creates its sandbox in the empty directory; kill it at the end if it still runs."""
    process = await asyncio.create_subprocess_exec(
        *(*DEMO, *options),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(directory), **env},
        start_new_session=True,
    )
    try:
        yield RunningDemo(process, directory)
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def run_demo(directory: Path, *options: str, **env: str) -> Outcome:
    """Run a demo to its end."""
    async with start_demo(directory, *options, **env) as running:
        return await running.wait()


@pytest.mark.requirement("data.snapshot-exact")
@pytest.mark.parametrize("profile", ["instant", "aws"])
async def test_a_script_gets_one_document_with_every_step_and_no_leftovers(short_path: Path, profile: str) -> None:
    """A step has its name, seconds and calls by operation; all kinds of leftovers are present and empty.

    With the times of AWS the last deletions take a while, and the demo waits for them. The call log is long enough for
    the comparison with the snapshot to prove something, and it grows during the snapshot and the growth of the volume.
    """
    outcome = await run_demo(short_path, "--profile", profile, "--output", "json")

    document = json.loads(outcome.out)
    assert (outcome.code, outcome.err, document["error"]) == (0, "", None)
    assert tuple(step["name"] for step in document["steps"]) == STEPS
    assert {"loop_devices", "mounts", "processes", "volumes", "snapshots"} <= set(document["leftovers"])
    assert not any(document["leftovers"].values())
    calls = {step["name"]: step["calls"] for step in document["steps"]}
    assert calls["attach to node-1"]["sagemaker:AttachClusterNodeVolume"] == 1
    assert calls["delete everything"]["ec2:DeleteVolume"] == 4
    assert calls["write a checkpoint"] == {}
    assert all(0 <= step["seconds"] < document["seconds"] for step in document["steps"])
    results = {step["name"]: step["result"] for step in document["steps"]}
    before, after = map(int, re.findall(r"line (\d+) to (\d+)", results["take a snapshot during writes"])[0])
    at_growth, at_end = map(int, re.findall(r"line (\d+) to (\d+)", results["grow from 2 to 4 GiB while mounted"])[0])
    restored = int(re.findall(r"line (\d+)", results["restore the snapshot"])[0])
    assert 50 <= before <= restored <= after <= at_growth < at_end
    outcome.assert_nothing_is_left()


async def test_a_pipe_gets_plain_lines_and_suggestions_that_work_in_a_shell(short_path: Path) -> None:
    """The lines are the steps, the states of the volumes, a summary, and three things to try next."""
    home, directory = short_path / "home", short_path / "tmp"
    home.mkdir()
    directory.mkdir()

    outcome = await run_demo(directory, *INSTANT, HOME=str(home))

    lines = outcome.out.splitlines()
    assert tuple(match[1] for line in lines if (match := STEP_LINE.match(line))) == STEPS
    assert "\x1b" not in outcome.out
    assert "States of the volumes over time" in lines
    assert any("nothing is left behind" in line for line in lines)
    run, inspect, measure = (line.strip() for line in lines if line.startswith("   ") and "hyperpod-ebs " in line)
    async with start_in_shell(run.replace("4566", "0"), home) as cloud:
        assert cloud.stdout
        async with asyncio.timeout(30):
            assert b"emulator ready" in await cloud.stdout.readline()
        inspected = await run_in_shell(inspect, home)
        cloud.send_signal(signal.SIGINT)
        async with asyncio.timeout(30):
            assert await cloud.wait() == 0
    assert inspected.code == 0, inspected.err
    assert "volumes" in inspected.out.lower()
    # The test above runs this command.
    assert measure.split("hyperpod-ebs")[1].split() == ["demo", *INSTANT, "--output", "json"]


@asynccontextmanager
async def start_in_shell(line: str, home: Path) -> AsyncGenerator[asyncio.subprocess.Process]:
    """Start a command in a shell; terminate it at the end if it still runs."""
    process = await asyncio.create_subprocess_exec(
        *("bash", "-c", f"exec {line}"), stdout=asyncio.subprocess.PIPE, env={**os.environ, "HOME": str(home)}
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
            await process.communicate()


async def run_in_shell(line: str, home: Path) -> command.Finished:
    """Run a command in a shell to its end."""
    return await command.run(["bash", "-c", f"export HOME={home}; {line}"])


async def test_a_terminal_gets_a_live_view_that_fits(short_path: Path) -> None:
    """The view fits the width of the terminal and does not clear it; at the end there are a table and the states."""
    columns = 80
    terminal_end, demo_end = os.openpty()
    output = bytearray()
    ended = asyncio.Event()

    def read() -> None:
        try:
            output.extend(os.read(terminal_end, 65536))
        except OSError:  # EIO: the last writer is gone
            asyncio.get_running_loop().remove_reader(terminal_end)
            ended.set()

    process = await asyncio.create_subprocess_exec(
        *("sh", "-c", 'stty rows 24 cols "$0"; exec "$@"', str(columns), *DEMO, *INSTANT),
        stdin=demo_end,
        stdout=demo_end,
        stderr=demo_end,
        env={**os.environ, "TMPDIR": str(short_path), "TERM": "xterm-256color"},
        start_new_session=True,
    )
    os.close(demo_end)
    asyncio.get_running_loop().add_reader(terminal_end, read)
    async with asyncio.timeout(60):
        assert await process.wait() == 0
        await ended.wait()
    os.close(terminal_end)

    text = output.decode()
    assert "\x1b[2J" not in text
    assert "\x1b[?25h" in text  # shows the cursor again
    frames = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line) for line in re.split(r"[\r\n]+", text)]
    suggestions = max(number for number, line in enumerate(frames) if "What to try next" in line)
    assert max(map(len, frames[:suggestions])) <= columns
    ending = "\n".join(frames[-120:])
    assert all(step in ending for step in STEPS)
    assert "States of the volumes over time" in ending
    assert "nothing is left behind" in ending


class Interruption(NamedTuple):
    """A signal at the start of a step."""

    signal: signal.Signals
    step: str
    id: str


INTERRUPTIONS: Final = [
    Interruption(signal.SIGINT, "create a HyperPod cluster", "Ctrl-C while the cluster is created"),
    Interruption(signal.SIGINT, "write a checkpoint", "Ctrl-C while files are written"),
    Interruption(signal.SIGINT, "grow from 2 to 4 GiB while mounted", "Ctrl-C while the volume grows"),
    Interruption(signal.SIGINT, "delete everything", "Ctrl-C while everything is deleted"),
    Interruption(signal.SIGTERM, "take a snapshot during writes", "SIGTERM while a snapshot is taken"),
    Interruption(signal.SIGTERM, "stop and check for leftovers", "SIGTERM while everything is stopped"),
    Interruption(signal.SIGKILL, "restore the snapshot", "kill -9 while a snapshot is restored"),
]


@pytest.mark.requirement("tests.leave-nothing")
@pytest.mark.parametrize("interruption", INTERRUPTIONS, ids=lambda interruption: interruption.id)
async def test_a_signal_at_any_step_leaves_nothing_behind(short_path: Path, interruption: Interruption) -> None:
    """The user sees one sentence and no traceback; the exit code is the one that shells give for the signal."""
    async with start_demo(short_path, *INSTANT) as running:
        await running.wait_for_step(interruption.step)

        running.process.send_signal(interruption.signal)
        outcome = await running.wait()

    outcome.assert_nothing_is_left()
    assert outcome.err.count("\n") <= 1
    if interruption.signal == signal.SIGKILL:
        assert (outcome.code, outcome.err) == (-signal.SIGKILL, "")
    else:
        assert outcome.code == 128 + interruption.signal
        assert outcome.err.startswith("hyperpod-ebs: stopped by ")


async def test_further_signals_do_not_disturb_the_cleanup(short_path: Path) -> None:
    """Users in a hurry press Ctrl-C several times."""
    async with start_demo(short_path, *INSTANT, "--output", "json") as running:
        async with asyncio.timeout(60):
            while not list(short_path.glob("*/emulator.log")):  # noqa: ASYNC110 - with JSON it prints nothing yet
                await asyncio.sleep(0.01)

        running.process.send_signal(signal.SIGINT)
        for _ in range(2):
            await asyncio.sleep(0.05)
            with suppress(ProcessLookupError):  # it has ended already
                running.process.send_signal(signal.SIGINT)
        outcome = await running.wait()

    document = json.loads(outcome.out)
    assert outcome.code == 130
    assert document["error"].startswith("stopped by Ctrl-C at step '")
    assert not any(document["leftovers"].values())
    assert not list(short_path.iterdir())


@pytest.mark.parametrize(
    ("victim", "step"),
    [("emulator", "write a checkpoint"), ("node", "create a volume")],
)
async def test_a_process_that_is_killed_ends_the_demo_with_a_sentence(short_path: Path, victim: str, step: str) -> None:
    """The sentence says which process was killed, by which signal, and what to do."""
    async with start_demo(short_path, *INSTANT) as running:
        sandbox = await running.wait_for_step(step)
        pid = next(pid for pid in janitor.processes_of(sandbox) if victim in arguments(pid))

        os.kill(pid, signal.SIGKILL)
        outcome = await running.wait()

    outcome.assert_nothing_is_left()
    assert outcome.code == 1
    assert re.fullmatch(
        rf"hyperpod-ebs: .*the {victim}\S* process was killed \(SIGKILL\); run the command again\n", outcome.err
    )


def arguments(pid: int) -> list[str]:
    """The command line of a process; empty if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except OSError:
        return []


async def test_a_missing_program_is_named_with_its_package_also_in_the_document(short_path: Path) -> None:
    """The demo starts nothing; with JSON, stdout has a document in this case, too."""
    outcome = await run_demo(short_path, "--output", "json", PATH="/nowhere")

    document = json.loads(outcome.out)
    assert outcome.code == 1
    assert document["error"] == "blkid is not on PATH; install the package util-linux, or add /usr/sbin to PATH"
    assert outcome.err == f"hyperpod-ebs: {document['error']}\n"
    assert document["steps"] == []
    assert not any(document["leftovers"].values())


@pytest.mark.requirement("tests.leave-nothing")
async def test_a_disk_that_fills_up_is_named_and_nothing_is_left(short_path: Path) -> None:
    """A write fails with ENOSPC; the message says which disk is full."""
    small = short_path / "small"
    small.mkdir()
    await command.run(["mount", "-t", "tmpfs", "-o", "size=300m", "small", str(small)])
    try:
        async with start_demo(small, *INSTANT) as running:
            filler = await running.wait_for_step("write a checkpoint") / "filler"

            try:
                with filler.open("wb", buffering=0) as file:
                    while file.write(bytes(1 << 20)):
                        pass
            except OSError:
                pass
            outcome = await running.wait()

        outcome.assert_nothing_is_left()
        assert outcome.code == 1
        assert f"the disk of {small} is full" in outcome.err
        assert outcome.err.count("\n") == 1
    finally:
        await command.run(["umount", str(small)])


async def test_too_little_disk_space_is_reported_before_anything_is_started(short_path: Path) -> None:
    """The message has the free space and the space needed."""
    small = short_path / "small"
    small.mkdir()
    await command.run(["mount", "-t", "tmpfs", "-o", "size=64m", "small", str(small)])
    try:
        outcome = await run_demo(small, *INSTANT)

        assert outcome.code == 1
        assert f"{small} has 64 MiB free, but the demo needs 256 MiB" in outcome.err
        assert not list(small.iterdir())
    finally:
        await command.run(["umount", str(small)])
