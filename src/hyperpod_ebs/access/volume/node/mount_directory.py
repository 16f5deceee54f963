"""The directory on which a volume is mounted. Every function blocks: run it off the loop."""

import os
from pathlib import Path

from hyperpod_ebs.driver.model import errors


def resolve(directory: Path) -> Path:
    """Resolve the symbolic links in a path, of which the last part need not exist."""
    return Path(os.path.realpath(directory))


def check(directory: Path) -> None:
    """Check that a volume may be mounted at a directory: it is empty, or absent in a directory that exists.

    Raises:
        NotReady: It is not.
    """
    try:
        first = next((entry.name for entry in os.scandir(directory)), None)
    except FileNotFoundError:
        if not directory.parent.is_dir():
            raise errors.NotReady(
                f'cannot mount at {directory}: directory {directory.parent} is absent; create it with "mkdir -p"'
            ) from None
        return
    except NotADirectoryError:
        raise errors.NotReady(f"cannot mount at {directory}: it is not a directory; choose another one") from None
    except OSError as error:
        raise errors.NotReady(f"cannot mount at {directory}: {error.strerror or error}") from error
    if first is not None:
        raise errors.NotReady(
            f"directory {directory} is not empty, and a mount would hide its files, such as {first!r}; choose an empty "
            "directory, or move its files away first"
        )


def create(directory: Path) -> bool:
    """Create the directory; return False if it exists.

    Raises:
        NotReady: It cannot be created.
    """
    try:
        directory.mkdir(mode=0o755)
    except FileExistsError:
        return False
    except OSError as error:
        raise errors.NotReady(f"cannot create directory {directory}: {error.strerror or error}") from error
    return True


def remove(directory: Path) -> None:
    """Remove the directory if it is empty and nothing is mounted there."""
    try:
        directory.rmdir()
    except OSError:
        return


def read(directory: Path) -> None:
    """Read an entry of the directory.

    Raises:
        OSError: The filesystem does not allow it.
    """
    with os.scandir(directory) as entries:
        next(entries, None)
