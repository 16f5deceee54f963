"""No error of a program or of the kernel leaves `linux/` as such: here they become the driver's own."""

import os
from collections.abc import Generator
from contextlib import contextmanager

from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.kit.command import CommandFailed, CommandTimedOut
from hyperpod_ebs.kit.files import Unresponsive


@contextmanager
def translate(doing: str) -> Generator[None]:
    """Let nothing foreign out of the block; `doing` names the object and the act.

    Raises:
        Unavailable: No answer in time, or the kernel failed at it: it may go better next time.
        NotReady: A program refused, in its own words.
    """
    try:
        yield
    except (CommandTimedOut, Unresponsive) as error:
        raise errors.Unavailable(f"{doing}: {error}; try again") from error
    except CommandFailed as error:
        raise errors.NotReady(f"{doing}: {error}") from error
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise errors.Unavailable(f"{doing}: {reason}; try again") from error
