"""Which loop devices the sandbox's janitor frees."""

from pathlib import Path

import pytest

from hyperpod_ebs.sandbox import janitor, kernel_tables
from hyperpod_ebs.sandbox.kernel_tables import LoopDevice


def test_a_freed_device_of_the_sandbox_does_not_claim_the_loop_devices_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both a freed device and the lack of a device under a loop device have the number 0 (loop(4))."""
    freed = LoopDevice(path=tmp_path / "loop1", file=tmp_path / "image", number=0)
    other = LoopDevice(path=tmp_path / "loop2", file=Path("/absent/image"), number=1793)
    monkeypatch.setattr(kernel_tables, "loop_devices", lambda: iter([freed, other]))

    assert janitor.loops_below(tmp_path) == [freed.path]
