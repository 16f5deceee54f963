"""What is made for old kernels."""

import re
from pathlib import Path

from hyperpod_ebs.driver.linux import mkfs
from hyperpod_ebs.kit import command


async def test_an_xfs_for_old_kernels_has_none_of_what_they_do_not_know(tmp_path: Path) -> None:
    """Upstream's --legacy-xfs: kernels up to 5.4 mount neither."""
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(512 << 20)

    await command.run([*mkfs.LEGACY["xfs"], str(image)])
    features = (await command.run(["xfs_db", "-r", "-c", "version", str(image)])).out

    assert not re.search("REFLINK|BIGTIME|INOBTCNT|NREXT64", features)


def test_of_other_filesystems_nothing_is_changed() -> None:
    """Upstream's flag is XFS's alone."""
    assert mkfs.LEGACY["ext4"] == mkfs.PROGRAMS["ext4"]
