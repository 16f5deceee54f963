"""`hyperpod-ebs emulator run`: the emulator as a process."""

import asyncio
import ipaddress
import logging
import resource
import shlex
import signal
import sqlite3
from dataclasses import replace
from typing import Final

import uvloop

from hyperpod_ebs.emulator.commands import default_state, fail, say
from hyperpod_ebs.emulator.emulator import Emulator
from hyperpod_ebs.emulator.http.account_limits import BadLimits
from hyperpod_ebs.emulator.identity.administrator import NAME
from hyperpod_ebs.emulator.settings import EmulatorSettings
from hyperpod_ebs.emulator.state.store import StateRefused
from hyperpod_ebs.kit import command

log: Final = logging.getLogger(__name__)

DEFAULTS: Final = EmulatorSettings()

DESCRIPTORS: Final = 262_144
"""The soft limit of file descriptors if the hard limit allows it: enough for 65,536 machines."""


def run(*, settings: EmulatorSettings = DEFAULTS) -> int:
    """Run the emulator until SIGTERM or Ctrl-C."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    _raise_descriptor_limit()
    state = settings.state or default_state()
    if not ipaddress.ip_address(settings.host).is_loopback:
        log.warning(
            "every client that can connect to %s and has the access key has all rights in the emulated account, and "
            "the connection is plain HTTP: use a trusted network only", settings.host,
        )  # fmt: skip
    try:
        uvloop.run(_serve(replace(settings, state=state)))
    except (BadLimits, StateRefused, command.CommandFailed, OSError) as error:
        return fail(str(error))
    except sqlite3.Error as error:
        return fail(
            f"the emulator stopped: {state} cannot be written ({error}); every acknowledged change is on disk, so free "
            "some space or fix the permissions and start it again"
        )
    return 0


def _raise_descriptor_limit() -> None:
    """Allow a socket for each machine; the default soft limit is kept low for programs that use select(2)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, DESCRIPTORS)), hard))


async def _serve(settings: EmulatorSettings) -> None:
    stop = asyncio.Event()
    _set_on_signals(stop)
    async with Emulator.start(settings) as emulator:
        state = shlex.quote(str(settings.state))
        say(f"emulator ready at {emulator.url}; eval $(hyperpod-ebs emulator env --state {state})")
        if emulator.is_first_start:
            say(
                f"IAM user {NAME} is created, with AdministratorAccess and the access key of `emulator env`; create "
                "others with `aws iam create-user`, `create-access-key` and `put-user-policy`"
            )
        if not stop.is_set():
            ended = emulator.world.clock.ended
            _set_on_signals(ended)
            await ended.wait()


def _set_on_signals(event: asyncio.Event) -> None:
    """Set `event` on SIGTERM and Ctrl-C."""
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, event.set)
