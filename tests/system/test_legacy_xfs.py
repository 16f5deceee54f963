"""`--legacy-xfs` as mkfs.xfs carries it out."""

import re
from pathlib import Path

from hyperpod_ebs.driver.linux import mkfs
from hyperpod_ebs.kit import command


async def test_a_legacy_xfs_has_no_feature_that_old_kernels_refuse(tmp_path: Path) -> None:
    """Upstream's --legacy-xfs: kernels up to 5.4 mount none of these features."""
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(512 << 20)

    await command.run([*mkfs.LEGACY["xfs"], str(image)])
    features = (await command.run(["xfs_db", "-r", "-c", "version", str(image)])).out

    assert not re.search("REFLINK|BIGTIME|INOBTCNT|NREXT64", features)
