"""How a filesystem is to be made, as a StorageClass says it."""

import pytest

from hyperpod_ebs.driver.linux import mkfs
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.formatting import KEYS, SIZES, SWITCHES, Formatting

ALL = {**dict.fromkeys(SIZES, "4k"), **dict.fromkeys(SWITCHES, "true")}


def test_what_the_controller_says_the_node_reads() -> None:
    """Ours; in upstream's words, which are small."""
    said = Formatting.parse({"type": "gp3", **ALL})

    assert set(said.context()) == set(KEYS)
    assert Formatting.parse(said.context()) == said
    assert Formatting.parse({"storage.kubernetes.io/csiProvisionerIdentity": "x"}) == Formatting()


@pytest.mark.parametrize("filesystem", ["ext4", "xfs"])
def test_mkfs_knows_a_flag_for_each_thing_that_its_filesystem_has(filesystem: str) -> None:
    """Ours."""
    mine = {key: ALL[key] for key, kinds in {**SIZES, **SWITCHES}.items() if filesystem in kinds}
    said = Formatting.parse(mine)

    said.check(filesystem)

    assert len(mkfs.flags(filesystem, said)) == 2 * len(mine)


def test_a_switch_that_is_off_says_nothing() -> None:
    """Ours: false is what there is without it."""
    assert Formatting.parse(dict.fromkeys(SWITCHES, "False")) == Formatting()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"blockSize": "-b 4096"}, "blockSize is '-b 4096'"),
        ({"inodeSize": "0"}, "whole number"),
        ({"ext4BigAlloc": "yes"}, "true or false"),
        ({"blockSize": "1k", "blocksize": "2k"}, "given twice"),
        ({"ext4ClusterSize": "16384"}, "needs ext4BigAlloc"),
    ],
    ids=["a flag", "nothing", "no switch", "two spellings", "clusters without big allocation"],
)
def test_what_cannot_be_read_is_refused(given: dict[str, str], says: str) -> None:
    """Upstream's rules; and no value becomes a further argument of a program that root runs."""
    with pytest.raises(errors.InvalidRequest, match=says):
        Formatting.parse(given)


@pytest.mark.parametrize("filesystem", ["xfs", None])
def test_what_a_volume_cannot_have_is_refused_by_name(filesystem: str | None) -> None:
    """Upstream's matrix."""
    with pytest.raises(errors.InvalidRequest, match="bytesPerInode"):
        Formatting.parse({"bytesPerInode": "8192"}).check(filesystem)
