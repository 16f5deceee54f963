"""`hyperpod-ebs emulator run`: the embedded cloud as a process."""

import asyncio
import ipaddress
import logging
import re
import shlex
import signal
import sqlite3
from collections.abc import Callable
from typing import Annotated, Final

import uvloop
from cyclopts import Parameter
from cyclopts.validators import Number

from hyperpod_ebs.emulator.commands import StateDirectory, default_state, fail, say
from hyperpod_ebs.emulator.ec2.modifications import Rate
from hyperpod_ebs.emulator.emulator import LOOPBACK, Emulator
from hyperpod_ebs.emulator.state.clock import Profile
from hyperpod_ebs.emulator.state.region import ZONES
from hyperpod_ebs.emulator.state.store import StateRefused
from hyperpod_ebs.kit import command

log: Final = logging.getLogger(__name__)


def _like(pattern: str, example: str) -> Callable[[type[str], str], None]:
    """What refuses a flag's text that is not of this form."""

    def check(_: type[str], text: str) -> None:
        if re.fullmatch(pattern, text) is None:
            raise ValueError(f"{text!r} is not of the form of {example}")

    return check


def _address(_: type[str], text: str) -> None:
    """Refuse what is no address of IP: a name may mean several, and another one tomorrow."""
    try:
        ipaddress.ip_address(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is no IP address: give one of this machine's") from error


def run(  # noqa: PLR0913 - each is a flag
    *,
    state: StateDirectory = None,
    host: Annotated[str, Parameter(validator=_address)] = LOOPBACK,
    port: int = 4566,
    profile: Profile = "instant",
    seed: int = 0,
    region: Annotated[str, Parameter(validator=_like(r"[a-z]+(-[a-z]+)+-[0-9]", "us-west-2"))] = "us-west-2",
    account: Annotated[str, Parameter(validator=_like("[0-9]{12}", "123456789012"))] = "123456789012",
    zones: Annotated[int, Parameter(validator=Number(gte=1, lte=ZONES))] = ZONES,
    rate: Rate = "four-a-day",
) -> int:
    """Run the embedded cloud until SIGTERM or Ctrl-C.

    Args:
        state: Where everything is kept (~/.local/state/hyperpod-ebs/emulator).
        host: The address to listen at: another than loopback lets others in.
        port: The port to listen at; 0 for any that is free.
        profile: How fast states change: instant, aws (as seen in the wild) or chaos.
        seed: What the times are drawn from.
        region: The AWS region that it is.
        account: The account that everything belongs to.
        zones: How many availability zones the region has.
        rate: How often a volume may be modified: AWS's rule of today, its older one, or none.
    """
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    home = state or default_state()
    if not ipaddress.ip_address(host).is_loopback:
        log.warning(
            "whoever reaches %s and has the access key is the account's owner here, and all that is said "
            "goes over plain HTTP: let only a network of your own lead there", host,
        )  # fmt: skip

    async def serve() -> None:
        stop = asyncio.Event()
        _on_signals(stop)
        async with Emulator.running(
            home,
            profile=profile,
            seed=seed,
            host=host,
            port=port,
            region=region,
            account=account,
            zones=zones,
            rate=rate,
        ) as emulator:
            say(f"emulator ready at {emulator.url}; eval $(hyperpod-ebs emulator env --state {shlex.quote(str(home))})")
            if not stop.is_set():
                _on_signals(emulator.world.clock.ended)
                await emulator.world.clock.ended.wait()

    try:
        uvloop.run(serve())
    except (StateRefused, command.CommandFailed, OSError) as refused:
        return fail(str(refused))
    except sqlite3.Error as error:
        return fail(f"{home} cannot be written ({error}): all that was answered is safe, nothing more can be")
    return 0


def _on_signals(event: asyncio.Event) -> None:
    """Let SIGTERM and Ctrl-C set `event`."""
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, event.set)
