"""The sandbox of the demo and of these tests: what its cleanup ends, and what it never touches."""

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from hyperpod_ebs.kit import command, files
from hyperpod_ebs.sandbox import janitor
from hyperpod_ebs.sandbox.sandbox import Sandbox
from tests.support.machine_state import machine_state

pytestmark = pytest.mark.root

OWNER: Final = """
import asyncio, sys
from hyperpod_ebs.sandbox.sandbox import Sandbox

async def main():
    async with Sandbox.open("box") as sandbox:
        await sandbox.start(["sleep", "1000"], log="log")
        print(sandbox.path, flush=True)
        await asyncio.sleep(1000)

asyncio.run(main())
"""
"""A program that owns a sandbox with a running process."""


async def mount_new_filesystem(image: Path, point: Path) -> None:
    """Make a filesystem in the file `image` and mount it at `point`."""
    point.mkdir()
    await command.run(["truncate", "--size=64M", str(image)])
    await command.run(["mkfs.ext4", "-q", str(image)])
    await command.run(["mount", "-o", "loop", str(image), str(point)])


async def clean(path: Path) -> None:
    """Clean the sandbox, as its janitor does."""
    await files.off_loop(janitor.clean, path, deadline=60)


def make_abandoned_sandbox(path: Path) -> Path:
    """Make a directory a sandbox that has neither owner nor janitor; its path."""
    path.mkdir()
    os.close(janitor.create_lock_file(path))
    return path


@asynccontextmanager
async def start_owner() -> AsyncGenerator[tuple[asyncio.subprocess.Process, Path]]:
    """Start a process that owns a sandbox in the directory for temporary files; the process and the sandbox's path."""
    owner = await asyncio.create_subprocess_exec(sys.executable, "-c", OWNER, stdout=asyncio.subprocess.PIPE)
    try:
        assert owner.stdout
        async with asyncio.timeout(30):
            path = Path((await owner.stdout.readline()).decode().rstrip("\n"))
        yield owner, path
    finally:
        if owner.returncode is None:
            owner.kill()
        await owner.wait()
    await wait_until_removed(path)


def janitor_of(path: Path) -> int:
    """The id of the janitor process of a sandbox."""
    return next(
        int(entry.parent.name)
        for entry in Path("/proc").glob("[0-9]*/cmdline")
        if arguments_in(entry)[2:4] == [b"hyperpod_ebs.sandbox.janitor", os.fsencode(path)]
    )


def arguments_in(entry: Path) -> list[bytes]:
    """The command line in a file of /proc; empty if the process has ended."""
    try:
        return entry.read_bytes().split(b"\0")
    except OSError:
        return []


async def wait_until_removed(path: Path) -> None:
    """Wait until a janitor has removed the sandbox."""
    async with asyncio.timeout(90):
        while path.exists():  # noqa: ASYNC110 - a janitor sends no notification
            await asyncio.sleep(0.02)


async def test_nested_filesystems_and_paths_with_spaces_are_cleaned(short_path: Path) -> None:
    """An emulator's own filesystem is below the loop devices of its volumes."""
    path = make_abandoned_sandbox(short_path / "a box")
    outer, inner = path / "the outer", path / "the outer" / "the inner"
    await mount_new_filesystem(path / "outer image", outer)
    await mount_new_filesystem(outer / "inner image", inner)
    assert len(janitor.mounts_below(path)) == len(janitor.loops_below(path)) == 2

    await clean(path)

    assert not janitor.mounts_below(path)
    assert not janitor.loops_below(path)
    assert not path.exists()


@pytest.mark.parametrize("name", ["a\rb", "a\x85b", "a\nb\n", os.fsdecode(b"a\xffb")])
async def test_a_path_with_any_characters_is_cleaned(short_path: Path, name: str) -> None:
    """A file name may hold any byte except / and NUL (path_resolution(7)), and sysfs escapes none in a backing file."""
    path = make_abandoned_sandbox(short_path / name)
    await mount_new_filesystem(path / "image\n", path / "mnt")
    assert len(janitor.mounts_below(path)) == len(janitor.loops_below(path)) == 1

    await clean(path)

    assert not janitor.mounts_below(path)
    assert not janitor.loops_below(path)
    assert not path.exists()


