"""Finds out who this node is, and again whenever it is asked: labels and interfaces change while it runs.

The sources are asked side by side. What one has told stands until it tells something
newer: a metadata service or an API server that is away for a while takes nothing from
a node that is known. One that failed, and that the others can do without, is left in
peace for a minute.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Protocol

import structlog

from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.node_identity import (
    AttachLimitSettings,
    NodeIdentity,
    PartialIdentity,
    merged_identity,
    missing_fields,
)
from hyperpod_ebs.driver.observe.condition import Condition

PART: Final = "node identity"
_PEACE: Final = 60.0
"""Seconds for which a source that failed and is not needed is not asked again."""

_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 15.0
_SLOWER: Final = 2.0

_OPTIONS: Final = (
    "--node-id, --zone and --instance-type (HYPERPOD_EBS_NODE_ID, HYPERPOD_EBS_ZONE, HYPERPOD_EBS_INSTANCE_TYPE)"
)

log = structlog.get_logger()


class Source(Protocol):
    """Something that knows this node."""

    name: ClassVar[str]
    """What it is called in `--metadata-sources`."""

    async def read_identity(self) -> PartialIdentity:
        """What it knows now.

        Raises:
            Error: It does not answer, or does not know this node; the text says what to do.
        """
        ...


@dataclass(slots=True)
class _Asked:
    """A source, and how it last went."""

    source: Source
    told: PartialIdentity | None = None
    why: str = ""
    """Why it did not tell; empty where it did."""
    peace: float = 0.0
    """Not asked before this moment, unless it is needed."""

    async def ask(self, now: float) -> None:
        """Let it tell; the log hears of each change once."""
        before = self.why
        try:
            self.told, self.why = await self.source.read_identity(), ""
        except errors.Error as error:
            self.why, self.peace = str(error), now + _PEACE
        if self.why and self.why != before:
            log.warning("metadata source does not tell", source=self.source.name, why=self.why)
        elif before and not self.why:
            log.info("metadata source tells again", source=self.source.name)


class IdentityLookup:
    """This node, as far as it is known."""

    def __init__(
        self, given: PartialIdentity, sources: Sequence[Source], allowance: AttachLimitSettings, condition: Condition
    ) -> None:
        """`given` is what the operator says, and is believed first; then the sources in their order."""
        self._given = given
        self._sources = [_Asked(source) for source in sources]
        self._allowance = allowance
        self._condition = condition
        self._limitless = False

    async def identify(self) -> NodeIdentity:
        """This node by all that can be found out now.

        Raises:
            Unavailable: Not enough is known of it.
        """
        if missing_fields([self._given]):
            await self._ask(asyncio.get_running_loop().time())
        myself = self._known()
        if myself is None:
            sentence = self._unknown()
            self._condition.report(PART, sentence)
            raise errors.Unavailable(sentence)
        self._condition.report(PART, None)
        if not myself.volumes and not self._limitless:
            self._limitless = True
            log.warning("attach limit not known: the scheduler may overfill this node", do="--volume-attach-limit=N")
        return myself

    async def wait_until_known(self) -> None:
        """Come back once it is known; asked now and then, so that it heals without a call."""
        pause = _FIRST_PAUSE
        while True:
            try:
                await self.identify()
            except errors.Unavailable:
                await asyncio.sleep(pause)
                pause = min(pause * _SLOWER, _LONGEST_PAUSE)
            else:
                return

    @property
    def has_attach_limit(self) -> bool:
        """Whether the node, as it is known, has an attach limit."""
        known = self._known()
        return known is None or known.volumes > 0

    async def _ask(self, now: float) -> None:
        needed = self._known() is None
        async with asyncio.TaskGroup() as tasks:
            for asked in self._sources:
                if needed or not asked.why or now >= asked.peace:
                    tasks.create_task(asked.ask(now))

    def _told(self) -> list[PartialIdentity]:
        return [self._given, *(asked.told for asked in self._sources if asked.told)]

    def _known(self) -> NodeIdentity | None:
        return merged_identity(self._told(), self._allowance)

    def _unknown(self) -> str:
        """What is missing, why each source does not tell it, and what to do."""
        reasons = [f"{asked.source.name}: {asked.why}" for asked in self._sources if asked.why]
        what = " and ".join(f"its {name}" for name in missing_fields(self._told()))
        asked = f" ({'; '.join(reasons)})" if reasons else ""
        return f"this node does not know {what}{asked}; mend that, or say it with {_OPTIONS}"
