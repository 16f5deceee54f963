"""What keeps a demo, or a cluster on this machine, from its end, in sentences.

Trouble
├── Missing     the machine lacks something that it takes
├── Ended       a process ended that was still needed
├── NotReady    a process did not come up
├── Refused     a step could not be done
└── Broken      what was read is not what was written
"""

import grpc

from hyperpod_ebs.kit.command import CommandFailed
from hyperpod_ebs.kit.files import Unresponsive


class Trouble(Exception):  # noqa: N818 - reads as what happened
    """The text is a sentence for whoever runs it."""


class Missing(Trouble):
    """The machine lacks something that it takes."""


class Ended(Trouble):
    """A process ended that was still needed."""


class NotReady(Trouble):
    """A process did not come up."""


class Refused(Trouble):
    """A step could not be done."""


class Broken(Trouble):
    """What was read is not what was written."""


def why(error: BaseException) -> str:
    """What an error means, in a sentence; of a group's errors the one that says most."""
    match error:
        case BaseExceptionGroup():
            return why(min(error.exceptions, key=_rank))
        case grpc.aio.AioRpcError():
            return f"{error.details()} ({error.code().name})"
        case Trouble() | Unresponsive() | CommandFailed():
            return str(error)
        case TimeoutError():  # before OSError, of which it is one
            return "it did not end within its time"
        case OSError():
            return f"{error.filename}: {error.strerror}" if error.filename else error.strerror or str(error)
        case _:
            return f"{error} ({type(error).__name__})"


def _rank(error: BaseException) -> int:
    """The death of a process comes first: it explains what else went wrong."""
    match error:
        case BaseExceptionGroup():
            return min(map(_rank, error.exceptions))
        case Ended():
            return 0
        case Trouble():
            return 1
        case _:
            return 2
