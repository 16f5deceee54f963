"""The machine of a node, made of namespaces: its own processes, mounts, network, /dev, and directories for its files.

The order of the steps matters. kubelet needs mounts that are shared among themselves. They are
first made private, since mounts that were shared first would propagate to the /dev and /run of the
host, the machine that the cluster runs on.
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
from localcluster.machines.network import Namespaces
from localcluster.machines.supervised_process import SupervisedProcess

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
"""The character devices of a machine, with their numbers (Linux Documentation/admin-guide/devices.txt)."""

_LOOP_DEVICES: Final = 256
"""Loop devices in a node's /dev: kubelet binds one to the device of each raw block volume."""

_LINKS: Final = {"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"}

_READY_TIMEOUT: Final = 180.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A started machine."""

    name: str
    address: str
    """Its address, from which those of its pods derive."""
    sandbox: Sandbox
    init: SupervisedProcess
    """Its first process; when it ends, all its processes end."""
    home: Path
    """The directory of its files, and of the configuration of its programs."""

    @classmethod
    async def start(cls, sandbox: Sandbox, hub: Namespaces, name: str, address: str, devices: Path) -> "Machine":
        """Start a machine in the hub's network, with the directory `devices` as its /dev."""
        home = sandbox.path / "nodes" / name
        await files.off_loop(_create_files, home, devices)
        machine = cls(name=name, address=address, sandbox=sandbox, init=await _start_init(sandbox, name), home=home)
        try:
            await files.off_loop(cgroups.create, machine.group)
            await network.join_node(hub, machine.namespaces, address)
            await machine._mount(devices)
        except BaseException:
            machine.stop()
            raise
        return machine

    @property
    def namespaces(self) -> Namespaces:
        """The namespaces of its processes."""
        return Namespaces(self.init.pid)

    @property
    def group(self) -> Path:
        """The control group of its pods; the sandbox removes it."""
        return Path(self.sandbox.path.name) / self.name

    def stop(self) -> None:
        """Kill all its processes; idempotent."""
        self.init.signal(signal.SIGKILL)

    async def start_daemon(self, name: str, *argv: str) -> Daemon:
        """Start a program on the machine."""
        return await Daemon.start(self.sandbox, name, self.namespaces.node_argv(*argv))

    async def _mount(self, devices: Path) -> None:
        """Mount its own directories; unshare has made all mounts private before."""
        # The machine's copies of mounts of loop devices would keep the devices busy after the host unmounts them.
        table = await files.off_loop(Path(f"/proc/{self.init.pid}/mountinfo").read_bytes)
        mounts = kernel_tables.mounts(table)
        on_loop_devices = [str(mount.point) for mount in mounts if mount.major == kernel_tables.LOOP_MAJOR]
        commands = (
            *([["umount", "--lazy", *on_loop_devices]] if on_loop_devices else []),
            ["mount", "--make-rshared", "/"],
            ["mount", "--bind", str(devices), "/dev"],
            ["mount", "-t", "devpts", "-o", "newinstance,ptmxmode=0666,mode=620", "devpts", "/dev/pts"],
            ["mount", "-t", "tmpfs", "-o", "mode=1777", "tmpfs", "/dev/shm"],  # noqa: S108 - as on every machine
            ["mount", "-t", "mqueue", "mqueue", "/dev/mqueue"],
            ["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run"],
            ["mount", "--bind", str(self.home / "lib"), "/var/lib"],
            ["mount", "--bind", str(self.home / "log"), "/var/log"],
            *sysctls.mount_commands(self.home / "sys"),
        )
        for argv in commands:
            await command.run(self.namespaces.node_argv(*argv))


async def _start_init(sandbox: Sandbox, name: str) -> SupervisedProcess:
    """Start the first process of a machine, in namespaces of its own."""
    unshare = [
        "unshare",
        "--net",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
        "--propagation=private",
    ]
    program = [sys.executable, "-m", "localcluster.machines.init"]
    outer = await Daemon.start(sandbox, f"{name}-init", [*unshare, *program])
    children = Path(f"/proc/{outer.process.pid}/task/{outer.process.pid}/children")

    async def has_private_mounts() -> bool:
        # After the fork, unshare's child makes its mounts private, and then executes the program.
        return await files.off_loop(_has_executed, children, program[0])

    await outer.wait_until(has_private_mounts, seconds=_READY_TIMEOUT)
    return await files.off_loop(lambda: SupervisedProcess.find(int(children.read_text())))


def _has_executed(children: Path, program: str) -> bool:
    """Whether the process listed in the file `children` has executed `program`."""
    with suppress(OSError):  # it has ended, and so will its parent
        if pids := children.read_text().split():
            return Path(f"/proc/{pids[0]}/cmdline").read_bytes().split(b"\0")[0] == os.fsencode(program)
    return False


def _create_files(home: Path, dev: Path) -> None:
    """Create a machine's directories, and the devices and links of its /dev."""
    for directory in ("lib", "log"):
        (home / directory).mkdir(parents=True)
    sysctls.write_files(home / "sys")
    for directory in ("pts", "shm", "mqueue"):
        (dev / directory).mkdir(exist_ok=True)
    for name, (major, minor) in _DEVICES.items():
        os.mknod(dev / name, stat.S_IFCHR, os.makedev(major, minor))
        (dev / name).chmod(0o600 if name == "kmsg" else 0o666)
    for number in range(_LOOP_DEVICES):
        os.mknod(dev / f"loop{number}", stat.S_IFBLK | 0o660, os.makedev(kernel_tables.LOOP_MAJOR, number))
    for name, target in _LINKS.items():
        (dev / name).symlink_to(target)