async def test_without_root_the_loop_devices_of_others_are_ignored(short_path: Path) -> None:
    """`make unit` runs beside another user's demo, whose directory it may not look into."""
    (short_path / "private").mkdir(mode=0o700)
    image = short_path / "private" / "image"
    image.touch()
    await command.run(["truncate", "--size=64M", str(image)])
    device = (await command.run(["losetup", "--find", "--show", str(image)])).out.strip()

    os.seteuid(65534)  # this takes the capabilities too, until root is back
    try:
        found = janitor.loops_below(Path("/nonexistent"))
    finally:
        os.seteuid(0)
        await command.run(["losetup", "--detach", device])

    assert found == []


async def test_a_loop_device_that_a_node_put_on_top_of_one_in_the_sandbox_is_freed(short_path: Path) -> None:
    """Kubelet binds such a device for a raw block volume; its mount namespace ends before the device is freed.

    The backing file of the upper device has the path that it has on the node, which is not a path on this machine.
    """
    path = make_abandoned_sandbox(short_path / "box")
    (path / "image").touch()
    await command.run(["truncate", "--size=64M", str(path / "image")])
    volume = (await command.run(["losetup", "--find", "--show", str(path / "image")])).out.strip()
    mounts = f"mount -t tmpfs node {path} && touch {path}/dev && mount --bind {volume} {path}/dev"
    script = f"{mounts} && losetup --find --show {path}/dev"
    upper = (await command.run(["unshare", "--mount", "--propagation=private", "sh", "-c", script])).out.strip()
    assert janitor.loops_below(path) == [Path(upper), Path(volume)]

    await clean(path)

    assert not janitor.loops_below(path)
    assert not Path(f"/sys/block/{Path(upper).name}/loop").exists()


