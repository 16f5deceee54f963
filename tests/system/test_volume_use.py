"""`hyperpod-ebs volume use`, as a process on a node with real devices."""

import asyncio
import json
import os
import signal
import zlib
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from hyperpod_ebs.driver.linux import marker
from hyperpod_ebs.kit import command
from tests.support import blkid_signatures
from tests.support.loop_device_node import OTHER, VOLUME
from tests.support.node_shell import KILLED_AT_A_LINE, NodeShell
from tests.support.paused_program import PausedProgram

pytestmark = pytest.mark.root

MIB = 2**20
SMALL = 64 * MIB
LARGE_ENOUGH_FOR_XFS = 512 * MIB


@pytest.fixture
async def shell(tmp_path: Path) -> AsyncGenerator[NodeShell]:
    async with NodeShell.create(tmp_path) as running:
        yield running


@pytest.fixture
def data(shell: NodeShell) -> Path:
    return shell.node.directory / "data"


def digest(image: Path) -> int:
    return zlib.crc32(image.read_bytes())


def marker_block(image: Path) -> bytes:
    """The block that has a marker while the driver's mkfs is in progress."""
    with image.open("rb") as file:
        file.seek(marker.offset(image.stat().st_size))
        return file.read(4096)


async def uuid_of(loop: Path) -> str:
    return (await command.run(["blkid", "-p", "-o", "value", "-s", "UUID", str(loop)])).out.strip()


@pytest.mark.parametrize("filesystem", ["ext4", "xfs"])
async def test_a_blank_volume_gets_a_filesystem_and_is_mounted(shell: NodeShell, data: Path, filesystem: str) -> None:
    await shell.node.attach(size=LARGE_ENOUGH_FOR_XFS)

    done = await shell.use(VOLUME, str(data), "--filesystem", filesystem, "--options", "noatime")

    assert done["filesystem"] == filesystem
    assert done["madeFilesystem"]
    assert not done["wasMounted"]
    (mount,) = shell.mounts()
    assert (mount.mount_point, mount.filesystem) == (data, filesystem)
    assert "noatime" in mount.options
    assert not shell.lines
    await shell.run("touch", str(data / "file"))


async def test_a_repeated_use_succeeds_and_changes_nothing(shell: NodeShell, data: Path) -> None:
    await shell.node.attach(size=SMALL)
    await shell.use(VOLUME, str(data), "--persist")
    before = shell.fstab.stat().st_ino

    done = await shell.use(VOLUME, str(data), "--persist")

    assert done["wasMounted"]
    assert not done["madeFilesystem"]
    assert len(shell.mounts()) == 1
    assert shell.fstab.stat().st_ino == before


async def test_the_line_in_fstab_mounts_the_volume_by_its_uuid_and_keeps_mode_and_owner(
    shell: NodeShell, data: Path
) -> None:
    """fstab(5). Only its owner and group may read this fstab."""
    loop = await shell.node.attach(size=SMALL)
    os.chown(shell.fstab, 1, 2)
    shell.fstab.chmod(0o640)

    await shell.use(VOLUME, str(data), "--options", "noatime", "--persist")

    assert shell.lines == [f"UUID={await uuid_of(loop)} {data} ext4 noatime,nofail,x-hyperpod-ebs.volume={VOLUME} 0 2"]
    found = shell.fstab.stat()
    assert (found.st_mode & 0o7777, found.st_uid, found.st_gid) == (0o640, 1, 2)
    assert sorted(shell.fstab.parent.glob(".fstab*")) == []
    await shell.run("umount", str(data))
    await shell.run("env", "BLKID_FILE=/dev/null", "mount", str(data))
    assert shell.points() == [data]


@pytest.mark.parametrize(
    "name", ["with space", "tab\tand \\ backslash", "Größe #1 \N{NO-BREAK SPACE}x", "-o", "quote'\"$HOME;%n"]
)
async def test_directories_may_have_unusual_names(shell: NodeShell, name: str) -> None:
    await shell.node.attach(size=SMALL)
    directory = shell.node.directory / name

    await shell.use(VOLUME, str(directory), "--persist")
    await shell.run("umount", str(directory))
    await shell.run("env", "BLKID_FILE=/dev/null", "mount", "--all", "--types", "ext4", "--test-opts", "nofail")

    assert shell.points() == [directory]
    assert (await shell.release(str(directory)))["removedFromFstab"]
    assert not shell.lines


