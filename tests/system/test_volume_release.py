"""`hyperpod-ebs volume release`, as a process on a node with real devices."""

import os
import signal
from asyncio.subprocess import Process
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from hyperpod_ebs.kit import command
from tests.support.loop_device_node import OTHER, VOLUME
from tests.support.node_shell import KILLED_AT_A_LINE, NodeShell

pytestmark = pytest.mark.root

MIB = 2**20
SMALL = 64 * MIB


@pytest.fixture
async def shell(tmp_path: Path) -> AsyncGenerator[NodeShell]:
    async with NodeShell.create(tmp_path) as running:
        yield running


@pytest.fixture
async def data(shell: NodeShell) -> Path:
    """The directory at which the volume is mounted, also by fstab."""
    directory = shell.node.directory / "data"
    await shell.node.attach(size=SMALL)
    await shell.use(VOLUME, str(directory), "--persist")
    return directory


@asynccontextmanager
async def running(shell: NodeShell, *words: str) -> AsyncGenerator[Process]:
    """A program on the node that has printed a line and waits."""
    process = await shell.start(*words)
    assert process.stdout
    assert await process.stdout.readline()
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        await process.communicate()


def is_free(loop: Path) -> bool:
    """Whether the kernel lets the device be opened exclusively (open(2), O_EXCL)."""
    try:
        os.close(os.open(loop, os.O_RDONLY | os.O_EXCL))
    except OSError:
        return False
    return True


@pytest.mark.parametrize("by", ["volume", "directory"])
async def test_a_released_volume_is_free_and_its_data_written(shell: NodeShell, data: Path, by: str) -> None:
    await shell.run("dd", "if=/dev/urandom", f"of={data}/file", "bs=1M", "count=8")
    checksum = (await shell.run("sha256sum", str(data / "file"))).out.split()[0]
    words = VOLUME if by == "volume" else str(data)

    done = await shell.release(words)

    assert done["volume"] == VOLUME
    assert done["directory"] == str(data)
    assert done["removedFromFstab"]
    assert done["next"] == f"hyperpod-ebs volume detach {VOLUME}"
    assert not shell.mounts()
    assert not shell.lines
    assert is_free(shell.node.loops[VOLUME])
    await shell.use(VOLUME, str(data), "--read-only")
    assert (await shell.run("sha256sum", str(data / "file"))).out.split()[0] == checksum


async def test_a_repeated_release_succeeds(shell: NodeShell, data: Path) -> None:
    await shell.release(VOLUME)

    again = await shell.release(VOLUME)
    by_directory = await shell.release(str(data))
    await shell.node.detach()
    (shell.node.directory / "dev" / "xvdz").symlink_to("nvme9n1")  # as udev does on Nitro instances
    detached = await shell.release(VOLUME)

    assert again["next"] == f"hyperpod-ebs volume detach {VOLUME}"
    assert not again["directory"]
    assert not by_directory["volume"]
    assert not detached["device"]


async def test_processes_that_use_the_volume_are_named_and_nothing_is_changed(shell: NodeShell, data: Path) -> None:
    await shell.run("mkdir", str(data / "sub"))
    file = data / "sub" / "with space"
    python = ["/usr/bin/env", "python3", "-c"]
    mapped = (
        "import mmap, sys, time\nf = open(sys.argv[1], 'w+b')\nf.truncate(4096)\nm = mmap.mmap(f.fileno(), 4096)\n"
        "f.close()\nprint('ready', flush=True)\ntime.sleep(600)"
    )
    deleted = (
        "import os, sys, time\nf = open(sys.argv[1], 'w')\nos.remove(sys.argv[1])\nprint('ready', flush=True)\n"
        "time.sleep(600)"
    )
    cases = {
        f"(current directory {data}/sub)": ["sh", "-c", f"cd {data}/sub && echo ready && sleep 600"],
        f"(open file {file})": ["sh", "-c", f"exec 3>'{file}' && echo ready && sleep 600"],
        f"(mapped file {file})": [*python, mapped, str(file)],
        f"(open file {file} (deleted))": [*python, deleted, str(file)],
    }
    for words, argv in cases.items():
        async with running(shell, *argv) as process:
            for what in (VOLUME, str(data)):
                error = await shell.refusal("release", what)
                assert f"process {process.pid} " in error
                assert words in error
    assert shell.points() == [data]
    assert len(shell.lines) == 1

    await shell.release(VOLUME)


