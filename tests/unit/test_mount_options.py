"""Mount options are parsed once, as mount(8) and the kernel resolve them; an unsupported option is named."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperpod_ebs.driver.model import mount_options
from hyperpod_ebs.driver.model.mount_options import ACCESS_TIMES, MountOptions


@pytest.mark.parametrize(
    ("given_options", "as_argument"),
    [
        ([], ""),
        (["noatime,nodiratime", "", ",,"], "noatime,nodiratime"),
        (["ro", "rw"], ""),
        (["rw,ro"], "ro"),
        (["user", "exec"], "nodev,nosuid"),
        (["exec,user"], "nodev,noexec,nosuid"),
        (["group"], "nodev,nosuid"),
        (["noatime", "relatime"], "noatime"),
        (["strictatime", "noatime"], "strictatime"),
        (["noatime", "atime"], ""),
        (["sync", "async", "dirsync"], "dirsync"),
        (["defaults", "_netdev", "nofail", "x-systemd.automount", "X-mount.mkdir=0700", "comment=a"], ""),
        (["data=journal", "ro", "data=ordered"], "ro,data=journal,data=ordered"),
        (['context="a:b:c:s0:c1,c2",noatime'], 'noatime,context="a:b:c:s0:c1,c2"'),
    ],
)
def test_options_are_resolved_in_the_order_given(given_options: list[str], as_argument: str) -> None:
    """mount(8), FILESYSTEM-INDEPENDENT MOUNT OPTIONS; fs/namespace.c, path_mount, for the access times."""
    parsed = MountOptions.parse(given_options)

    assert (str(parsed), parsed.refusal) == (as_argument, "")


@pytest.mark.parametrize(("options", "read_only"), [("", False), ("ro", True), ("ro,rw", False), ("rw,ro", True)])
def test_the_last_of_ro_and_rw_decides(options: str, *, read_only: bool) -> None:
    """A volume that is mounted for writing is formatted and checked; one that is mounted read-only is not."""
    assert MountOptions.parse([options]).read_only == read_only


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        ("loop", "another device"),
        ("logdev=/dev/a", "a device other than"),
        ("remount", "another mount"),
        ("rslave", "shared with pods"),
        ("uhelper=a", "another program"),
        ("abort", "every write"),
        ("X-mount.idmap=a", "what is mounted"),
        ("x-mount.subdir=a", "what is mounted"),
        ("verity.roothash=a", "another device"),
        ("ro=vfs", "takes no value"),
        ("noatime, ro", "has a space"),
        ('context="a', "a quote"),
        ('data="journal"', "a quote"),
        ("a\0b", "a control character"),
    ],
)
@pytest.mark.requirement("mount.own-device")
def test_an_option_that_the_driver_does_not_support_is_named(option: str, reason: str) -> None:
    """mount(8), ext4(5), xfs(5): these options do something other than mount the volume here."""
    refusal = MountOptions.parse(["noatime", option]).refusal

    assert repr(option.rsplit(",", maxsplit=1)[-1]) in refusal
    assert reason in refusal


def test_options_are_as_long_as_the_kernel_reads_them() -> None:
    """mount(2), data: a page; the kernel ignores the rest without an error."""
    assert not MountOptions.parse(["a" * 4000]).refusal
    assert "4002 bytes" in MountOptions.parse(["ä" * 2000, "b"]).refusal
    assert len(MountOptions.parse(["loop=" + "a" * 3000]).refusal) < 300


def test_options_without_end_are_refused_unread() -> None:
    """CWE-400: a text of megabytes must not stop the node process."""
    refusal = MountOptions.parse(["a b," + 100_000 * "ro,"]).refusal

    assert "300004 bytes" in refusal


@given(st.lists(st.text(st.sampled_from('ro,nw="atimes\\ x')), max_size=5))
def test_any_text_is_parsed(texts: list[str]) -> None:
    """No text is an internal error, and mount(8) splits the accepted options as the parser did."""
    parsed = MountOptions.parse(texts)

    assert len(parsed.flags & ACCESS_TIMES) <= 1
    if not parsed.refusal:
        assert mount_options.split(str(parsed)) == [*sorted(parsed.flags), *parsed.of_filesystem]
        assert MountOptions.parse([str(parsed)]) == parsed


@pytest.mark.parametrize(
    "option",
    [
        "defaults",
        "auto",
        "noauto",
        "nofail",
        "_netdev",
        "nouser",
        "nousers",
        "noowner",
        "nogroup",
        "comment=x",
        "seclabel",
        "x-systemd.a",
        "X-b=c",
    ],
)
def test_an_option_for_other_programs_is_left_out(option: str) -> None:
    """mount(8), "FILESYSTEM-INDEPENDENT MOUNT OPTIONS": it changes what fstab's readers do."""
    assert MountOptions.parse([option, "noexec"]) == MountOptions.parse(["noexec"])
