"""`hyperpod-ebs volume use` and `release`, on the node itself. Neither calls AWS or needs credentials."""

import asyncio
import os
import re
import sys
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Annotated, Final, TypeVar

from cyclopts import Parameter
from cyclopts.validators import Number

from hyperpod_ebs.access import console, exit_codes
from hyperpod_ebs.access.console import Output
from hyperpod_ebs.access.volume.node import machine, mount_directory
from hyperpod_ebs.access.volume.node.machine import THIS_NODE, Machine, NodeOptions, PreconditionFails
from hyperpod_ebs.access.volume.node.processes import printable
from hyperpod_ebs.access.volume.node.progress import retry_while_busy
from hyperpod_ebs.access.volume.node.release import Released, find, release
from hyperpod_ebs.access.volume.node.use import Kind, Mounted, Steps, Wanted, use
from hyperpod_ebs.driver.linux import system_errors
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.mount_options import MountOptions
from hyperpod_ebs.driver.model.volume import parse_volume_id
from hyperpod_ebs.driver.observe import log
from hyperpod_ebs.kit.files import off_loop

T = TypeVar("T")

_CAPITAL: Final = re.compile(r"[A-Z]")
_STEP_COLUMNS: Final = ("step", "action")
_YES_NO: Final = {True: "yes", False: "no"}

Seconds = Annotated[float, Parameter(validator=Number(gte=0))]
DryRun = Annotated[bool, Parameter(negative="")]


def use_volume(  # noqa: PLR0913 - one parameter for each flag
    volume: str,
    directory: Path,
    /,
    *,
    filesystem: Kind | None = None,
    options: str = "",
    read_only: Annotated[bool, Parameter(negative="")] = False,
    persist: Annotated[bool, Parameter(negative="")] = False,
    dry_run: DryRun = False,
    timeout: Seconds = 60,
    output: Output = "table",
    node: NodeOptions = THIS_NODE,
) -> int:
    """Mount an attached volume at a directory of this node. Run it as root on the node; it does not call AWS.

    A volume that is proved blank gets a filesystem first; nothing else is ever formatted. If the volume is mounted
    there already, the command succeeds. After an interruption, repeat it.

    Args:
        volume: The volume, such as vol-0123456789abcdef0.
        directory: An empty directory. It is created if it is absent.
        filesystem: The filesystem to make, ext4 by default. A volume that has the other one is refused.
        options: Mount options, separated by commas.
        read_only: Mount for reading only.
        persist: Mount it at boot too: add a line to /etc/fstab, by UUID and with nofail.
        dry_run: Print what would be done, and change nothing.
        timeout: Seconds to wait for the device, and for other programs that use it.
        output: Format: a table, or one JSON object.
        node: The node.
    """
    mount_options = MountOptions.parse([options, *(["ro"] if read_only else [])])
    if mount_options.refusal:
        raise errors.InvalidRequest(mount_options.refusal.replace("mountOptions", "--options"))

    directory = directory.absolute()
    this = Machine.create(node, patience=timeout)

    async def run() -> Mounted | Steps:
        wanted = Wanted(
            volume_id=parse_volume_id(volume),
            directory=await _resolve(directory, this),
            filesystem=filesystem,
            options=mount_options,
            persist=persist,
        )
        return await retry_while_busy(lambda: use(this, wanted, dry_run=dry_run), timeout)

    match _run(run(), f"use volume {volume} at {directory}"):
        case PreconditionFails() as refusal:
            return _refuse(refusal)
        case Steps(texts):
            _print_steps(texts, output, volume=volume, directory=str(directory))
        case done:
            row = {
                "volume": volume,
                "device": str(done.device),
                "directory": str(directory),
                "filesystem": done.filesystem,
                "madeFilesystem": done.made_filesystem,
                "wasMounted": done.was_mounted,
                "persisted": done.persisted,
            }
            _print_row(row, output)
    return exit_codes.OK


