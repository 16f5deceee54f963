"""Processes with mount namespaces of their own, as containers have them."""

import asyncio
from asyncio.subprocess import PIPE
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

# A new namespace has a copy of every mount. It must not keep the devices of other tests busy.
_SCRIPT = (
    'for point in $(findmnt -rno TARGET -t ext4,xfs); do [ "$point" = "$0" ] || [ "$point" = / ] || '
    'umount --lazy "$point"; done; [ -z "$1" ] || exec 3<>"$0/$1"; echo ready; read line'
)


@asynccontextmanager
async def copy_mount_to_another_namespace(path: Path, *, file: str = "") -> AsyncGenerator[int]:
    """Start a process in a mount namespace with a copy of the mount at `path`, and `file` in it open; its pid."""
    argv = ["unshare", "--mount", "--propagation=private", "sh", "-c", _SCRIPT, str(path), file]
    container = await asyncio.create_subprocess_exec(*argv, stdin=PIPE, stdout=PIPE)
    assert container.stdout
    await container.stdout.readline()
    try:
        yield container.pid
    finally:
        await container.communicate(b"\n")