async def test_a_directory_may_have_a_name_that_is_not_text(shell: NodeShell) -> None:
    await shell.node.attach(size=SMALL)
    directory = os.fsdecode(os.fsencode(shell.node.directory) + b"/\xff \x1b[31m")

    finished = await shell.volume("use", VOLUME, directory, "--persist")

    assert "\033" not in finished.out
    assert shell.points() == [Path(directory)]
    await shell.run("umount", directory)
    await shell.run("env", "BLKID_FILE=/dev/null", "mount", directory)
    await shell.volume("release", directory)
    assert VOLUME not in shell.fstab.read_bytes().decode(errors="replace")


async def test_systemd_reads_a_changed_fstab(shell: NodeShell, data: Path) -> None:
    """systemd-fstab-generator(8): systemd translates fstab into units at boot and when it is reloaded."""
    await shell.node.attach(size=SMALL)
    shims, calls = shell.node.directory / "shims", shell.node.directory / "calls"
    shims.mkdir()
    (shims / "systemctl").write_text(f'#!/bin/sh\necho "$@" >> {calls}\n')
    (shims / "systemctl").chmod(0o755)
    shell.environment["PATH"] = f"{shims}:{os.environ['PATH']}"
    await shell.run("mount", "-t", "tmpfs", "tmpfs", "/run")
    await shell.run("mkdir", "-p", "/run/systemd/system")

    await shell.use(VOLUME, str(data))
    assert not calls.exists()
    await shell.use(VOLUME, str(data), "--persist")
    await shell.use(VOLUME, str(data), "--persist")
    await shell.release(VOLUME)

    assert calls.read_text() == "daemon-reload\n" * 2


async def test_a_symbolic_link_is_followed_before_anything_is_changed(shell: NodeShell, data: Path) -> None:
    await shell.node.attach(size=SMALL)
    data.mkdir()
    link = shell.node.directory / "link"
    link.symlink_to("data")

    await shell.use(VOLUME, str(link), "--persist")

    assert shell.points() == [data]
    assert f" {data} " in shell.lines[0]
    assert (await shell.use(VOLUME, str(link), "--persist"))["wasMounted"]
    assert len(shell.lines) == 1


async def test_a_volume_with_files_keeps_them_and_may_be_mounted_read_only(shell: NodeShell, data: Path) -> None:
    await shell.node.attach(size=LARGE_ENOUGH_FOR_XFS)
    await shell.use(VOLUME, str(data), "--filesystem", "xfs")
    await shell.run("touch", str(data / "file"))
    await shell.release(VOLUME)

    done = await shell.use(VOLUME, str(data), "--read-only")

    assert not done["madeFilesystem"]
    assert done["filesystem"] == "xfs"
    assert (await shell.run("ls", str(data))).out == "file\n"
    assert "ro" in shell.mounts()[0].options
    assert "with other options" in await shell.refusal("use", VOLUME, str(data))


async def test_a_full_filesystem_is_usable(shell: NodeShell, data: Path) -> None:
    await shell.node.attach(size=16 * MIB)
    await shell.use(VOLUME, str(data))
    await shell.run("dd", "if=/dev/zero", f"of={data}/file", "bs=1M", ok=frozenset({1}))
    await shell.release(VOLUME)

    done = await shell.use(VOLUME, str(data), "--persist")

    assert done["persisted"]


@pytest.mark.requirement("data.format-only-blank")
async def test_what_is_neither_ext4_nor_xfs_is_refused_and_named(shell: NodeShell, data: Path) -> None:
    """An LVM physical volume, a partition table, raw data, and swap space."""
    cases = {
        "LVM2_member": blkid_signatures.SIGNATURES["LVM2_member"](),
        "a partition table (gpt); this command mounts whole volumes only": blkid_signatures.PARTITION_TABLES["gpt"](),
        "unrecognised data at byte": {MIB + 50_000: b"a user's data"},
    }
    for number, (words, image) in enumerate(cases.items()):
        volume_id = f"vol-{number:08x}"
        await shell.node.attach(volume_id, size=blkid_signatures.SIZE)
        blkid_signatures.write(shell.node.image(volume_id), image)
        before = digest(shell.node.image(volume_id))

        error = await shell.refusal("use", volume_id, str(data), "--persist")

        assert f"holds {words}" in error
        assert digest(shell.node.image(volume_id)) == before
    loop = await shell.node.attach(size=SMALL)
    await command.run(["mkswap", str(loop)])
    assert "holds swap, which is neither ext4 nor xfs" in await shell.refusal("use", VOLUME, str(data))
    assert not shell.mounts()
    assert not shell.lines
    assert not data.exists()


