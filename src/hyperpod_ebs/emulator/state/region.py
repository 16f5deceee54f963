"""The emulated region: its name, account, partition and zones.

The region has up to three zones, a, b and c, with the zone ids az1, az2 and az3 of its
short name (usw2-az1), and one default VPC with a subnet in each zone:
subnet-0000000000000000a, -b and -c. A cluster or an instance chooses its zone by subnet.
"""

from dataclasses import dataclass
from functools import cache
from typing import Final

from hyperpod_ebs.emulator.state import partitions

VPC: Final = "vpc-00000000000000001"
SECURITY_GROUP: Final = "sg-00000000000000001"

ZONES: Final = 3
"""The default number of zones in a region, which is also the maximum."""

_DIRECTIONS: Final = {"north": "n", "south": "s", "east": "e", "west": "w", "central": "c"}


@dataclass(frozen=True, slots=True)
class Zone:
    """An Availability Zone and its default subnet."""

    name: str
    id: str
    subnet: str


@dataclass(frozen=True, slots=True)
class Region:
    """An AWS region as one account sees it."""

    name: str
    """us-west-2."""

    account: str
    zone_count: int = ZONES

    @property
    def partition(self) -> str:
        """aws, aws-cn, aws-us-gov or another one that the SDK knows."""
        return partitions.find(self.name).name

    @property
    def global_signing_region(self) -> str:
        """The region for which requests to global services of the partition are signed."""
        return partitions.find(self.name).global_signing_region

    @property
    def private_domain(self) -> str:
        """The domain of private DNS names (EC2 User Guide, "EC2 instance hostnames"): us-west-2.compute.internal."""
        return "ec2.internal" if self.name == "us-east-1" else f"{self.name}.compute.internal"

    @property
    def zones(self) -> tuple[Zone, ...]:
        """The zones, in the order of their letters."""
        return _zones(self.name)[: self.zone_count]

    def zone(self, key: str) -> Zone | None:
        """The zone with this name, id or subnet; None if there is none."""
        return next((zone for zone in self.zones if key in {zone.name, zone.id, zone.subnet}), None)

    def zone_id(self, name: str) -> str | None:
        """The id of the zone with this name; None for an unknown name."""
        zone = self.zone(name)
        return zone.id if zone else None

    def arn(self, service: str, resource: str) -> str:
        """The ARN of a resource of the account in this region."""
        return f"arn:{self.partition}:{service}:{self.name}:{self.account}:{resource}"


@cache
def _zones(region: str) -> tuple[Zone, ...]:
    short = _short_name(region)
    return tuple(
        Zone(f"{region}{letter}", f"{short}-az{number}", f"subnet-{letter:0>17}")
        for number, letter in enumerate("abc", start=1)
    )


def _short_name(region: str) -> str:
    """The region's name as zone ids contain it: us-west-2 is usw2, ap-southeast-1 is apse1."""
    first, *words, number = region.split("-")
    return first + "".join(_short_word(word) for word in words) + number


def _short_word(word: str) -> str:
    """The short form of one word of a region's name: northeast is ne, west is w, gov is g."""
    if word in _DIRECTIONS:
        return _DIRECTIONS[word]
    start = next((direction for direction in _DIRECTIONS if word.startswith(direction)), None)
    return _DIRECTIONS[start] + _short_word(word.removeprefix(start)) if start else word[0]
