"""The emulator's reader of the kernel's mount table."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from hyperpod_ebs.emulator.disks import mountinfo


def line(point: bytes, *, optional: bytes = b"shared:1 ") -> bytes:
    """A line of mountinfo for a mount at `point`, with the fields in the order of proc_pid_mountinfo(5)."""
    return b"36 35 7:3 /root %s rw,noatime %s- ext4 /dev/loop3 rw,errors=continue\n" % (point, optional)


def escape(path: str) -> bytes:
    """The path as mangle_path in Linux's fs/seq_file.c writes it."""
    return b"".join(b"\\%03o" % byte if byte in b" \t\n\\" else bytes([byte]) for byte in path.encode())


def test_a_mounts_point_and_device_are_read() -> None:
    """proc_pid_mountinfo(5): spaces in paths are escaped."""
    (mount,) = mountinfo.mounts(line(rb"/mnt/a\040b"))

    assert mount == mountinfo.Mount(Path("/mnt/a b"), "7:3", 36)


@given(st.lists(st.text(st.characters(exclude_characters="\0/", exclude_categories=["Cs"]), min_size=1), min_size=1))
def test_any_file_name_in_a_mount_point_is_read_back(names: list[str]) -> None:
    """A file name may hold any byte except / and NUL (path_resolution(7)); the kernel escapes only four of them."""
    paths = [f"/{name}x" for name in names]

    mounts = mountinfo.mounts(b"".join(line(escape(path)) for path in paths))

    assert [mount.point for mount in mounts] == [Path(path) for path in paths]
