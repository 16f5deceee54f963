"""The exit codes of the access tools; `hyperpod_ebs.cli` has 1 for failures, 2 for wrong usage and 130 for Ctrl-C."""

from typing import Final

OK: Final = 0
"""Done, or nothing found."""

FAILS: Final = 3
"""A check found something that fails; nothing was changed."""

MAY_FAIL: Final = 4
"""Checks found only what may fail, or could not check all."""
