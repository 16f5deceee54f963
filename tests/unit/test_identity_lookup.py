"""How a node process finds the identity of its node, from sources that may fail."""

from dataclasses import dataclass, field
from typing import ClassVar

import pytest

from hyperpod_ebs.driver.model import errors, nodes
from hyperpod_ebs.driver.model.node_identity import AttachLimitSettings, PartialIdentity
from hyperpod_ebs.driver.node.identity_lookup import IdentityLookup
from hyperpod_ebs.driver.observe.condition import Condition

KNOWN = PartialIdentity(id=nodes.parse("i-0123456789abcdef0"), zone="us-west-2a", instance_type="m5.large")


@dataclass
class FirstSource:
    """A source whose answer the test sets."""

    name: ClassVar[str] = "first"
    identity: PartialIdentity | None = None
    """The answer; the source fails if it is None."""
    requests: int = 0

    async def read_identity(self) -> PartialIdentity:
        """Answer, or fail."""
        self.requests += 1
        if self.identity is None:
            raise errors.Unavailable("connection refused")
        return self.identity


@dataclass
class SecondSource(FirstSource):
    """Another source, with another name."""

    name: ClassVar[str] = "second"


@dataclass
class Setup:
    """Two sources and the condition that a lookup reports to."""

    first: FirstSource = field(default_factory=FirstSource)
    second: SecondSource = field(default_factory=SecondSource)
    condition: Condition = field(default_factory=Condition)

    def lookup(self, given: PartialIdentity = PartialIdentity()) -> IdentityLookup:  # noqa: B008 - frozen
        """The lookup under test."""
        return IdentityLookup(given, [self.first, self.second], AttachLimitSettings(), self.condition)


async def test_a_node_whose_options_give_its_identity_asks_no_source() -> None:
    """Options have priority over all sources."""
    setup = Setup()

    identity = await setup.lookup(KNOWN).identify()

    assert (identity.id, identity.zone, identity.attach_limit) == ("i-0123456789abcdef0", "us-west-2a", 26)
    assert (setup.first.requests, setup.second.requests) == (0, 0)


@pytest.mark.requirement("node.starts-unidentified")
async def test_an_unknown_node_reports_what_is_missing_and_why_and_what_to_do() -> None:
    """The process keeps running, and recovers when one source answers."""
    setup = Setup()
    lookup = setup.lookup(PartialIdentity(zone="us-west-2a"))

    with pytest.raises(errors.Unavailable) as caught:
        await lookup.identify()
    reported = str(setup.condition)
    setup.second.identity = KNOWN
    identity = await lookup.identify()

    assert str(caught.value) == reported
    assert reported.startswith(
        "this node does not know its id (first: connection refused; second: connection refused); fix the cause, or set"
    )
    assert identity.id == "i-0123456789abcdef0"
    assert str(setup.condition) == ""


async def test_a_source_is_asked_again_for_each_lookup() -> None:
    """Kubernetes, CSIDriver nodeAllocatableUpdatePeriodSeconds: kubelet repeats NodeGetInfo, and the limit changes."""
    setup = Setup(first=FirstSource(KNOWN))
    lookup = setup.lookup()
    before = (await lookup.identify()).attach_limit

    setup.first.identity = PartialIdentity(id=KNOWN.id, zone=KNOWN.zone, instance_type="m5.large", interfaces=3)

    assert (before, (await lookup.identify()).attach_limit) == (26, 24)


async def test_a_known_node_stays_known_while_its_source_is_down() -> None:
    """A restart of the API server must not change the attach limit that the scheduler knows."""
    setup = Setup(first=FirstSource(KNOWN))
    lookup = setup.lookup()
    before = await lookup.identify()

    setup.first.identity = None

    assert await lookup.identify() == before


async def test_a_failed_source_that_is_not_needed_is_not_asked_again_at_once() -> None:
    """Instance metadata that a pod cannot reach costs seconds for each request."""
    setup = Setup(first=FirstSource(KNOWN))
    lookup = setup.lookup()

    for _ in range(3):
        await lookup.identify()

    assert (setup.first.requests, setup.second.requests) == (3, 1)
