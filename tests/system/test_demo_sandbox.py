"""The sandbox of the demo and of these tests: what ends with it, and what it never touches."""

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
"""A program that owns a sandbox in which something runs."""


async def filesystem(image: Path, point: Path) -> None:
    """A new filesystem in `image`, mounted at `point`."""
    point.mkdir()
    await command.run(["truncate", "--size=64M", str(image)])
    await command.run(["mkfs.ext4", "-q", str(image)])
    await command.run(["mount", "-o", "loop", str(image), str(point)])


async def cleaned(path: Path) -> None:
    """Clean it, as its janitor would."""
    await files.off_loop(janitor.clean, path, deadline=60)


def sealed(path: Path) -> Path:
    """A sandbox that nobody minds."""
    path.mkdir()
    os.close(janitor.seal(path))
    return path


@asynccontextmanager
async def owned() -> AsyncGenerator[tuple[asyncio.subprocess.Process, Path]]:
    """The owner of a sandbox in the directory for temporary files, and the sandbox."""
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
    await gone(path)


def janitor_of(path: Path) -> int:
    """The process that minds a sandbox."""
    return next(
        int(entry.parent.name)
        for entry in Path("/proc").glob("[0-9]*/cmdline")
        if words_of(entry)[2:4] == [b"hyperpod_ebs.sandbox.janitor", os.fsencode(path)]
    )


def words_of(entry: Path) -> list[bytes]:
    """What a process was started with; nothing for one that has ended."""
    try:
        return entry.read_bytes().split(b"\0")
    except OSError:
        return []


async def gone(path: Path) -> None:
    """Come back when a sandbox is."""
    async with asyncio.timeout(90):
        while path.exists():  # noqa: ASYNC110 - a janitor tells nobody
            await asyncio.sleep(0.02)


async def test_filesystems_within_filesystems_and_a_name_with_blanks_are_no_hindrance(short_path: Path) -> None:
    """Ours: an emulator's own filesystem lies below the loop devices of its volumes."""
    path = sealed(short_path / "a box")
    outer, inner = path / "the outer", path / "the outer" / "the inner"
    await filesystem(path / "outer image", outer)
    await filesystem(outer / "inner image", inner)
    assert len(janitor.mounts_below(path)) == len(janitor.loops_below(path)) == 2

    await cleaned(path)

    assert not janitor.mounts_below(path)
    assert not janitor.loops_below(path)
    assert not path.exists()


async def test_a_loop_device_over_one_of_ours_goes_though_its_path_is_another_machines(short_path: Path) -> None:
    """Ours: kubelet holds the device of a raw block volume so, in a mount namespace that ends before it is freed."""
    path = sealed(short_path / "box")
    (path / "image").touch()
    await command.run(["truncate", "--size=64M", str(path / "image")])
    volume = (await command.run(["losetup", "--find", "--show", str(path / "image")])).out.strip()
    elsewhere = f"mount -t tmpfs node {path} && touch {path}/dev && mount --bind {volume} {path}/dev"
    held = f"{elsewhere} && losetup --find --show {path}/dev"
    over = (await command.run(["unshare", "--mount", "--propagation=private", "sh", "-c", held])).out.strip()
    assert janitor.loops_below(path) == [Path(over), Path(volume)]

    await cleaned(path)

    assert not janitor.loops_below(path)
    assert not Path(f"/sys/block/{Path(over).name}/loop").exists()


