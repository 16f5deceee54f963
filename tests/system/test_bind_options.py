"""The options of a bind mount, with Linux' older and its newer system calls."""

import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from itertools import combinations
from pathlib import Path

import pytest

from hyperpod_ebs.driver.linux import mount_calls
from tests.support.loop_device_node import mounts_at

pytestmark = pytest.mark.root

ACCESS_TIMES = ("noatime", "relatime", "strictatime")


@contextmanager
def open_directory(path: Path) -> Generator[int]:
    """Open the directory, or what is mounted on it; the file descriptor."""
    handle = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield handle
    finally:
        os.close(handle)


def sets_of_options() -> Iterator[tuple[str, ...]]:
    """Each set of options that a bind mount can have, but not the empty one; at most one kind of access times."""
    others = sorted(mount_calls.FLAGS.keys() - set(ACCESS_TIMES))
    for count in range(len(others) + 1):
        for chosen in combinations(others, count):
            yield from filter(None, [chosen, *((*chosen, kind) for kind in ACCESS_TIMES)])


def test_the_newer_and_the_older_system_calls_give_a_bind_mount_the_same_options(tmp_path: Path) -> None:
    """mount_setattr(2) and mount(2) name the options differently."""
    target = tmp_path / "target"
    for path in (tmp_path / "source", target):
        path.mkdir()
    differences = []

    with open_directory(tmp_path) as parent, open_directory(tmp_path / "source") as source:
        for options in sets_of_options():
            with open_directory(target) as point:
                assert mount_calls.bind_with_options(source, point, options)
            (newer,) = mounts_at(target)
            mount_calls.unmount(parent, target.name)
            with open_directory(target) as point:
                mount_calls.bind(source, point)
            with open_directory(target) as mounted:
                mount_calls.set_options(mounted, options)
            (older,) = mounts_at(target)
            mount_calls.unmount(parent, target.name)
            if newer.options != older.options:
                differences.append((options, newer.options, older.options))

    assert differences == []