async def test_a_process_of_a_container_that_uses_the_volume_is_named(shell: NodeShell, data: Path) -> None:
    script = f"exec 3>{data}/file; echo ready; sleep 600"

    async with running(shell, "unshare", "--mount", "--propagation=private", "sh", "-c", script) as process:
        assert f"process {process.pid} sh (open file {data}/file)" in await shell.refusal("release", VOLUME)

    assert shell.points() == [data]


async def test_a_copy_of_the_mount_in_a_container_is_named_and_the_repeat_finishes(
    shell: NodeShell, data: Path
) -> None:
    script = "echo ready; sleep 600"

    async with running(shell, "unshare", "--mount", "--propagation=private", "sh", "-c", script) as process:
        for _ in range(2):
            error = await shell.refusal("release", str(data), code=1)
            assert f"still mounted at {data} in the mount namespace of process {process.pid} sh" in error
            assert f"nsenter --mount --target {process.pid} umount {data}" in error
        assert not is_free(shell.node.loops[VOLUME])
        assert len(shell.lines) == 1

    assert (await shell.release(str(data)))["removedFromFstab"]
    assert is_free(shell.node.loops[VOLUME])


async def test_a_copy_in_a_namespace_that_follows_the_nodes_mounts_does_not_matter(
    shell: NodeShell, data: Path
) -> None:
    """mount_namespaces(7): services of systemd have namespaces whose mounts are slaves of the node's."""
    await shell.release(VOLUME)
    await shell.run("mount", "--make-rshared", "/")
    await shell.use(VOLUME, str(data))

    async with running(shell, "unshare", "--mount", "--propagation=slave", "sh", "-c", "echo ready; sleep 600"):
        await shell.release(VOLUME)

    assert is_free(shell.node.loops[VOLUME])


async def test_what_else_keeps_the_volume_busy_is_named(shell: NodeShell, data: Path) -> None:
    bind, below = shell.node.directory / "bind", data / "below"
    bind.mkdir()
    await shell.run("mkdir", str(below))
    await shell.run("mount", "--bind", str(data), str(bind))
    error = await shell.refusal("release", VOLUME)
    assert f"mounted at several places: {bind}, {data}" in error
    assert f"mounted at several places: {bind}, {data}" in await shell.refusal("release", str(data))
    await shell.run("umount", str(bind))
    await shell.run("mount", "-t", "tmpfs", "tmpfs", str(below))
    assert f"{below} is mounted below it" in await shell.refusal("release", VOLUME)
    await shell.run("umount", str(below))
    await shell.run("truncate", "--size=8M", str(data / "disk"))
    loop = (await shell.run("losetup", "--find", "--show", str(data / "disk"))).out.strip()
    error = await shell.refusal("release", VOLUME)
    await shell.run("losetup", "--detach", loop)
    assert f"loop device {Path(loop).name} shows its file {data}/disk" in error

    assert shell.points() == [data]
    await shell.release(VOLUME)


async def test_a_block_device_on_top_of_the_device_is_named(shell: NodeShell, data: Path) -> None:
    await shell.release(VOLUME)
    device = shell.node.link().resolve()
    loop = (await shell.run("losetup", "--find", "--show", "--read-only", str(device))).out.strip()

    error = await shell.refusal("release", VOLUME)
    refused = await shell.refusal("use", VOLUME, str(data))
    await command.run(["losetup", "--detach", loop])

    assert f"is in use by {Path(loop).name} on top of it" in error
    assert f"is in use by {Path(loop).name} on top of it" in refused
    await shell.release(VOLUME)


async def test_the_command_may_run_in_the_directory_that_it_releases(shell: NodeShell, data: Path) -> None:
    line = shell.command_line("release", ".")

    await shell.run("sh", "-c", 'cd "$0" && exec "$@"', str(data), *line)

    assert not shell.mounts()


