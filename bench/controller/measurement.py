"""What a measurement has, and what it returns."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from bench.controller.cloud import Cloud
from bench.controller.contender import Contender
from hyperpod_ebs.sandbox.sandbox import Sandbox


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How much is measured, and of what kind."""

    seed: int = 1
    """The seed of the cloud's random durations."""
    profile: Literal["aws", "instant"]
    """How long the cloud's state changes take: as on AWS, or no time."""
    lives: Mapping[int, int]
    """By the number of lives at once, how often as many are run."""
    burst: int
    """Volumes that are created and attached at once."""
    simulated: int
    """The same on a virtual clock."""
    starts: int
    """Starts of the controller."""
    rpcs: int
    """Calls of each RPC at zero cloud time: fewer than EC2 allows at once, to which a controller may keep unasked."""
    limits: Mapping[str, Mapping[str, float]]
    """What differs from the documented token buckets, by operation."""


FULL: Final = Scale(
    profile="aws", lives={1: 25, 10: 6, 100: 2}, burst=500, simulated=5000, starts=9, rpcs=80, limits={}
)

_CHANGING: Final = (
    "ec2:CreateVolume",
    "ec2:DeleteVolume",
    "ec2:CreateSnapshot",
    "sagemaker:AttachClusterNodeVolume",
    "sagemaker:DetachClusterNodeVolume",
)
QUICK: Final = Scale(
    profile="instant",
    lives={1: 2, 5: 1},
    burst=40,
    simulated=200,
    starts=2,
    rpcs=30,
    limits={operation: {"capacity": 20.0, "refill": 10.0} for operation in _CHANGING},
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row of the table."""

    id: str
    text: str
    unit: str = ""
    limit: float | None = None
    """The figure to reach at most; None if there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """The place of one measurement of one contender."""

    sandbox: Sandbox
    contender: Contender
    cloud: Cloud
    scale: Scale
    directory: Path | None
    """The directory for time lines and pages; None if none are wanted."""
    report: Callable[[str], None]
    """Reports progress."""

    def save(self, name: str, text: str) -> None:
        """Write a file of this contender's into the directory, if there is one."""
        if self.directory is not None:
            (self.directory / f"{self.contender.name}-{name}").write_text(text)


@dataclass(frozen=True, slots=True)
class Findings:
    """What was measured."""

    figures: Mapping[str, float]
    """By the id of a row. A figure that a contender does not have is missing."""
    details: Mapping[str, object]
    """How the figures came about, as JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The findings of one contender in one measurement."""

    measurement: str
    contender: str
    findings: Findings


def figures_of(results: Sequence[Result], contender: str) -> Mapping[str, float]:
    """All figures of a contender."""
    return {
        id_: figure
        for result in results
        if result.contender == contender
        for id_, figure in result.findings.figures.items()
    }
