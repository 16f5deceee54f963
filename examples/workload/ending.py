"""Being told to end: the first process of a container has to ask for SIGTERM, or nothing happens for half a minute."""

import signal
from typing import Final

TOLD: Final = 128 + signal.SIGTERM
"""The exit code of who was told to end before it was done."""

_SIGNALS: Final = {signal.SIGTERM, signal.SIGINT}


def within(seconds: float) -> bool:
    """Wait so long; whether it is to end now."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    return signal.sigtimedwait(_SIGNALS, seconds) is not None


def wait() -> None:
    """Do nothing until it is to end."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    signal.sigwait(_SIGNALS)
