"""The demo as its audience has it: in a pipe, in a terminal, for a script; interrupted, killed, and broken."""

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
ENDED: Final = re.compile(r"^ *[0-9.]+ s  ([^:]+): .+  \[.+\]$")
"""A line of plain output; the step's name."""

STEPS: Final = (
    "start the embedded cloud",
    "make a HyperPod cluster",
    "start the driver",
    "make a volume beforehand",
    "create a volume",
    "attach to node-1",
    "stage and publish on node-1",
    "write a checkpoint",
    "snapshot while writing goes on",
    "grow 2 to 4 GiB, the mount in use",
    "leave node-1",
    "move to node-2",
    "compare with what was written",
    "wait until the snapshot is ready",
    "restore it into a new volume",
    "use the volume made beforehand",
    "use a raw block volume",
    "delete everything",
    "stop everything, look for leftovers",
)


@dataclass(frozen=True)
class Played:
    """What a demo left."""

    code: int
    out: str
    err: str
    directory: Path
    sandbox: Path | None
    """Where it was while it ran, if somebody has looked."""

    def assert_nothing_is_left(self) -> None:
        """No loop device, no process, no file, and no mount but the directory itself."""
        assert not janitor.loops_below(self.directory)
        assert [point for point in janitor.mounts_below(self.directory) if point != self.directory] == []
        assert self.sandbox is None or not janitor.processes_of(self.sandbox)
        assert not list(self.directory.iterdir())


class Play:
    """A demo under way, its plain lines read one by one."""

    def __init__(self, process: asyncio.subprocess.Process, directory: Path) -> None:
        self.process = process
        self.sandbox: Path | None = None
        self._directory = directory
        self._lines: list[str] = []

    async def until(self, step: str) -> Path:
        """The sandbox, when `step` begins: when the line of the one before it is there."""
        assert self.process.stdout
        before = STEPS[STEPS.index(step) - 1]
        async with asyncio.timeout(60):
            while not self._lines or (ended := ENDED.match(self._lines[-1])) is None or ended[1] != before:
                line = (await self.process.stdout.readline()).decode()
                assert line, f"it ended before {step}: {await self.end()}"
                self._lines.append(line.rstrip("\n"))
        (self.sandbox,) = self._directory.iterdir()
        return self.sandbox

    async def end(self) -> Played:
        """What it left, once it has ended and its janitor too, which holds stderr open for as long as it lives."""
        async with asyncio.timeout(110):
            out, err = await self.process.communicate()
        said = "\n".join([*self._lines, out.decode()])
        return Played(self.process.returncode or 0, said, err.decode(), self._directory, self.sandbox)


@asynccontextmanager
async def playing(directory: Path, *options: str, **env: str) -> AsyncGenerator[Play]:
    """A demo whose sandbox is made in `directory`, in which nothing else is."""
    process = await asyncio.create_subprocess_exec(
        *(*DEMO, *options),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(directory), **env},
        start_new_session=True,
    )
    try:
        yield Play(process, directory)
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def play(directory: Path, *options: str, **env: str) -> Played:
    """What a whole demo left."""
    async with playing(directory, *options, **env) as under_way:
        return await under_way.end()


@pytest.mark.requirement("data.snapshot-exact")
@pytest.mark.parametrize("profile", ["instant", "aws"])
async def test_a_script_gets_one_document_with_every_step_and_nothing_left(short_path: Path, profile: str) -> None:
    """Ours: steps with name, seconds and calls by operation; leftovers all empty.

    Under AWS's times the last deletions take a while, and are waited for. The snapshot is compared with a journal
    that has lines enough for it to mean something, and that goes on during the snapshot and the growth.
    """
    played = await play(short_path, "--profile", profile, "--output", "json")

    document = json.loads(played.out)
    assert (played.code, played.err, document["error"]) == (0, "", None)
    assert tuple(step["name"] for step in document["steps"]) == STEPS
    assert {"loop_devices", "mounts", "processes", "volumes", "snapshots"} <= set(document["leftovers"])
    assert not any(document["leftovers"].values())
    calls = {step["name"]: step["calls"] for step in document["steps"]}
    assert calls["attach to node-1"]["sagemaker:AttachClusterNodeVolume"] == 1
    assert calls["delete everything"]["ec2:DeleteVolume"] == 4
    assert calls["write a checkpoint"] == {}
    assert all(0 <= step["seconds"] < document["seconds"] for step in document["steps"])
    said = {step["name"]: step["result"] for step in document["steps"]}
    before, after = map(int, re.findall(r"line (\d+) to (\d+)", said["snapshot while writing goes on"])[0])
    at, then = map(int, re.findall(r"line (\d+) to (\d+)", said["grow 2 to 4 GiB, the mount in use"])[0])
    restored = int(re.findall(r"line (\d+)", said["restore it into a new volume"])[0])
    assert 50 <= before <= restored <= after <= at < then
    played.assert_nothing_is_left()


