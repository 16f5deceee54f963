"""Find out which node this is, again for each question: labels and network interfaces change while the process runs.

All sources are asked at the same time. The last answer of a source stays valid until the source answers again, so a
metadata service or an API server that is down for a while does not make a known node unknown. A source that failed and
that is not needed, because the others answer, is asked only once a minute.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Protocol

import structlog

from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.limits import NOTHING_PUBLISHED
from hyperpod_ebs.driver.model.node_identity import (
    AttachLimitSettings,
    NodeIdentity,
    PartialIdentity,
    merged_identity,
    missing_fields,
)
from hyperpod_ebs.driver.node.published_limits import PublishedLimits
from hyperpod_ebs.driver.observe.condition import Condition

PART: Final = "node identity"
_BACKOFF: Final = 60.0
"""Seconds for which a source that failed and is not needed is not asked again."""

_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 15.0
_SLOWER: Final = 2.0

_OPTIONS: Final = (
    "--node-id, --zone and --instance-type (HYPERPOD_EBS_NODE_ID, HYPERPOD_EBS_ZONE, HYPERPOD_EBS_INSTANCE_TYPE)"
)

log = structlog.get_logger()


class Source(Protocol):
    """A service that knows this node."""

    name: ClassVar[str]
    """Its name in `--metadata-sources`."""

    async def read_identity(self) -> PartialIdentity:
        """Read what the source knows of this node.

        Raises:
            Error: The source does not answer, or does not know this node; the text says what to do.
        """
        ...


@dataclass(slots=True)
class _SourceState:
    """A source, its last answer and its last failure."""

    source: Source
    answer: PartialIdentity | None = None
    failure: str = ""
    """Why the last request failed; empty if it succeeded."""
    retry_at: float = 0.0
    """The loop's time before which the source is not asked again, unless it is needed."""

    async def ask(self, now: float) -> None:
        """Ask the source, and log its failure or recovery if that has changed."""
        before = self.failure
        try:
            self.answer, self.failure = await self.source.read_identity(), ""
        except errors.Error as error:
            self.failure, self.retry_at = str(error), now + _BACKOFF
        if self.failure and self.failure != before:
            log.warning("metadata source failed", source=self.source.name, why=self.failure)
        elif before and not self.failure:
            log.info("metadata source recovered", source=self.source.name)


class IdentityLookup:
    """Looks up the identity of this node."""

    def __init__(
        self,
        given: PartialIdentity,
        sources: Sequence[Source],
        limit: AttachLimitSettings,
        condition: Condition,
        published: PublishedLimits | None = None,
    ) -> None:
        """`given` comes from the operator's options and has priority; then the sources in their order."""
        self._given = given
        self._sources = [_SourceState(source) for source in sources]
        self._limit = limit
        self._condition = condition
        self._published = published
        self._warned_of_type = False

    async def identify(self) -> NodeIdentity:
        """Ask the sources and return this node's identity.

        Raises:
            Unavailable: The node's id or zone is not known.
        """
        if missing_fields([self._given]):
            await self._ask_sources(asyncio.get_running_loop().time())
        identity = self._identity()
        if identity and self._published and self._limit.limit is None:
            await self._published.look_up(identity.instance_type)
            identity = self._identity()
        if identity is None:
            problem = self._problem()
            self._condition.report(PART, problem)
            raise errors.Unavailable(problem)
        self._condition.report(PART, None)
        if not identity.instance_type and self._limit.limit is None and not self._warned_of_type:
            self._warned_of_type = True
            log.warning(
                "instance type not known: the node gets the attach limit of most types", do="--volume-attach-limit=N"
            )
        return identity

    async def wait_until_known(self) -> None:
        """Ask the sources until they know the node's identity, also if no CSI call needs it yet."""
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
        """Whether the node has an attach limit, as far as is known; true while the node is not known."""
        identity = self._identity()
        return identity is None or identity.attach_limit > 0

    async def _ask_sources(self, now: float) -> None:
        needed = self._identity() is None
        async with asyncio.TaskGroup() as tasks:
            for state in self._sources:
                if needed or not state.failure or now >= state.retry_at:
                    tasks.create_task(state.ask(now))

    def _answers(self) -> list[PartialIdentity]:
        return [self._given, *(state.answer for state in self._sources if state.answer)]

    def _identity(self) -> NodeIdentity | None:
        published = self._published.slots if self._published else NOTHING_PUBLISHED
        return merged_identity(self._answers(), self._limit, published)

    def _problem(self) -> str:
        """What is missing, why no source answers it, and what to do."""
        failures = [f"{state.source.name}: {state.failure}" for state in self._sources if state.failure]
        what = " and ".join(f"its {name}" for name in missing_fields(self._answers()))
        why = f" ({'; '.join(failures)})" if failures else ""
        return f"this node does not know {what}{why}; fix the cause, or set {_OPTIONS}"
