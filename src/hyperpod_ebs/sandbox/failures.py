"""Why a demo or a local cluster fails, in sentences for the user who started it.

Failure
├── PrerequisiteMissing   the machine lacks something that the command needs
├── ProcessEnded          a process ended while it was still needed
├── ProcessNotReady       a process did not become ready in time
├── StepFailed            a step of the demo failed
└── DataMismatch          the data read differs from the data written
"""

import grpc

from hyperpod_ebs.kit.command import CommandFailed
from hyperpod_ebs.kit.files import Unresponsive


class Failure(Exception):  # noqa: N818 - named for what happened
    """The message is a sentence for the user."""


class PrerequisiteMissing(Failure):
    """The machine lacks something that the command needs."""


class ProcessEnded(Failure):
    """A process ended while it was still needed."""


class ProcessNotReady(Failure):
    """A process did not become ready in time."""


class StepFailed(Failure):
    """A step of the demo failed."""


class DataMismatch(Failure):
    """The data read differs from the data written."""


def explanation(error: BaseException) -> str:
    """A sentence for an error; for a group, the sentence of the error that explains most."""
    match error:
        case BaseExceptionGroup():
            return explanation(min(error.exceptions, key=_rank))
        case grpc.aio.AioRpcError():
            return f"{error.details()} ({error.code().name})"
        case Failure() | Unresponsive() | CommandFailed():
            return str(error)
        case TimeoutError():  # a subclass of OSError, so matched first
            return "the operation timed out"
        case OSError():
            return f"{error.filename}: {error.strerror}" if error.filename else error.strerror or str(error)
        case _:
            return f"{error} ({type(error).__name__})"


def _rank(error: BaseException) -> int:
    """The order of explanations, best first: a process that ended is usually why other calls failed."""
    match error:
        case BaseExceptionGroup():
            return min(map(_rank, error.exceptions))
        case ProcessEnded():
            return 0
        case Failure():
            return 1
        case _:
            return 2
