"""SIGTERM and SIGINT, with which kubelet and users end a program.

The first process of a container ignores signals that it does not handle, so kubelet would
kill it only after the grace period of 30 seconds.
"""

import signal
from typing import Final

EXIT_CODE: Final = 128 + signal.SIGTERM
"""The exit code of a program that is ended before it is done."""

_SIGNALS: Final = {signal.SIGTERM, signal.SIGINT}


def block_signals() -> None:
    """Block the signals, so that `is_requested_within` and `wait` receive also those that come between their calls."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)


def is_requested_within(seconds: float) -> bool:
    """Wait for a signal; whether one came in time."""
    block_signals()
    return signal.sigtimedwait(_SIGNALS, seconds) is not None


def wait() -> None:
    """Wait for a signal."""
    block_signals()
    signal.sigwait(_SIGNALS)