async def test_a_process_from_outside_keeps_running_and_its_mount_is_freed_when_it_ends(
    short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user who has opened a shell in a sandbox keeps the shell."""
    monkeypatch.setattr(janitor, "_BUSY_TIMEOUT", 0.2)
    path = make_abandoned_sandbox(short_path / "box")
    point = path / "point"
    await mount_new_filesystem(path / "image", point)
    outsider = await asyncio.create_subprocess_exec("sleep", "1000", cwd=point)

    await clean(path)

    assert outsider.returncode is None
    assert not janitor.mounts_below(path)
    assert not path.exists()
    outsider.kill()
    await outsider.wait()
    async with asyncio.timeout(10):
        while janitor.loops_below(path):  # noqa: ASYNC110 - the kernel frees it asynchronously
            await asyncio.sleep(0.02)


async def test_nothing_outside_of_the_sandbox_is_touched(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files behind a bind mount or a link in the sandbox stay, and so does a directory that is not a sandbox."""
    monkeypatch.setattr(janitor, "_BUSY_TIMEOUT", 0.2)
    outside = short_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("precious")
    path = make_abandoned_sandbox(short_path / "box")
    (path / "window").mkdir()
    (path / "link").symlink_to(outside)
    await command.run(["mount", "--bind", str(outside), str(path / "window")])
    outsider = await asyncio.create_subprocess_exec("sleep", "1000", cwd=path / "window")
    (short_path / "link").symlink_to(path)

    await clean(outside)
    await clean(short_path / "link")
    await clean(path)
    outsider.kill()
    await outsider.wait()

    assert (outside / "file").read_text() == "precious"
    assert not path.exists()


async def test_a_mount_that_cannot_be_unmounted_keeps_the_directory_and_its_files(
    short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files below that mount can belong to anything, so the cleanup deletes none of them."""
    monkeypatch.setattr(janitor, "_BUSY_TIMEOUT", 0.0)
    monkeypatch.setattr(janitor, "_DETACH", 0)
    outside = short_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("precious")
    path = make_abandoned_sandbox(short_path / "box")
    (path / "window").mkdir()
    await command.run(["mount", "--bind", str(outside), str(path / "window")])
    outsider = await asyncio.create_subprocess_exec("sleep", "1000", cwd=path / "window")

    await clean(path)
    outsider.kill()
    await outsider.wait()

    assert (path / "window" / "file").read_text() == (outside / "file").read_text() == "precious"
    await clean(path)
    monkeypatch.undo()
    await clean(path)
    assert not path.exists()


@pytest.mark.requirement("tests.leave-nothing")
@pytest.mark.usefixtures("short_path")
async def test_an_owner_that_is_interrupted_while_the_sandbox_opens_leaves_nothing(short_path: Path) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0), Sandbox.open("box"):
            pass

    assert not list(short_path.iterdir())


async def test_a_killed_owner_leaves_nothing() -> None:
    """The kernel closes the janitor's standard input when the owner dies, by any signal."""
    async with start_owner() as (owner, path):
        assert janitor.processes_of(path)

        owner.kill()

        await wait_until_removed(path)
        assert not janitor.processes_of(path)


@pytest.mark.requirement("tests.leave-nothing")
@pytest.mark.usefixtures("short_path")
async def test_the_owner_cleans_up_if_the_janitor_was_killed() -> None:
    """The sandbox ends its programs with SIGTERM and removes its directory."""
    async with Sandbox.open("box") as sandbox:
        sleeper = await sandbox.start(["sleep", "1000"], log="log")

        os.kill(janitor_of(sandbox.path), signal.SIGKILL)

    assert not sandbox.path.exists()
    assert await sleeper.wait() == -signal.SIGTERM


@pytest.mark.usefixtures("short_path")
async def test_the_next_sandbox_cleans_one_whose_owner_and_janitor_were_killed_and_no_other() -> None:
    """After both were killed, the user only has to start again."""
    async with start_owner() as (living, other), start_owner() as (dead, path):
        os.kill(janitor_of(path), signal.SIGKILL)
        dead.kill()
        await dead.wait()
        assert janitor.processes_of(path)

        async with Sandbox.open("box"):
            await wait_until_removed(path)

        assert not janitor.processes_of(path)
        assert janitor.processes_of(other)
        assert living.returncode is None


@pytest.mark.usefixtures("short_path")
async def test_a_sandbox_inside_a_sandbox_is_cleaned_when_the_outer_one_ends() -> None:
    """The outer janitor kills the owner of the inner sandbox, and the inner janitor cleans up."""
    async with Sandbox.open("outer") as outer:
        await outer.start([sys.executable, "-c", OWNER], log="log")
        async with asyncio.timeout(30):
            while not (outer.path / "log").read_text().endswith("\n"):  # noqa: ASYNC110 - another process writes it
                await asyncio.sleep(0.02)
        inner = Path((outer.path / "log").read_text().rstrip("\n"))
        assert janitor.processes_of(inner)

    await wait_until_removed(inner)
    assert not janitor.processes_of(inner)


async def test_a_sandbox_is_made_where_devices_can_be_opened(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Newer systems mount /tmp with nodev (systemd's tmp.mount), and the demo runs on them too."""
    small = short_path / "small"
    small.mkdir()
    await command.run(["mount", "-t", "tmpfs", "-o", "nodev,size=1m", "small", str(small)])
    try:
        monkeypatch.setattr(tempfile, "tempdir", str(small))

        async with Sandbox.open("box") as elsewhere:
            pass

        assert not elsewhere.path.is_relative_to(small)
        assert not elsewhere.path.exists()
    finally:
        await command.run(["umount", str(small)])


async def test_the_machines_state_has_the_mounts_of_this_test_and_not_its_neighbours(
    tmp_path: Path, short_path: Path
) -> None:
    """Another emulator on the machine attaches and mounts volumes while a test compares the machine's state."""
    before = machine_state()["mounts"]

    await mount_new_filesystem(tmp_path / "image", tmp_path / "neighbour")
    with_a_neighbour = machine_state()["mounts"]
    await mount_new_filesystem(short_path / "image", short_path / "mine")
    with_mine = machine_state()["mounts"]

    for point in (tmp_path / "neighbour", short_path / "mine"):
        await command.run(["umount", str(point)])
    assert with_a_neighbour == before
    assert isinstance(with_mine, list)
    assert str(short_path / "mine") in with_mine
