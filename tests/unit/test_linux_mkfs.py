"""What `--legacy-xfs` changes."""

from hyperpod_ebs.driver.linux import mkfs


def test_the_flag_changes_nothing_for_ext4() -> None:
    """Upstream's flag is for XFS alone."""
    assert mkfs.LEGACY["ext4"] == mkfs.PROGRAMS["ext4"]