async def test_an_ext4_without_its_magic_is_refused_with_the_way_to_recover_it(shell: NodeShell, data: Path) -> None:
    await shell.node.attach(size=SMALL)
    await shell.use(VOLUME, str(data))
    await shell.release(VOLUME)
    with shell.node.image().open("r+b") as image:
        image.seek(1024 + 0x38)
        image.write(b"\0\0")
    before = digest(shell.node.image())

    error = await shell.refusal("use", VOLUME, str(data))

    assert "not overwritten" in error or "e2fsck" in error
    assert digest(shell.node.image()) == before


async def test_a_damaged_filesystem_is_repaired_and_a_small_one_reported(shell: NodeShell, data: Path) -> None:
    """e2fsck(8): an ext4 that has found errors in itself is not to be mounted before a check."""
    loop = await shell.node.attach(size=SMALL)
    await shell.use(VOLUME, str(data))
    await shell.release(VOLUME)
    await command.run(["debugfs", "-w", "-R", "set_super_value state 2", str(loop)])
    await shell.node.resize(4 * SMALL)

    finished = await shell.volume("use", VOLUME, str(data))

    assert "checking ext4" in finished.err
    assert 'make it as large with "resize2fs' in finished.err
    assert (await command.run(["dumpe2fs", "-h", str(loop)])).out.count("with errors") == 0


async def test_an_existing_filesystem_of_another_kind_is_refused(shell: NodeShell, data: Path) -> None:
    await shell.node.attach(size=SMALL)
    await shell.use(VOLUME, str(data))
    await shell.release(VOLUME)

    assert "holds ext4, not xfs; use --filesystem ext4" in await shell.refusal(
        "use", VOLUME, str(data), "--filesystem", "xfs"
    )
    assert "make one" not in await shell.refusal("use", VOLUME, str(data), "--filesystem", "xfs", "--read-only")


async def test_wrong_places_are_refused_before_the_volume_is_changed(shell: NodeShell, data: Path) -> None:
    await shell.node.attach(size=SMALL)
    await shell.node.attach(OTHER, size=SMALL)
    before = digest(shell.node.image())
    data.mkdir()
    (data / "file").touch()
    file = data / "file"
    other = shell.node.directory / "other"
    await shell.use(OTHER, str(other))
    cases = {
        str(data): "is not empty, and a mount would hide its files, such as 'file'",
        str(file): "it is not a directory",
        str(shell.node.directory / "absent" / "data"): "absent is absent; create it with",
        str(other): f"not of volume {VOLUME}",
    }
    for directory, words in cases.items():
        assert words in await shell.refusal("use", VOLUME, directory, "--persist")
    for directory in ("/", str(shell.node.directory / "kubelet" / "x")):
        await shell.refusal("use", VOLUME, directory, code=2)

    assert digest(shell.node.image()) == before
    assert not shell.lines


async def test_a_volume_that_is_mounted_elsewhere_is_refused(shell: NodeShell, data: Path) -> None:
    await shell.node.attach(size=SMALL)
    await shell.use(VOLUME, str(data))

    error = await shell.refusal("use", VOLUME, str(shell.node.directory / "second"))

    assert f"is mounted at {data} already; release it there first" in error


async def test_a_volume_that_is_mounted_in_another_mount_namespace_is_refused(shell: NodeShell, data: Path) -> None:
    loop = await shell.node.attach(size=SMALL)
    await command.run(["mkfs.ext4", "-q", str(loop)])
    data.mkdir()
    await command.run(["mount", str(loop), str(data)])  # in the namespace of the test

    error = await shell.refusal("use", VOLUME, str(shell.node.directory / "second"))

    assert f"is mounted at {data} in the mount namespace of process" in error