async def test_a_pipe_gets_plain_lines_and_suggestions_that_work_when_typed(short_path: Path) -> None:
    """Ours: a line for each step, the time line, the balance, and three things to try next."""
    home, directory = short_path / "home", short_path / "tmp"
    home.mkdir()
    directory.mkdir()

    played = await play(directory, *INSTANT, HOME=str(home))

    lines = played.out.splitlines()
    assert tuple(ended[1] for line in lines if (ended := ENDED.match(line))) == STEPS
    assert "\x1b" not in played.out
    assert "States of the volumes over time" in lines
    assert any("nothing is left behind" in line for line in lines)
    run, look, measure = (line.strip() for line in lines if line.startswith("   ") and "hyperpod-ebs " in line)
    async with typed(run.replace("4566", "0"), home) as cloud:
        assert cloud.stdout
        async with asyncio.timeout(30):
            assert b"emulator ready" in await cloud.stdout.readline()
        looked = await once(look, home)
        cloud.send_signal(signal.SIGINT)
        async with asyncio.timeout(30):
            assert await cloud.wait() == 0
    assert looked.code == 0, looked.err
    assert "volumes" in looked.out.lower()
    assert measure.split("hyperpod-ebs")[1].split() == [
        "demo",
        *INSTANT,
        "--output",
        "json",
    ]  # which the test above runs


@asynccontextmanager
async def typed(line: str, home: Path) -> AsyncGenerator[asyncio.subprocess.Process]:
    """A line that was typed at a shell; ended in the end."""
    process = await asyncio.create_subprocess_exec(
        *("bash", "-c", f"exec {line}"), stdout=asyncio.subprocess.PIPE, env={**os.environ, "HOME": str(home)}
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
            await process.communicate()


async def once(line: str, home: Path) -> command.Finished:
    """What a line that was typed at a shell left."""
    return await command.run(["bash", "-c", f"export HOME={home}; {line}"])


async def test_a_terminal_gets_a_picture_that_fits(short_path: Path) -> None:
    """Ours: live in a terminal, no wider than it is, without clearing it; the table and the time line at the end."""
    columns = 80
    ours, theirs = os.openpty()
    seen = bytearray()
    ended = asyncio.Event()

    def read() -> None:
        try:
            seen.extend(os.read(ours, 65536))
        except OSError:  # EIO: the last writer is gone
            asyncio.get_running_loop().remove_reader(ours)
            ended.set()

    process = await asyncio.create_subprocess_exec(
        *("sh", "-c", 'stty rows 24 cols "$0"; exec "$@"', str(columns), *DEMO, *INSTANT),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TMPDIR": str(short_path), "TERM": "xterm-256color"},
        start_new_session=True,
    )
    os.close(theirs)
    asyncio.get_running_loop().add_reader(ours, read)
    async with asyncio.timeout(60):
        assert await process.wait() == 0
        await ended.wait()
    os.close(ours)

    text = seen.decode()
    assert "\x1b[2J" not in text
    assert "\x1b[?25h" in text  # the cursor is back
    frames = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line) for line in re.split(r"[\r\n]+", text)]
    suggestions = max(number for number, line in enumerate(frames) if "What to try next" in line)
    assert max(map(len, frames[:suggestions])) <= columns
    closing = "\n".join(frames[-120:])
    assert all(step in closing for step in STEPS)
    assert "States of the volumes over time" in closing
    assert "nothing is left behind" in closing


class Blow(NamedTuple):
    """A signal at the beginning of a step."""

    signal: signal.Signals
    step: str
    id: str


BLOWS: Final = [
    Blow(signal.SIGINT, "make a HyperPod cluster", "Ctrl-C while the cluster is made"),
    Blow(signal.SIGINT, "write a checkpoint", "Ctrl-C while files are written"),
    Blow(signal.SIGINT, "grow 2 to 4 GiB, the mount in use", "Ctrl-C while the volume grows"),
    Blow(signal.SIGINT, "delete everything", "Ctrl-C while all is deleted"),
    Blow(signal.SIGTERM, "snapshot while writing goes on", "SIGTERM while a snapshot is taken"),
    Blow(signal.SIGTERM, "stop everything, look for leftovers", "SIGTERM while all is stopped"),
    Blow(signal.SIGKILL, "restore it into a new volume", "kill -9 while a snapshot is restored"),
]


