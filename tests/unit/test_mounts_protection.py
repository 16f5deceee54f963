from pathlib import Path
from typing import NamedTuple

import pytest

from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.disk import Device, DeviceNumber
from hyperpod_ebs.driver.mounts import protection

VOLUME = "vol-0123456789abcdef0"
READER, WRITER = Path("/k/reader"), Path("/k/writer")


class Case(NamedTuple):
    """A row of the table."""

    id: str
    reading: bool
    error: type[errors.Error] | None
    readers: tuple[Path, ...] = ()
    writers: tuple[Path, ...] = ()
    is_protected: bool = False


@pytest.mark.parametrize(
    "case",
    [
        Case("the first reader", reading=True, error=None),
        Case("the first reader of a protected device", reading=True, error=None, is_protected=True),
        Case("a second reader", reading=True, error=None, readers=(READER,), is_protected=True),
        Case("a reader beside a writer", reading=True, error=errors.InUse, writers=(WRITER,)),
        Case("the first writer", reading=False, error=None),
        Case("a second writer", reading=False, error=None, writers=(WRITER,)),
        Case("a writer beside a reader", reading=False, error=errors.InUse, readers=(READER,), is_protected=True),
        Case("a writer of a protected device", reading=False, error=errors.NotReady, is_protected=True),
    ],
    ids=lambda case: case.id,
)
def test_a_raw_block_volume_has_readers_or_writers(case: Case) -> None:
    """The table in the docstring of driver/mounts/protection.py."""
    device = Device(
        path=Path("/dev/nvme1n1"), number=DeviceNumber(259, 3), size=2**30, write_protected=case.is_protected
    )

    def accept() -> None:
        protection.refuse_mixed_use(VOLUME, device, readers=case.readers, writers=case.writers, reading=case.reading)

    if case.error is None:
        accept()
        return
    with pytest.raises(case.error, match=VOLUME) as refused:
        accept()
    assert all(str(point) in str(refused.value) for point in (*case.readers, *case.writers))