async def test_a_stranger_is_left_alone_and_what_he_holds_goes_with_him(
    short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours: whoever has a shell in a sandbox keeps his shell."""
    monkeypatch.setattr(janitor, "_BUSY", 0.2)
    path = sealed(short_path / "box")
    point = path / "point"
    await filesystem(path / "image", point)
    stranger = await asyncio.create_subprocess_exec("sleep", "1000", cwd=point)

    await cleaned(path)

    assert stranger.returncode is None
    assert not janitor.mounts_below(path)
    assert not path.exists()
    stranger.kill()
    await stranger.wait()
    async with asyncio.timeout(10):
        while janitor.loops_below(path):  # noqa: ASYNC110 - the kernel frees it when it likes
            await asyncio.sleep(0.02)


async def test_what_lies_outside_is_never_touched(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours: neither what a mount in it shows, nor what a link points at, nor a directory that is no sandbox."""
    monkeypatch.setattr(janitor, "_BUSY", 0.2)
    outside = short_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("precious")
    path = sealed(short_path / "box")
    (path / "window").mkdir()
    (path / "link").symlink_to(outside)
    await command.run(["mount", "--bind", str(outside), str(path / "window")])
    stranger = await asyncio.create_subprocess_exec("sleep", "1000", cwd=path / "window")
    (short_path / "link").symlink_to(path)

    await cleaned(outside)
    await cleaned(short_path / "link")
    await cleaned(path)
    stranger.kill()
    await stranger.wait()

    assert (outside / "file").read_text() == "precious"
    assert not path.exists()


async def test_a_mount_that_will_not_go_keeps_the_directory_and_all_in_it(
    short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours: what cannot be unmounted may be anything at all, and is not deleted."""
    monkeypatch.setattr(janitor, "_BUSY", 0.0)
    monkeypatch.setattr(janitor, "_DETACH", 0)
    outside = short_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("precious")
    path = sealed(short_path / "box")
    (path / "window").mkdir()
    await command.run(["mount", "--bind", str(outside), str(path / "window")])
    stranger = await asyncio.create_subprocess_exec("sleep", "1000", cwd=path / "window")

    await cleaned(path)
    stranger.kill()
    await stranger.wait()

    assert (path / "window" / "file").read_text() == (outside / "file").read_text() == "precious"
    await cleaned(path)
    monkeypatch.undo()
    await cleaned(path)
    assert not path.exists()


@pytest.mark.usefixtures("short_path")
async def test_a_killed_owner_leaves_nothing() -> None:
    """Ours: the janitor sees its end, by whatever signal."""
    async with owned() as (owner, path):
        assert janitor.processes_of(path)

        owner.kill()

        await gone(path)
        assert not janitor.processes_of(path)


@pytest.mark.usefixtures("short_path")
async def test_a_killed_janitor_is_stood_in_for_by_the_owner() -> None:
    """Ours: nothing is left then either."""
    async with Sandbox.open("box") as sandbox:
        sleeper = await sandbox.start(["sleep", "1000"], log="log")

        os.kill(janitor_of(sandbox.path), signal.SIGKILL)

    assert not sandbox.path.exists()
    assert await sleeper.wait() == -signal.SIGTERM


@pytest.mark.usefixtures("short_path")
async def test_a_sandbox_without_owner_and_janitor_is_cleaned_by_the_next_and_one_with_them_is_not() -> None:
    """Ours: both may be killed; who starts again does not have to look for what they left."""
    async with owned() as (living, kept), owned() as (dead, path):
        os.kill(janitor_of(path), signal.SIGKILL)
        dead.kill()
        await dead.wait()
        assert janitor.processes_of(path)

        async with Sandbox.open("box"):
            await gone(path)

        assert not janitor.processes_of(path)
        assert janitor.processes_of(kept)
        assert living.returncode is None


@pytest.mark.usefixtures("short_path")
async def test_a_sandbox_in_a_sandbox_cleans_up_when_the_outer_one_ends_it() -> None:
    """Ours: the outer janitor kills the inner owner, and leaves the inner janitor to do its work."""
    async with Sandbox.open("outer") as outer:
        await outer.start([sys.executable, "-c", OWNER], log="log")
        async with asyncio.timeout(30):
            while not (outer.path / "log").read_text().endswith("\n"):  # noqa: ASYNC110 - another process writes it
                await asyncio.sleep(0.02)
        inner = Path((outer.path / "log").read_text().rstrip("\n"))
        assert janitor.processes_of(inner)

    await gone(inner)
    assert not janitor.processes_of(inner)


async def test_a_sandbox_is_made_where_devices_can_be_opened(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours: newer systems mount /tmp nodev, and the demo has to run there too."""
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
