"""Copies of this source tree, as repositories of their own, for tests that build or refuse a release."""

import os
from pathlib import Path
from typing import Final

from hyperpod_ebs.kit import command

ROOT: Final = Path(__file__).parents[2]


async def copy_tree(into: Path) -> None:
    """Copy the files of this tree that git does not ignore, with other times and modes, into a new repository."""
    listed = await git(ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in listed.rstrip("\0").split("\0"):
        if (source := ROOT / name).is_file():
            target = into / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
            target.chmod(0o600 | (source.stat().st_mode & 0o100))
            os.utime(target, (10**9, 10**9))
    await git(into, "init", "--quiet")
    await git(into, "add", "--all")


async def git(repository: Path, *words: str) -> str:
    """What git prints; commits and tags are a made-up person's."""
    person = ["-c", "user.name=A Maintainer", "-c", "user.email=maintainer@hyperpod-ebs.example"]
    return (await command.run(["git", "-C", str(repository), *person, *words])).out