@pytest.mark.requirement("tests.leave-nothing")
@pytest.mark.parametrize("blow", BLOWS, ids=lambda blow: blow.id)
async def test_a_signal_at_any_step_leaves_nothing_behind(short_path: Path, blow: Blow) -> None:
    """Ours: a short sentence, the exit code that shells have for the signal, and nothing else; no traceback."""
    async with playing(short_path, *INSTANT) as under_way:
        await under_way.until(blow.step)

        under_way.process.send_signal(blow.signal)
        played = await under_way.end()

    played.assert_nothing_is_left()
    assert played.err.count("\n") <= 1
    if blow.signal == signal.SIGKILL:
        assert (played.code, played.err) == (-signal.SIGKILL, "")
    else:
        assert played.code == 128 + blow.signal
        assert played.err.startswith("hyperpod-ebs: stopped by ")


async def test_a_second_signal_does_not_disturb_the_cleaning_up(short_path: Path) -> None:
    """Ours: people who are in a hurry press Ctrl-C twice."""
    async with playing(short_path, *INSTANT, "--output", "json") as under_way:
        async with asyncio.timeout(60):
            while not list(short_path.glob("*/emulator.log")):  # noqa: ASYNC110 - it says nothing until its end
                await asyncio.sleep(0.01)

        under_way.process.send_signal(signal.SIGINT)
        for _ in range(2):
            await asyncio.sleep(0.05)
            with suppress(ProcessLookupError):  # it was quick
                under_way.process.send_signal(signal.SIGINT)
        played = await under_way.end()

    document = json.loads(played.out)
    assert played.code == 130
    assert document["error"].startswith("stopped by Ctrl-C at step '")
    assert not any(document["leftovers"].values())
    assert not list(short_path.iterdir())


@pytest.mark.parametrize(
    ("victim", "step"),
    [("emulator", "write a checkpoint"), ("node", "create a volume")],
)
async def test_a_process_that_dies_ends_the_demo_with_a_sentence(short_path: Path, victim: str, step: str) -> None:
    """Ours: what died, how, and what to do; at once, and cleaned up."""
    async with playing(short_path, *INSTANT) as under_way:
        sandbox = await under_way.until(step)
        pid = next(pid for pid in janitor.processes_of(sandbox) if victim in words(pid))

        os.kill(pid, signal.SIGKILL)
        played = await under_way.end()

    played.assert_nothing_is_left()
    assert played.code == 1
    assert re.fullmatch(rf"hyperpod-ebs: .*the {victim}\S* process was killed \(SIGKILL\).*\n", played.err)


def words(pid: int) -> list[str]:
    """The command line of a process."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except OSError:  # it has ended
        return []


async def test_a_missing_program_is_named_with_its_package_and_told_to_scripts_too(short_path: Path) -> None:
    """Ours: one clear sentence before anything is begun; with JSON, stdout has a document all the same."""
    played = await play(short_path, "--output", "json", PATH="/nowhere")

    document = json.loads(played.out)
    assert played.code == 1
    assert document["error"] == "blkid is not on PATH: install util-linux, or add /usr/sbin to PATH"
    assert played.err == f"hyperpod-ebs: {document['error']}\n"
    assert document["steps"] == []
    assert not any(document["leftovers"].values())


@pytest.mark.requirement("tests.leave-nothing")
async def test_a_disk_that_fills_up_is_told_and_nothing_is_left(short_path: Path) -> None:
    """Ours: what is full, and what to do about it."""
    small = short_path / "small"
    small.mkdir()
    await command.run(["mount", "-t", "tmpfs", "-o", "size=300m", "small", str(small)])
    try:
        async with playing(small, *INSTANT) as under_way:
            filler = await under_way.until("write a checkpoint") / "filler"

            try:
                with filler.open("wb", buffering=0) as file:
                    while file.write(bytes(1 << 20)):
                        pass
            except OSError:
                pass
            played = await under_way.end()

        played.assert_nothing_is_left()
        assert played.code == 1
        assert f"the disk under {small} is full" in played.err
        assert played.err.count("\n") == 1
    finally:
        await command.run(["umount", str(small)])


async def test_a_disk_that_is_full_already_is_told_before_anything_is_begun(short_path: Path) -> None:
    """Ours: how much there is, how much it takes, and what to do."""
    small = short_path / "small"
    small.mkdir()
    await command.run(["mount", "-t", "tmpfs", "-o", "size=64m", "small", str(small)])
    try:
        played = await play(small, *INSTANT)

        assert played.code == 1
        assert f"{small} has 64 MiB free, and the demo wants 256" in played.err
        assert not list(small.iterdir())
    finally:
        await command.run(["umount", str(small)])