async def test_a_volume_of_kubernetes_is_refused_unless_the_caller_insists(shell: NodeShell, data: Path) -> None:
    """Kubernetes, pkg/volume/csi: kubelet's vol_data.json, and its mounts below its root directory."""
    await shell.node.attach(size=SMALL)
    before = digest(shell.node.image())
    staging = shell.node.directory / "kubelet/plugins/kubernetes.io/csi/ebs.csi.aws.com/0a1b"
    staging.mkdir(parents=True)
    record = {"volumeHandle": VOLUME, "driverName": "ebs.csi.aws.com", "specVolID": "pvc-1234"}
    (staging / "vol_data.json").write_text(json.dumps(record))

    assert "kubelet has it as persistent volume pvc-1234" in await shell.refusal("use", VOLUME, str(data))
    (staging / "vol_data.json").unlink()
    await shell.node.attach(OTHER, size=SMALL)
    await shell.run("mkfs.ext4", "-q", str(shell.node.loops[OTHER]))
    (staging / "globalmount").mkdir()
    await shell.run("mount", str(shell.node.loops[OTHER]), str(staging / "globalmount"))
    assert f"it is mounted at {staging}/globalmount" in await shell.refusal("use", OTHER, str(data))
    assert f"it is mounted at {staging}/globalmount" in await shell.refusal("release", OTHER)
    (staging / "vol_data.json").write_text(json.dumps(record))
    assert digest(shell.node.image()) == before

    await shell.use(VOLUME, str(data), "--even-though-kubernetes-manages-it")

    assert data in shell.points()
    assert "persistent volume pvc-1234" in await shell.refusal("release", VOLUME)
    await shell.release(VOLUME, "--even-though-kubernetes-manages-it")


async def test_a_device_that_is_not_the_volume_is_never_opened(shell: NodeShell, data: Path) -> None:
    """AWS's guide, Considerations: local NVMe disks of a HyperPod node must not be touched."""
    loop = await shell.node.attach(size=SMALL)
    link = shell.node.link()
    disk = link.resolve()
    link.unlink()

    error = await shell.refusal(
        "use", VOLUME, str(data), "--device-name", f"/dev/{disk.name}", "--timeout", "0.2", code=1
    )

    assert f"no device of volume {VOLUME} appeared" in error
    assert await command.run(["blkid", "-p", str(loop)], ok=frozenset({2}))


async def test_a_xen_disk_is_found_by_the_name_of_its_attachment(shell: NodeShell, data: Path) -> None:
    """EC2 user guide, Device names: Linux names the disk of /dev/sdf xvdf."""
    await shell.node.attach(size=SMALL)
    link = shell.node.link()
    link.resolve().rename(shell.node.directory / "dev" / "xvdf")
    link.unlink()

    await shell.use(VOLUME, str(data), "--device-name", "/dev/sdf")

    assert shell.points() == [data]
    assert "is not known as an EBS volume" in await shell.refusal("release", str(data), code=2)
    assert "repeat the command with --device-name" in await shell.refusal("release", VOLUME, code=2)
    await shell.release(VOLUME, "--device-name", "/dev/sdf")
    assert not shell.mounts()


async def test_use_waits_for_the_device_of_a_volume_that_is_being_attached(shell: NodeShell, data: Path) -> None:
    process = await shell.start(*shell.command_line("use", VOLUME, str(data), "--output", "json"))
    assert process.stderr
    assert b"waiting for it" in await process.stderr.readline()

    await shell.node.attach(size=SMALL)
    out, _ = await process.communicate()

    assert json.loads(out)["madeFilesystem"]


async def test_conflicting_lines_in_fstab_are_refused_before_the_volume_is_changed(
    shell: NodeShell, data: Path
) -> None:
    loop = await shell.node.attach(size=SMALL)
    before = digest(shell.node.image())
    with shell.fstab.open("a") as file:
        file.write(f"/dev/sdz {data} ext4 defaults 0 0\n")

    error = await shell.refusal("use", VOLUME, str(data), "--persist")

    assert f"line 3: /dev/sdz {data}" in error
    assert digest(shell.node.image()) == before
    await shell.use(VOLUME, str(data))
    shell.fstab.write_text(f"UUID={await uuid_of(loop)} /elsewhere ext4 defaults 0 0\n")
    assert "/elsewhere" in await shell.refusal("use", VOLUME, str(data), "--persist")
    by_hand = f"UUID={await uuid_of(loop)} {data} ext4 defaults 0 0\n"
    shell.fstab.write_text(by_hand)
    assert (await shell.use(VOLUME, str(data), "--persist"))["wasMounted"]
    assert shell.fstab.read_text() == by_hand


