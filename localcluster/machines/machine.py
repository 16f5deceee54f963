"""A machine, of namespaces: processes, mounts and a network of its own, with a /dev and a root for what it keeps.

The order matters. Its mounts are cut off from this machine's before they are shared among
themselves, which kubelet wants: shared first, they would come to lie on this machine's own
/dev and /run.
"""

import os
import signal
import stat
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hyperpod_ebs.kit import command, files
from hyperpod_ebs.sandbox import cgroups, kernel_tables
from hyperpod_ebs.sandbox.sandbox import Sandbox
from localcluster.machines import network, sysctls
from localcluster.machines.daemon import Daemon
from localcluster.machines.life import Life
from localcluster.machines.network import Namespace

_DEVICES: Final = {
    "full": (1, 7),
    "kmsg": (1, 11),
    "loop-control": (10, 237),
    "null": (1, 3),
    "ptmx": (5, 2),
    "random": (1, 8),
    "tty": (5, 0),
    "urandom": (1, 9),
    "zero": (1, 5),
}
"""Each device that every machine has, with its numbers (Linux's admin-guide/devices.txt)."""

_LOOPS: Final = 256
"""Loop devices that a node knows by name: kubelet holds the device of each raw block volume through one of its own."""

_LINKS: Final = {"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"}

_READY: Final = 180.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """One that runs."""

    name: str
    number: int
    """From 1; its address and its pods' follow from it."""
    sandbox: Sandbox
    init: Life
    """Its first process, with which all that runs on it ends."""
    home: Path
    """A directory with what it keeps, and with the settings of what runs on it."""

    @classmethod
    async def start(cls, sandbox: Sandbox, hub: Namespace, name: str, number: int, devices: Path) -> "Machine":
        """Start it, joined to the network of the hub, with the directory `devices` as its /dev."""
        home = sandbox.path / "nodes" / name
        await files.off_loop(_furnish, home, devices)
        machine = cls(name=name, number=number, sandbox=sandbox, init=await _init(sandbox, name), home=home)
        try:
            await files.off_loop(cgroups.create, machine.group)
            await network.join(hub, machine.namespace, number)
            await machine._mount(devices)
        except BaseException:
            machine.end()
            raise
        return machine

    @property
    def namespace(self) -> Namespace:
        """Its namespaces."""
        return Namespace(self.init.pid)

    @property
    def group(self) -> Path:
        """The control group of what runs on it; the sandbox removes it."""
        return Path(self.sandbox.path.name) / self.name

    def end(self) -> None:
        """Let it be off, with all that runs on it; one that is off already stays so."""
        self.init.signal(signal.SIGKILL)

    async def run(self, name: str, *argv: str) -> Daemon:
        """A program that runs on it."""
        return await Daemon.started(self.sandbox, name, self.namespace.wholly(*argv))

    async def _mount(self, devices: Path) -> None:
        """Give it what is its own: first cut off (unshare did), then shared for kubelet."""
        steps = (
            *([["umount", "--lazy", *others]] if (others := await self._on_loop_devices()) else []),
            ["mount", "--make-rshared", "/"],
            ["mount", "--bind", str(devices), "/dev"],
            ["mount", "-t", "devpts", "-o", "newinstance,ptmxmode=0666,mode=620", "devpts", "/dev/pts"],
            ["mount", "-t", "tmpfs", "-o", "mode=1777", "tmpfs", "/dev/shm"],  # noqa: S108 - as on every machine
            ["mount", "-t", "mqueue", "mqueue", "/dev/mqueue"],
            ["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run"],
            ["mount", "--bind", str(self.home / "lib"), "/var/lib"],
            ["mount", "--bind", str(self.home / "log"), "/var/log"],
            *sysctls.mounts(self.home / "sys"),
        )
        for argv in steps:
            await command.run(self.namespace.wholly(*argv))

    async def _on_loop_devices(self) -> list[str]:
        """What else on this machine is mounted from a loop device, which our copy of the mount would keep busy."""
        table = await files.off_loop(Path(f"/proc/{self.init.pid}/mountinfo").read_bytes)
        return [str(mount.point) for mount in kernel_tables.mounts(table) if mount.major == kernel_tables.LOOP_MAJOR]


async def _init(sandbox: Sandbox, name: str) -> Life:
    """The first process of a machine, in namespaces of its own."""
    apart = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation=private"]
    program = [sys.executable, "-m", "localcluster.machines.init"]
    outer = await Daemon.started(sandbox, f"{name}-init", [*apart, *program])
    children = Path(f"/proc/{outer.process.pid}/task/{outer.process.pid}/children")

    async def cut_off() -> bool:
        # unshare's child cuts its mounts off after the fork, and runs the program then: before, ours would be the
        # machine's own.
        return await files.off_loop(_runs, children, program[0])

    await outer.until(cut_off, seconds=_READY)
    return await files.off_loop(lambda: Life.of(int(children.read_text())))


def _runs(children: Path, program: str) -> bool:
    """Whether the process listed in `children` has come to run `program`."""
    with suppress(OSError):  # it ends just now, which its parent tells
        if found := children.read_text().split():
            return Path(f"/proc/{found[0]}/cmdline").read_bytes().split(b"\0")[0] == os.fsencode(program)
    return False


def _furnish(home: Path, dev: Path) -> None:
    """Make its directories, and put into its /dev what every machine has."""
    for directory in ("lib", "log"):
        (home / directory).mkdir(parents=True)
    sysctls.written(home / "sys")
    for directory in ("pts", "shm", "mqueue"):
        (dev / directory).mkdir(exist_ok=True)
    for name, (major, minor) in _DEVICES.items():
        os.mknod(dev / name, stat.S_IFCHR, os.makedev(major, minor))
        (dev / name).chmod(0o600 if name == "kmsg" else 0o666)
    for number in range(_LOOPS):
        os.mknod(dev / f"loop{number}", stat.S_IFBLK | 0o660, os.makedev(kernel_tables.LOOP_MAJOR, number))
    for name, target in _LINKS.items():
        (dev / name).symlink_to(target)
