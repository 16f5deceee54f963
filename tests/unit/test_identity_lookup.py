"""How a node finds out who it is, from sources that come and go."""

from dataclasses import dataclass, field
from typing import ClassVar

import pytest

from hyperpod_ebs.driver.model import errors, nodes
from hyperpod_ebs.driver.model.node_identity import AttachLimitSettings, PartialIdentity
from hyperpod_ebs.driver.node.identity_lookup import IdentityLookup
from hyperpod_ebs.driver.observe.condition import Condition

KNOWN = PartialIdentity(id=nodes.parse("i-0123456789abcdef0"), zone="us-west-2a", instance_type="m5.large")


@dataclass
class Steered:
    """A source that tells what it is ordered to."""

    name: ClassVar[str] = "steered"
    told: PartialIdentity | None = None
    asked: int = 0

    async def read_identity(self) -> PartialIdentity:
        """Tell it."""
        self.asked += 1
        if self.told is None:
            raise errors.Unavailable("nobody is at home")
        return self.told


@dataclass
class Second(Steered):
    """Another."""

    name: ClassVar[str] = "second"


@dataclass
class Bench:
    """What is tested, and what is around it."""

    first: Steered = field(default_factory=Steered)
    second: Second = field(default_factory=Second)
    condition: Condition = field(default_factory=Condition)

    def who(self, given: PartialIdentity = PartialIdentity()) -> IdentityLookup:  # noqa: B008 - frozen
        """It."""
        return IdentityLookup(given, [self.first, self.second], AttachLimitSettings(), self.condition)


async def test_a_node_that_is_told_who_it_is_asks_nobody() -> None:
    """Explicit options win wherever they are given."""
    bench = Bench()

    known = await bench.who(KNOWN).identify()

    assert (known.id, known.zone, known.volumes) == ("i-0123456789abcdef0", "us-west-2a", 26)
    assert (bench.first.asked, bench.second.asked) == (0, 0)


@pytest.mark.requirement("node.starts-unidentified")
async def test_a_node_that_is_not_known_says_what_is_missing_why_and_what_to_do() -> None:
    """Ours: it starts all the same, and heals when one source tells."""
    bench = Bench()
    who = bench.who(PartialIdentity(zone="us-west-2a"))

    with pytest.raises(errors.Unavailable) as caught:
        await who.identify()
    said = str(bench.condition)
    bench.second.told = KNOWN
    known = await who.identify()

    assert str(caught.value) == said
    assert said.startswith(
        "this node does not know its id (steered: nobody is at home; second: nobody is at home); mend that, or say"
    )
    assert known.id == "i-0123456789abcdef0"
    assert str(bench.condition) == ""


async def test_what_a_source_tells_is_read_anew_each_time() -> None:
    """Kubernetes asks NodeGetInfo periodically: the limit changes with the node."""
    bench = Bench(first=Steered(KNOWN))
    who = bench.who()
    before = (await who.identify()).volumes

    bench.first.told = PartialIdentity(id=KNOWN.id, zone=KNOWN.zone, instance_type="m5.large", interfaces=3)

    assert (before, (await who.identify()).volumes) == (26, 24)


async def test_a_source_that_is_away_for_a_while_takes_nothing_from_a_node_that_is_known() -> None:
    """Ours: an API server that restarts must not shrink what the scheduler knows."""
    bench = Bench(first=Steered(KNOWN))
    who = bench.who()
    before = await who.identify()

    bench.first.told = None

    assert await who.identify() == before


async def test_a_source_that_failed_and_is_not_needed_is_left_in_peace() -> None:
    """Ours: metadata that a pod cannot reach costs seconds each time that it is asked."""
    bench = Bench(first=Steered(KNOWN))
    who = bench.who()

    for _ in range(3):
        await who.identify()

    assert (bench.first.asked, bench.second.asked) == (3, 1)
