"""Options for creating a filesystem, from a StorageClass."""

import pytest

from hyperpod_ebs.driver.linux import mkfs
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.formatting import KEYS, NUMBERS, SWITCHES, Formatting

ALL = {**dict.fromkeys(NUMBERS, "4k"), **dict.fromkeys(SWITCHES, "true")}


def test_the_node_reads_the_options_that_the_controller_writes() -> None:
    """Upstream writes the keys in lower case into the volume context; each driver reads the other's volumes."""
    formatting = Formatting.parse({"type": "gp3", **ALL})

    assert set(formatting.context()) == set(KEYS)
    assert Formatting.parse(formatting.context()) == formatting
    assert Formatting.parse({"storage.kubernetes.io/csiProvisionerIdentity": "x"}) == Formatting()


@pytest.mark.parametrize("filesystem", ["ext4", "xfs"])
def test_mkfs_has_a_flag_for_every_option_of_its_filesystem(filesystem: str) -> None:
    options = {key: ALL[key] for key, filesystems in {**NUMBERS, **SWITCHES}.items() if filesystem in filesystems}
    formatting = Formatting.parse(options)

    formatting.check(filesystem)

    assert len(mkfs.flags(filesystem, formatting)) == 2 * len(options)


def test_the_filesystems_have_the_options_of_upstream() -> None:
    """aws-ebs-csi-driver, docs/parameters.md, and FileSystemConfigs in pkg/driver/constants.go."""
    by_filesystem = {
        filesystem: {key for key, having in {**NUMBERS, **SWITCHES}.items() if filesystem in having}
        for filesystem in ("ext4", "xfs")
    }

    assert by_filesystem == {
        "ext4": {
            "blockSize", "inodeSize", "bytesPerInode", "numberOfInodes", "ext4BigAlloc", "ext4ClusterSize",
            "ext4EncryptionSupport",
        },
        "xfs": {"blockSize", "inodeSize"},
    }  # fmt: skip


def test_a_switch_that_is_off_is_no_option() -> None:
    """False is the default of every switch."""
    assert Formatting.parse(dict.fromkeys(SWITCHES, "False")) == Formatting()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"blockSize": "-b 4096"}, "blockSize is '-b 4096'"),
        ({"inodeSize": "0"}, "whole number"),
        ({"ext4BigAlloc": "yes"}, "true or false"),
        ({"blockSize": "1k", "blocksize": "2k"}, "given twice"),
        ({"ext4ClusterSize": "16384"}, "needs ext4BigAlloc"),
    ],
    ids=["a command-line flag", "zero", "not a switch", "two spellings", "clusters without big allocation"],
)
def test_an_invalid_value_is_refused(parameters: dict[str, str], message: str) -> None:
    """As upstream; no value may become a further argument of mkfs, which runs as root."""
    with pytest.raises(errors.InvalidRequest, match=message):
        Formatting.parse(parameters)


@pytest.mark.parametrize("filesystem", ["xfs", None])
def test_an_option_that_the_filesystem_does_not_have_is_refused_by_name(filesystem: str | None) -> None:
    """Upstream's table of options by filesystem."""
    with pytest.raises(errors.InvalidRequest, match="bytesPerInode"):
        Formatting.parse({"bytesPerInode": "8192"}).check(filesystem)
