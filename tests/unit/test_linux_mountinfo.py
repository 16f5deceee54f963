from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from hyperpod_ebs.driver.linux import mountinfo
from hyperpod_ebs.driver.model.disk import DeviceNumber

LINE = rb"36 35 98:0 /sub\040dir /mnt/a\011b rw,noatime shared:1 master:2 - ext4 /dev/x rw,errors=continue"


def line(*, number: int, parent: int, point: bytes, root: bytes = b"/") -> bytes:
    return b"%d %d 259:3 %s %s rw,relatime - ext4 /dev/nvme1n1 rw\n" % (number, parent, root, point)


def escape(path: str) -> bytes:
    """A path as the kernel's mangle() in fs/proc_namespace.c writes it."""
    return b"".join(b"\\%03o" % byte if byte in b" \t\n\\" else bytes([byte]) for byte in path.encode())


def test_each_field_is_parsed() -> None:
    """proc_pid_mountinfo(5): optional fields end at a lone dash, paths are escaped."""
    (mounted,) = mountinfo.parse(LINE + b"\n")

    assert mounted.number == DeviceNumber(98, 0)
    assert (mounted.root, mounted.mount_point) == ("/sub dir", Path("/mnt/a\tb"))
    assert mounted.options == {"rw", "noatime"}
    assert (mounted.filesystem, mounted.source) == ("ext4", "/dev/x")
    assert mounted.super_options == {"rw", "errors=continue"}


def test_an_option_may_contain_commas_in_quotes() -> None:
    """security/selinux/hooks.c, selinux_sb_show_options: a context with a comma is in quotes."""
    context = b'rw,seclabel,context="system_u:object_r:container_file_t:s0:c1,c2"'
    (mounted,) = mountinfo.parse(LINE.replace(b"rw,errors=continue", context))

    assert mounted.super_options == set(context.decode().split(",", 2))


@given(st.text(st.characters(exclude_characters="\0/", exclude_categories=["Cs"]), min_size=1).map("/{}x".format))
def test_any_path_survives_the_kernels_escapes(path: str) -> None:
    """A pod's path may contain any character that a file name may."""
    (mounted,) = mountinfo.parse(line(number=2, parent=1, point=escape(path), root=escape(path)))

    assert mounted.mount_point == Path(path)
    assert mounted.root == path


@given(st.permutations(range(2, 7)))
def test_a_stack_is_ordered_by_the_mounts_parents_and_not_by_the_order_of_lines(order: list[int]) -> None:
    """Linux 6.8 and later sort the table by mount id, and the kernel reuses ids."""
    ids = [10, 90, 20, 80, 30]
    lines = {at: line(number=ids[at - 2], parent=[1, *ids][at - 2], point=b"/p") for at in range(2, 7)}

    stack = mountinfo.stack(mountinfo.parse(b"".join(lines[at] for at in order)), ids[-1])

    assert [mounted.id for mounted in stack] == ids


def test_a_mount_at_another_path_is_not_part_of_a_stack() -> None:
    table = mountinfo.parse(line(number=2, parent=1, point=b"/p") + line(number=3, parent=2, point=b"/p/below"))

    assert [mounted.id for mounted in mountinfo.stack(table, 2)] == [2]
    assert [mounted.id for mounted in mountinfo.stack(table, 3)] == [3]
    assert mountinfo.stack(table, 4) == ()


def test_a_line_is_parsed_once() -> None:
    """A node may have thousands of mounts, of which few change."""
    table = mountinfo.MountTable()
    before = {id(mounted) for mounted in table.read()}

    assert before & {id(mounted) for mounted in table.read()}
    assert before & {id(mounted) for mounted in table.read_if_changed()}