async def test_a_restored_snapshot_next_to_its_source_is_not_persisted_by_the_shared_uuid(
    shell: NodeShell, data: Path
) -> None:
    await shell.node.attach(size=LARGE_ENOUGH_FOR_XFS)
    await shell.use(VOLUME, str(data), "--filesystem", "xfs")
    await command.run(["cp", "--sparse=always", str(shell.node.image()), str(shell.node.image(OTHER))])
    await shell.node.attach(OTHER)
    restored = shell.node.directory / "restored"

    error = await shell.refusal("use", OTHER, str(restored), "--persist")

    assert "has the same UUID" in error
    await shell.use(OTHER, str(restored))
    assert sorted(shell.points()) == [data, restored]


@pytest.mark.parametrize("trouble", ["full", "read-only"])
async def test_fstab_that_cannot_be_written_leaves_no_mount(shell: NodeShell, data: Path, trouble: str) -> None:
    await shell.node.attach(size=SMALL)
    etc = shell.fstab.parent
    small = shell.node.directory / "small"
    small.mkdir()
    await shell.run("mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(small))
    await shell.run("cp", str(shell.fstab), "/etc/mke2fs.conf", str(small))
    if trouble == "full":
        await shell.run("dd", "if=/dev/zero", f"of={small}/file", ok=frozenset({1}))
    else:
        await shell.run("mount", "-o", "remount,ro", str(small))
    await shell.run("mount", "--bind", str(small), "/etc")

    error = await shell.refusal("use", VOLUME, str(data), "--persist", code=1 if trouble == "full" else 3)

    assert "No space left on device" in error if trouble == "full" else "is read-only" in error
    assert data not in shell.points()
    assert not data.exists()
    assert (await shell.run("ls", "-A", "/etc")).out.split() == sorted(
        {"fstab", "mke2fs.conf", *(["file"] if trouble == "full" else [])}
    )
    await shell.run("umount", "/etc")
    await shell.run("umount", str(small))
    assert etc.exists()
    assert (await shell.use(VOLUME, str(data), "--persist"))["persisted"]


async def test_fstab_that_is_a_mount_of_its_own_is_refused_first(shell: NodeShell, data: Path) -> None:
    """As in a container: rename(2) does not replace a mount point."""
    await shell.node.attach(size=SMALL)
    await shell.run("mount", "--bind", "/etc/fstab", "/etc/fstab")

    error = await shell.refusal("use", VOLUME, str(data), "--persist")

    assert "it is a mount of its own" in error
    await shell.run("umount", "/etc/fstab")
    assert (await shell.use(VOLUME, str(data), "--persist"))["madeFilesystem"]


async def test_two_at_the_same_time_make_one_filesystem_and_one_mount(shell: NodeShell, data: Path) -> None:
    await shell.node.attach(size=SMALL)

    async with asyncio.TaskGroup() as group:
        calls = [group.create_task(shell.use(VOLUME, str(data), "--persist")) for _ in range(3)]

    answers = [call.result() for call in calls]
    assert sum(answer["madeFilesystem"] for answer in answers) == 1
    assert shell.points() == [data]
    assert len(shell.lines) == 1


@pytest.mark.parametrize("filesystem", ["ext4", "xfs"])
async def test_a_use_that_is_killed_during_mkfs_is_finished_by_the_next(
    shell: NodeShell, data: Path, filesystem: str
) -> None:
    """The orphaned mkfs keeps the lock of the device; what it leaves is recognised by the driver's marker."""
    await shell.node.attach(size=LARGE_ENOUGH_FOR_XFS)
    paused = PausedProgram.create(shell.node.directory, f"mkfs.{filesystem}")
    shell.environment["PATH"] = paused.path
    words = ("use", VOLUME, str(data), "--filesystem", filesystem, "--persist")
    process = await shell.start(*shell.command_line(*words))

    await paused.wait_until_paused()
    process.send_signal(signal.SIGKILL)
    await process.communicate()
    error = await shell.refusal(*words, "--timeout", "0", code=1)
    assert "in use by another program, possibly an mkfs" in error
    paused.send(signal.SIGKILL)
    del shell.environment["PATH"]

    done = await shell.use(*words[1:])

    assert done["madeFilesystem"]
    assert shell.points() == [data]
    assert not marker_block(shell.node.image()).strip(b"\0")


async def test_a_use_that_is_killed_at_any_line_is_finished_by_the_next(shell: NodeShell, data: Path) -> None:
    script = shell.node.directory / "killed.py"
    script.write_text(KILLED_AT_A_LINE)
    step = int(os.environ.get("KILL_EVERY_LINES", "331"))
    lines, killed = step, True
    while killed:
        volume_id = f"vol-{lines:08x}"
        loop = await shell.node.attach(volume_id, size=64 * MIB)
        shell.environment["LINES_UNTIL_KILL"] = str(lines)
        argv = shell.command_line("use", volume_id, str(data), "--persist", python=[str(script)])
        process = await shell.start(*argv)
        await process.communicate()
        killed = process.returncode == -signal.SIGKILL

        await shell.use(volume_id, str(data), "--persist")

        assert shell.points() == [data]
        assert [line.split()[0] for line in shell.lines] == [f"UUID={await uuid_of(loop)}"]
        await shell.release(volume_id)
        assert not shell.lines
        await shell.node.detach(volume_id)
        lines += step


async def test_a_dry_run_says_what_would_be_done_and_changes_nothing(shell: NodeShell, data: Path) -> None:
    await shell.node.attach(size=SMALL)
    before = digest(shell.node.image())

    answer = await shell.use(VOLUME, str(data), "--persist", "--dry-run")

    first, second, third = answer["steps"]
    assert "make ext4" in first
    assert f"at {data} with options relatime" in second
    assert "nofail" in third
    assert digest(shell.node.image()) == before
    assert not shell.mounts()
    assert not shell.lines
    assert not data.exists()


async def test_ctrl_c_during_mkfs_ends_cleanly_and_a_repeat_finishes(shell: NodeShell, data: Path) -> None:
    await shell.node.attach(size=SMALL)
    paused = PausedProgram.create(shell.node.directory, "mkfs.ext4")
    shell.environment["PATH"] = paused.path
    process = await shell.start(*shell.command_line("use", VOLUME, str(data)))

    await paused.wait_until_paused()
    process.send_signal(signal.SIGINT)
    _, err = await process.communicate()

    assert process.returncode == 130
    assert b"interrupted; repeat the command" in err
    assert b"Traceback" not in err
    del shell.environment["PATH"]
    assert (await shell.use(VOLUME, str(data)))["madeFilesystem"]


async def test_another_user_than_root_is_refused(shell: NodeShell, data: Path) -> None:
    argv = shell.command_line("use", VOLUME, str(data))

    finished = await shell.run("setpriv", "--reuid=65534", "--clear-groups", *argv, ok=frozenset({1}))

    assert "must run as root" in finished.err


async def test_wrong_arguments_change_nothing(shell: NodeShell, data: Path) -> None:
    await shell.node.attach(size=SMALL)

    assert "volume ids are" in await shell.refusal("use", "vol-1", str(data), code=1)
    assert "not supported" in await shell.refusal("use", VOLUME, str(data), "--options", "bind", code=2)
    await shell.refusal("use", VOLUME, str(data), "--filesystem", "btrfs", code=2)

    assert not data.exists()


async def test_no_aws_sdk_is_loaded(shell: NodeShell, data: Path) -> None:
    await shell.node.attach(size=SMALL)
    script = shell.node.directory / "modules.py"
    script.write_text(
        "import sys\nfrom hyperpod_ebs import cli\nassert cli.run(sys.argv[1:]) == 0\n"
        "print([name for name in sys.modules if 'botocore' in name or 'driver.aws' in name], file=sys.stderr)\n"
    )

    finished = await shell.run(*shell.command_line("use", VOLUME, str(data), python=[str(script)]))

    assert finished.err.splitlines()[-1] == "[]"
