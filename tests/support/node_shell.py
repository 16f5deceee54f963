"""A shell on a node for one test: commands run in a mount namespace with a copy of /etc and mounts of its own."""

import asyncio
import json
import os
import shutil
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from hyperpod_ebs.driver.linux import mountinfo
from hyperpod_ebs.driver.model.path_state import MountEntry
from hyperpod_ebs.kit import command
from hyperpod_ebs.kit.command import Finished
from tests.support.loop_device_node import LoopNode

# A new namespace has a copy of every mount. It must not keep the devices of other tests busy.
_SCRIPT: Final = (
    'for point in $(findmnt -rno TARGET -t ext4,xfs); do [ "$point" = / ] || umount --lazy "$point"; done; '
    'mount --bind "$0" /etc; echo ready; read line'
)
KILLED_AT_A_LINE: Final = """
import os, signal, sys, threading

count = int(os.environ["LINES_UNTIL_KILL"])

def trace(frame, event, argument):
    global count
    file = frame.f_code.co_filename
    if "/access/volume/node/" not in file or file.endswith("/processes.py"):  # which only reads, and many lines
        return None
    if event == "line":
        count -= 1
        if count == 0:
            os.kill(os.getpid(), signal.SIGKILL)
    return trace

threading.settrace(trace)
sys.settrace(trace)
from hyperpod_ebs import cli
cli.main()
"""
"""A program for `NodeShell.command_line` that is killed at a line of the commands of the node."""

_OF_CALLERS: Final = ("AWS_", "KUBE")


@dataclass
class NodeShell:
    """A node, and the namespace in which its commands run."""

    node: LoopNode
    namespace: Process
    environment: dict[str, str] = field(default_factory=dict)
    """Variables of the commands besides the test's own."""

    @classmethod
    @asynccontextmanager
    async def create(cls, directory: Path) -> AsyncGenerator[Self]:
        """Create the node and its namespace; when the namespace ends, its mounts do too."""
        async with LoopNode.create(directory) as node:
            etc = directory / "etc"
            shutil.copytree("/etc", etc, symlinks=True)
            (etc / "fstab").write_text("# the node's own\nLABEL=root / ext4 defaults 0 1\n")
            script = ["unshare", "--mount", "--propagation=private", "sh", "-c", _SCRIPT, str(etc)]
            namespace = await asyncio.create_subprocess_exec(*script, stdin=PIPE, stdout=PIPE)
            assert namespace.stdout
            await namespace.stdout.readline()
            try:
                yield cls(node, namespace)
            finally:
                await namespace.communicate(b"\n")

    @property
    def fstab(self) -> Path:
        """The node's fstab."""
        return self.node.directory / "etc" / "fstab"

    @property
    def lines(self) -> list[str]:
        """The lines of fstab that the node did not have at first."""
        return self.fstab.read_text().splitlines()[2:]

    def mounts(self) -> tuple[MountEntry, ...]:
        """The mounts of the node's volumes."""
        table = mountinfo.parse(Path(f"/proc/{self.namespace.pid}/mountinfo").read_bytes())
        loops = {loop.stat().st_rdev for loop in self.node.loops.values()}
        return tuple(each for each in table if os.makedev(each.number.major, each.number.minor) in loops)

    def points(self) -> list[Path]:
        """Where the node's volumes are mounted."""
        return [mount.mount_point for mount in self.mounts()]

    async def run(self, *words: str, ok: frozenset[int] = frozenset({0})) -> Finished:
        """Run a program on the node."""
        return await command.run(self._argv(words), ok=ok)

    async def start(self, *words: str) -> Process:
        """Start a program on the node, in a process group of its own, with pipes for its output."""
        return await asyncio.create_subprocess_exec(
            *self._argv(words),
            env=self._environment(),
            start_new_session=True,
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=PIPE,
        )

    async def use(self, *words: str) -> Any:
        """Run `volume use` with JSON output; its answer."""
        return json.loads((await self.volume("use", *words, "--output", "json")).out)

    async def release(self, *words: str) -> Any:
        """Run `volume release` with JSON output; its answer."""
        return json.loads((await self.volume("release", *words, "--output", "json")).out)

    async def refusal(self, *words: str, code: int = 3) -> str:
        """Run `volume` with a command that fails with this code; its error."""
        return (await self.volume(*words, ok=frozenset({code}))).err

    async def volume(self, *words: str, ok: frozenset[int] = frozenset({0})) -> Finished:
        """Run a command of `hyperpod-ebs volume`."""
        process = await self.start(*self.command_line(*words))
        out, err = await process.communicate()
        code = process.returncode
        assert code is not None
        assert code in ok, f"{words}: exit code {code}, {out.decode()}{err.decode()}"
        return Finished(code=code, out=out.decode(), err=err.decode())

    def command_line(self, *words: str, python: Sequence[str] = ("-m", "hyperpod_ebs.cli")) -> list[str]:
        """The command line of `hyperpod-ebs volume` for this node."""
        directory = self.node.directory
        flags = ["--device-directory", str(directory / "dev"), "--kubelet-root", str(directory / "kubelet")]
        return [sys.executable, *python, "volume", *words, *flags]

    def _argv(self, words: Sequence[str]) -> list[str]:
        return ["nsenter", "--mount", "--target", str(self.namespace.pid), *words]

    def _environment(self) -> Mapping[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(_OF_CALLERS)}
        return {**inherited, **self.environment}


async def kill(process: Process) -> None:
    """Kill the process alone, not the programs that it started."""
    process.send_signal(signal.SIGKILL)
    await process.wait()
