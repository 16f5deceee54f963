"""Paths below kubelet's directory, held so that no symbolic link can lead the driver elsewhere.

A path is text, and each system call that gets it resolves it again. If a parent directory is replaced by a symbolic
link in between, a path that was checked leads out of kubelet's directory. So a path is resolved once, from kubelet's
directory down, one open directory after the other and without following links. All that is done afterwards is done
relative to the open parent directory (decision 0035).

No descriptor needs the device behind a mount: the kernel opens with O_PATH without asking the filesystem.
"""

import os
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hyperpod_ebs.driver.model import errors

_DIRECTORY: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_ENTRY: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class PinnedPath:
    """An entry of an open directory."""

    directory: int
    """The descriptor of the parent directory."""
    path: Path
    """The path for messages; the links above kubelet's directory are resolved in it."""

    @property
    def name(self) -> str:
        """The entry's name in its parent directory."""
        return self.path.name

    @contextmanager
    def open(self) -> Generator[int]:
        """Open the entry without following a link, or the root of the top mount there; yield the descriptor.

        Raises:
            FileNotFoundError: There is no such entry.
        """
        handle = os.open(self.name, _ENTRY, dir_fd=self.directory)
        try:
            yield handle
        finally:
            os.close(handle)

    def stat(self) -> os.stat_result:
        """Look at the entry, or at the root of the top mount there. Hangs if the mount's device does.

        Raises:
            FileNotFoundError: There is no such entry.
        """
        return os.stat(self.name, dir_fd=self.directory, follow_symlinks=False)

    def read_mount_id(self) -> int:
        """Read the id of the top mount at the entry, or of its parent directory's mount if nothing is mounted there.

        Raises:
            FileNotFoundError: There is no such entry.
        """
        with self.open() as handle:
            return read_mount_id(handle)

    def find_mount_id(self) -> int | None:
        """Find the id of the top mount at the entry; None if nothing is mounted there.

        Raises:
            FileNotFoundError: There is no such entry.
        """
        here = self.read_mount_id()
        return here if here != read_mount_id(self.directory) else None


@contextmanager
def pin(path: Path, root: Path) -> Generator[PinnedPath]:
    """Open the parent directories of `path` from `root` down. Blocks: run it off the loop.

    `root` may be a symbolic link, and `path` may name it in any way.

    Raises:
        InvalidRequest: The path is relative, contains ".." or a zero byte, is not below `root`, or passes through a
            symbolic link.
        FileNotFoundError: A parent directory is absent.
    """
    real, top = real_path(path, root), real_root(root)
    with ExitStack() as opened:
        directory = os.open(top, _DIRECTORY)
        opened.callback(os.close, directory)
        for name in real.relative_to(top).parts[:-1]:
            try:
                directory = os.open(name, _DIRECTORY, dir_fd=directory)
            except NotADirectoryError:
                raise errors.InvalidRequest(
                    f"path {path} passes through {name!r}, which is a symbolic link or no directory; below {top} the "
                    "driver follows no links: use the path that the link leads to"
                ) from None
            opened.callback(os.close, directory)
        yield PinnedPath(directory, real)


def real_path(path: Path, root: Path) -> Path:
    """The path with the links above and at `root` resolved, and none below it. Blocks: run it off the loop.

    Raises:
        InvalidRequest: The path is relative, contains ".." or a zero byte, or is not below `root`.
    """
    if not path.is_absolute() or ".." in path.parts or "\0" in str(path):
        raise errors.InvalidRequest(
            f"path {str(path)!r} is relative, or contains '..' or a zero byte; use an absolute path"
        )
    top = real_root(root)
    # From the left, so that nothing below kubelet's directory is resolved.
    for parent in reversed(path.parents):
        if parent == root or real_root(parent) == top:
            return top / path.relative_to(parent)
    raise errors.InvalidRequest(f"path {path} is not below {top}; set --kubelet-root to kubelet's directory")


def real_root(root: Path) -> Path:
    """Kubelet's directory with all links resolved. Blocks: run it off the loop."""
    return Path(os.path.realpath(root))


def read_mount_id(handle: int) -> int:
    """Read which mount a descriptor was opened in (proc_pid_fdinfo(5))."""
    lines = Path(f"/proc/self/fdinfo/{handle}").read_text().splitlines()
    return next(int(line.removeprefix("mnt_id:")) for line in lines if line.startswith("mnt_id:"))
