"""The names of EBS volumes in a device directory."""

from pathlib import Path


def volume_link(dev: Path, volume_id: str, *, variant: str = "") -> Path:
    """The link that udev makes for the NVMe device of an EBS volume; `variant` is appended to its name.

    The name has the device's serial number, which is the volume's id without its dash:
    https://docs.aws.amazon.com/ebs/latest/userguide/nvme-ebs-volumes.html. The driver has a function for the same name,
    which these tests must not rely on.
    """
    return dev / "disk" / "by-id" / f"nvme-Amazon_Elastic_Block_Store_{volume_id.replace('-', '')}{variant}"