def release_volume(
    volume_or_directory: str,
    /,
    *,
    dry_run: DryRun = False,
    timeout: Seconds = 20,
    output: Output = "table",
    node: NodeOptions = THIS_NODE,
) -> int:
    """Unmount a volume, so that it can be detached. Run it as root on the node; it does not call AWS.

    The command writes the data back, unmounts, removes the line that `use --persist` added to /etc/fstab, and succeeds
    only when nothing on the node uses the device. If something uses the volume, it says what, and changes nothing.

    Args:
        volume_or_directory: The volume, such as vol-0123456789abcdef0, or the directory where it is mounted.
        dry_run: Print what would be done, and change nothing.
        timeout: Seconds to wait for other programs that use the device for a moment.
        output: Format: a table, or one JSON object.
        node: The node.
    """
    is_volume = volume_or_directory.startswith("vol-")
    directory = Path(volume_or_directory).absolute()
    this = Machine.create(node)

    async def run() -> Released:
        what = parse_volume_id(volume_or_directory) if is_volume else await _resolve(directory, this)
        first = await retry_while_busy(lambda: find(this, what), timeout)

        async def attempt() -> Released:
            # By its id: after an unmount the directory does not lead to the volume any more.
            return await release(this, await find(this, first.volume_id or what), dry_run=dry_run)

        return await retry_while_busy(attempt, timeout)

    done = _run(run(), f"release {volume_or_directory}")
    if isinstance(done, PreconditionFails):
        return _refuse(done)
    if dry_run:
        _print_steps(_steps_of_release(done), output, volume=done.volume_id, directory=str(done.directory or ""))
        return exit_codes.OK
    following = f"hyperpod-ebs volume detach {done.volume_id}" if done.volume_id and done.device else ""
    row = {
        "volume": done.volume_id,
        "device": str(done.device or ""),
        "directory": str(done.directory or ""),
        "removedFromFstab": bool(done.fstab_line),
        "next": following,
    }
    _print_row(row, output)
    if not done.volume_id:
        console.note(f"nothing of an EBS volume is left at {volume_or_directory}")
    return exit_codes.OK


async def _resolve(directory: Path, this: Machine) -> Path:
    """The directory with links resolved.

    Raises:
        InvalidRequest: It is the root directory, or kubelet's.
    """
    real = await off_loop(mount_directory.resolve, directory, about=directory)
    if real == Path("/"):
        raise errors.InvalidRequest("the root directory cannot be the directory of a volume")
    if real.is_relative_to(this.kubelet) and not this.options.even_though_kubernetes_manages_it:
        raise errors.InvalidRequest(
            f"{directory} is below kubelet's directory {this.kubelet}; choose another directory"
        )
    return real


def _run(work: Coroutine[None, None, T], action: str) -> T | PreconditionFails:
    """Check that this process may mount, and run the work to its end; `action` is what an error of the kernel stops."""
    try:
        machine.check_root()
        log.configure(0, "text", sys.stderr)
        os.chdir("/")  # a directory of the volume may be the current one, and would keep it busy
        with system_errors.translate(action):
            return asyncio.run(work)
    except PreconditionFails as refusal:
        return refusal
    except KeyboardInterrupt:
        console.note("interrupted; repeat the command, which finishes what this one began")
        raise
    finally:
        work.close()


def _refuse(refusal: PreconditionFails) -> int:
    console.note(f"hyperpod-ebs: {refusal}")
    return exit_codes.FAILS


def _steps_of_release(done: Released) -> list[str]:
    steps = [f"write the data back and unmount {done.directory}"] if done.directory else []
    if done.device:
        steps.append(f"wait until nothing uses {done.device}")
    return [*steps, *([f"remove from /etc/fstab: {done.fstab_line}"] if done.fstab_line else [])]


def _print_row(row: Mapping[str, object], output: Output) -> None:
    if output == "json":
        console.print_json(row)
    else:
        titles = {name: _CAPITAL.sub(lambda match: f"_{match[0].lower()}", name) for name in row}
        words = {titles[name]: _cell(value) for name, value in row.items()}
        console.print_table([words], list(words))


def _cell(value: object) -> str:
    return _YES_NO[value] if isinstance(value, bool) else printable(str(value))


def _print_steps(steps: list[str] | tuple[str, ...], output: Output, **subject: str) -> None:
    if output == "json":
        console.print_json({**subject, "dryRun": True, "steps": list(steps)})
    else:
        rows = [{"step": number, "action": printable(step)} for number, step in enumerate(steps, start=1)]
        console.print_table(rows, _STEP_COLUMNS)
