import errno
from pathlib import Path

import pytest

from hyperpod_ebs.driver.linux import system_errors
from hyperpod_ebs.driver.model import errors


def test_the_drivers_own_reason_is_part_of_the_message() -> None:
    """The text of the error number, "File exists", would mislead the operator."""
    with (
        pytest.raises(
            errors.Unavailable, match="cannot make ext4: another program has just written to the device; try"
        ),
        system_errors.translate("make ext4"),
    ):
        raise OSError(errno.EEXIST, "another program has just written to the device")


def test_the_kernels_reason_is_part_of_the_message(tmp_path: Path) -> None:
    with (
        pytest.raises(errors.Unavailable, match="cannot read x: No such file or directory; try again"),
        system_errors.translate("read x"),
    ):
        (tmp_path / "absent").read_bytes()
