"""Translation of the errors of programs and of the kernel into the driver's: no other error leaves `linux/`."""

from collections.abc import Generator
from contextlib import contextmanager

from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.kit.command import CommandFailed, CommandTimedOut
from hyperpod_ebs.kit.files import Unresponsive


@contextmanager
def translate(action: str) -> Generator[None]:
    """Translate what the block raises; `action` completes the sentence "cannot …" and names the object.

    Raises:
        Unavailable: A program or the kernel did not answer in time, or the kernel reported an error. A retry may
            succeed.
        NotReady: A program failed; the message quotes its output.
    """
    try:
        yield
    except (CommandTimedOut, Unresponsive) as error:
        raise errors.Unavailable(f"cannot {action}: {error}; try again") from error
    except CommandFailed as error:
        raise errors.NotReady(f"cannot {action}: {error}") from error
    except OSError as error:
        raise errors.Unavailable(f"cannot {action}: {error.strerror or error}; try again") from error