async def test_a_frozen_filesystem_is_thawed_and_released(shell: NodeShell, data: Path) -> None:
    """fsfreeze(8): a frozen filesystem would stay in the kernel after its last unmount."""
    await shell.run("fsfreeze", "--freeze", str(data))

    await shell.release(VOLUME)

    assert is_free(shell.node.loops[VOLUME])


async def test_lines_of_others_in_fstab_stay(shell: NodeShell, data: Path) -> None:
    await shell.node.attach(OTHER, size=SMALL)
    other = shell.node.directory / "other"
    await shell.use(OTHER, str(other), "--persist")
    with shell.fstab.open("a") as file:
        file.write(f"/dev/sdz\t{data}/sub ext4\n\n# the end")

    await shell.release(VOLUME)

    assert VOLUME not in shell.fstab.read_text()
    assert OTHER in shell.lines[0]
    assert shell.lines[1:] == [f"/dev/sdz\t{data}/sub ext4", "", "# the end"]
    assert shell.points() == [other]


async def test_mounts_that_are_not_of_a_volume_are_refused(shell: NodeShell) -> None:
    directory = shell.node.directory / "tmpfs"
    directory.mkdir()
    await shell.run("mount", "-t", "tmpfs", "tmpfs", str(directory))

    assert "is not known as an EBS volume" in await shell.refusal("release", str(directory), code=2)
    await shell.refusal("release", "/", code=2)
    assert "does not exist" in await shell.refusal("release", str(directory / "absent"), code=2)
    assert "volume ids are" in await shell.refusal("release", "vol-x", code=1)


async def test_a_directory_of_the_volume_is_refused_with_the_directory_to_release(shell: NodeShell, data: Path) -> None:
    await shell.run("mkdir", str(data / "sub"))

    error = await shell.refusal("release", str(data / "sub"), code=2)

    assert f"which is mounted at {data}; release {data}" in error
    assert shell.points() == [data]


async def test_what_processes_are_called_does_not_reach_the_terminal(shell: NodeShell, data: Path) -> None:
    """Any user may put escape sequences into the name of a process or a file."""
    script = f"exec 3>{data}/$(printf '\\033[31mred') && echo ready && sleep 600"

    async with running(shell, "sh", "-c", script):
        error = await shell.refusal("release", VOLUME)

    assert "[31mred" in error
    assert "\033" not in error


async def test_a_dry_run_names_the_steps_and_changes_nothing(shell: NodeShell, data: Path) -> None:
    (line,) = shell.lines

    answer = await shell.release(str(data), "--dry-run")

    assert answer["volume"] == VOLUME
    assert answer["steps"] == [
        f"write the data back and unmount {data}",
        f"wait until nothing uses {shell.node.link().resolve()}",
        f"remove from /etc/fstab: {line}",
    ]
    assert shell.points() == [data]
    assert shell.lines == [line]


async def test_a_release_that_is_killed_at_any_line_is_finished_by_the_next(shell: NodeShell, data: Path) -> None:
    step = int(os.environ.get("KILL_EVERY_LINES", "331"))
    script = shell.node.directory / "killed.py"
    script.write_text(KILLED_AT_A_LINE)
    lines, killed = step, True
    while killed:
        await shell.use(VOLUME, str(data), "--persist")
        shell.environment["LINES_UNTIL_KILL"] = str(lines)
        what = VOLUME if lines // step % 2 else str(data)
        process = await shell.start(*shell.command_line("release", what, python=[str(script)]))
        await process.communicate()
        killed = process.returncode == -signal.SIGKILL

        await shell.release(what)

        assert not shell.mounts()
        assert not shell.lines
        assert is_free(shell.node.loops[VOLUME])
        lines += step


async def test_the_table_says_what_to_do_next(shell: NodeShell, data: Path) -> None:
    finished = await shell.volume("release", str(data))

    assert "REMOVED FROM FSTAB" in finished.out
    assert f"hyperpod-ebs volume detach {VOLUME}" in finished.out
