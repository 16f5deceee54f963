"""The attach limits that the controller has published, as a node process reads them.

Only a node whose instance type is not in the driver's table reads them. It stops as soon as its own type is there,
because an entry does not change. Until then it asks once a minute: kubelet may ask for the limit every ten seconds.
"""

import asyncio
from typing import Final, Protocol

import structlog

from hyperpod_ebs.driver.model import errors, limits
from hyperpod_ebs.driver.model.limits import NOTHING_PUBLISHED, PublishedSlots

_PAUSE: Final = 60.0
"""Seconds between two requests."""

log = structlog.get_logger()


class Source(Protocol):
    """Knows what the controller has published."""

    async def read_attach_slots(self) -> PublishedSlots:
        """Read what is published.

        Raises:
            Error: It cannot be read.
        """
        ...


class PublishedLimits:
    """What the controller has published, as last read."""

    def __init__(self, source: Source) -> None:
        self.slots: PublishedSlots = NOTHING_PUBLISHED
        self._source = source
        self._ask_at = 0.0
        """The loop's time before which the source is not asked again."""
        self._failure = ""
        self._reading = asyncio.Lock()

    async def look_up(self, instance_type: str) -> None:
        """Read the slots of this type, if the table lacks it and it has not been read yet."""
        if not instance_type or limits.is_in_table(instance_type):
            return
        async with self._reading:  # a question in the same moment waits for the same answer
            if limits.ec2_name(instance_type) not in self.slots:
                await self._read(asyncio.get_running_loop().time())

    async def _read(self, now: float) -> None:
        """Read what is published, unless that was tried a moment ago."""
        if now < self._ask_at:
            return
        self._ask_at = now + _PAUSE
        try:
            self.slots, self._failure = await self._source.read_attach_slots(), ""
        except errors.Error as error:
            if str(error) != self._failure:
                log.warning("cannot read the published attach limits", why=str(error))
            self._failure = str(error)
