"""The lines of /etc/fstab that `volume use` writes, finds and removes: fstab(5)."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from hyperpod_ebs.access.volume.node import fstab
from hyperpod_ebs.driver.model.mount_options import MountOptions

VOLUME = "vol-0123456789abcdef0"
OTHER = "vol-0fedcba9876543210"
UUID = "0a1b2c3d-0000-4000-8000-000000000001"
OPTIONS = MountOptions.parse(["noatime,discard"])

names = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1).filter(
    lambda name: name not in {".", ".."}
)


def is_volume(source: str) -> bool:
    return source == f"UUID={UUID}"


def line(directory: Path = Path("/data")) -> str:
    return fstab.line_for(VOLUME, UUID, directory, "ext4", OPTIONS)


def test_a_line_has_the_uuid_and_nofail() -> None:
    assert line() == f"UUID={UUID} /data ext4 noatime,discard,nofail,x-hyperpod-ebs.volume={VOLUME} 0 2"


@given(names)
def test_a_directory_of_any_name_comes_back_from_its_line(name: str) -> None:
    directory = Path("/mnt") / name

    (entry,) = fstab.entries(f"{line(directory)}\n")

    assert entry.directory == str(directory)
    assert entry.volume_id == VOLUME
    assert entry.source == f"UUID={UUID}"


@given(st.text(st.characters(exclude_characters="\r", exclude_categories=["Cs"])))
def test_adding_and_removing_a_line_keeps_every_other_line(text: str) -> None:
    added = fstab.with_line(text, VOLUME, line())

    assert fstab.with_line(added, VOLUME, line()) == added
    assert fstab.without_lines(added, VOLUME).removesuffix("\n") == text.removesuffix("\n")


def test_a_new_line_replaces_the_old_line_of_the_volume() -> None:
    before = fstab.with_line("LABEL=root / ext4 defaults 0 1", VOLUME, line(Path("/old")))

    after = fstab.with_line(before, VOLUME, line())

    assert after == f"LABEL=root / ext4 defaults 0 1\n{line()}\n"


def test_lines_of_another_device_for_the_directory_and_of_the_volume_for_another_directory_contradict() -> None:
    others = (
        "/dev/sdb /data ext4 defaults 0 0",
        "/dev/sdb\t/data/ ext4",
        f"UUID={UUID} /other ext4 defaults 0 0",
        fstab.line_for(OTHER, "other", Path("/data"), "ext4", OPTIONS),
    )
    for other in others:
        assert fstab.contradiction(f"# data\n{other}\n", VOLUME, Path("/data"), is_volume), other


def test_comments_other_devices_and_the_same_mount_do_not_contradict() -> None:
    others = (
        "#/dev/sdb /data ext4 defaults 0 0",
        "/dev/sdb /other ext4 defaults 0 0",
        "/dev/sdb none swap sw 0 0",
        f"UUID={UUID} /data ext4 defaults 0 0",
        fstab.line_for(VOLUME, "old", Path("/old"), "ext4", OPTIONS),
    )
    for other in others:
        assert fstab.contradiction(f"{other}\n", VOLUME, Path("/data"), is_volume) is None, other
