"""The sockets of the instance metadata: each machine has a loopback address of its own, at the emulator's port.

SDKs set the path of a metadata request themselves, so only the address can say which machine asks. The address is
derived from the machine's private address, so a restart does not change it. A failure here does not reach the other
services: a machine whose socket cannot be opened has no metadata, and the log and the status say why.
"""

import asyncio
import logging
import os
import resource
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, nullcontext
from typing import Final

from hyperpod_ebs.emulator.http.door import BACKLOG, Door
from hyperpod_ebs.emulator.nodes.machines import METADATA_NETWORK, metadata_address
from hyperpod_ebs.emulator.records import Instance
from hyperpod_ebs.emulator.state.store import Table

log = logging.getLogger(__name__)

SHARE: Final = 4
"""One in this many file descriptors may be a socket of a machine; the others are for clients and disks."""

LINK_LOCAL: Final = "169.254.169.254"
"""The address of the metadata on AWS, which all machines share; the client's address says which machine asks."""

ALL_ADDRESSES: Final = "0.0.0.0"  # noqa: S104 - to compare with


class MetadataListeners:
    """The listening sockets of all machines, which are opened and closed as the machines come and go."""

    def __init__(self, instances: Table[Instance], *, has_link_local: bool = False) -> None:
        """Create the listeners; with `has_link_local`, one more at the address that metadata has on AWS."""
        self.problems: dict[str, str] = {}
        """Why a machine has no metadata, by the machine's id."""

        self._instances = instances
        self._has_link_local = has_link_local
        self._host = ""
        self._port = 0
        self._open: dict[str, asyncio.Server] = {}
        self._accepting: dict[str, socket.socket] = {}
        """Open sockets whose connections still wait in the kernel."""

        self._changed = dict.fromkeys(instances)
        self._wake = asyncio.Event()
        self._stopping = False
        instances.observe(self._note_change)

    @asynccontextmanager
    async def serve(self, door: Door, host: str, port: int) -> AsyncGenerator[None]:
        """Serve all machines at `port` until the block ends; the emulator itself listens on `host`.

        Raises:
            OSError: This computer lacks the link-local address, or its port 80 is taken.
        """
        self._host, self._port = host, port
        follower = asyncio.get_running_loop().create_task(
            self._follow(door)
        )  # a TaskGroup would wrap the block's errors
        try:
            async with door.listen(LINK_LOCAL, 80) if self._has_link_local else nullcontext():
                yield
        finally:
            self._stopping = True
            self._wake.set()
            await follower

    def url(self, instance: Instance) -> str:
        """The URL of the machine's metadata."""
        return f"http://{metadata_address(instance)}:{self._port}"

    def is_served(self, instance: Instance) -> bool:
        """Whether clients can connect to the machine's address."""
        return self._host == ALL_ADDRESSES or instance.id in self._open or instance.id in self._accepting

    def is_for_machines(self, address: str) -> bool:
        """Whether a client that connected to this address asks for a machine's metadata."""
        return (address.startswith(METADATA_NETWORK) and address != self._host) or address == LINK_LOCAL

    def _note_change(self, id_: str, _: Instance | None) -> None:
        self._changed[id_] = None
        self._wake.set()

    async def _follow(self, door: Door) -> None:
        """Open and close sockets until the stop.

        The call that creates a machine waits for the disk before it answers. The machine's socket is open by then,
        since the event loop runs this task first.
        """
        while not self._stopping:
            self._wake.clear()
            self._apply_changes()
            if self._accepting:
                await self._accept(door, next(iter(self._accepting)))
            else:
                await self._wake.wait()
        for id_ in [*self._accepting, *self._open]:
            self._close(id_)

    def _apply_changes(self) -> None:
        """Close the sockets of terminated machines, then open those that failed before and those of new machines."""
        ids = [*self.problems, *self._changed]
        self._changed.clear()
        alive = {id_: instance for id_ in ids if (instance := self._instances.get(id_)) and instance.is_alive}
        for id_ in ids:
            if id_ not in alive:
                self._close(id_)
        for instance in alive.values():
            if not self.is_served(instance):
                self._listen(instance)

    def _listen(self, instance: Instance) -> None:
        descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        if len(self._open) + len(self._accepting) >= descriptors // SHARE:
            self._report(
                instance,
                f"{descriptors // SHARE} machines have it, a quarter of the {descriptors} file descriptors of the "
                "process; raise that limit (ulimit -n) and restart the emulator",
            )
            return
        try:
            listener = socket.create_server((metadata_address(instance), self._port), backlog=BACKLOG)
        except OSError as error:
            self._report(
                instance,
                f"cannot listen at {self.url(instance)}: {os.strerror(error.errno or 0)}; if another process uses the "
                "address, stop it or start the emulator with another --port",
            )
            return
        self._accepting[instance.id] = listener
        self.problems.pop(instance.id, None)

    async def _accept(self, door: Door, id_: str) -> None:
        try:
            self._open[id_] = await door.accept(self._accepting[id_])
            del self._accepting[id_]
        except OSError:
            log.exception("the metadata of machine %s cannot be served", id_)
            self._close(id_)

    def _report(self, instance: Instance, problem: str) -> None:
        if self.problems.get(instance.id) != problem:
            self.problems[instance.id] = problem
            log.warning("machine %s has no instance metadata: %s", instance.id, problem)

    def _close(self, id_: str) -> None:
        self.problems.pop(id_, None)
        if listener := self._accepting.pop(id_, None) or self._open.pop(id_, None):
            listener.close()
