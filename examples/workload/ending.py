"""Being told to end: the first process of a container has to ask for SIGTERM, or nothing happens for half a minute."""

import signal
from typing import Final

TOLD: Final = 128 + signal.SIGTERM
"""The exit code of who was told to end before it was done."""

_SIGNALS: Final = {signal.SIGTERM, signal.SIGINT}


def heed() -> None:
    """Have `within` and `wait` told of what comes from now on, also of what comes while they are not asked."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)


def within(seconds: float) -> bool:
    """Wait so long; whether it is to end now."""
    heed()
    return signal.sigtimedwait(_SIGNALS, seconds) is not None


def wait() -> None:
    """Do nothing until it is to end."""
    heed()
    signal.sigwait(_SIGNALS)
