"""What `--legacy-xfs` changes."""

from hyperpod_ebs.driver.linux import mkfs


def test_other_filesystems_are_made_as_without_the_flag() -> None:
    """Upstream's flag is for XFS alone."""
    assert mkfs.LEGACY["ext4"] == mkfs.PROGRAMS["ext4"]
