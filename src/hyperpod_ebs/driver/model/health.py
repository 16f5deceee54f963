"""Whether a volume on a node can be used: the answer behind NodeGetVolumeStats and NodeGetVolumeHealth."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from hyperpod_ebs.driver.model.disk import Usage


class HealthStatus(StrEnum):
    """How far a volume can be used; CSI's words, except for the first."""

    HEALTHY = "HEALTHY"
    DEGRADED = "DEGRADED"
    INACCESSIBLE = "INACCESSIBLE"


@dataclass(frozen=True, slots=True)
class Health:
    """A volume's health on one node."""

    status: HealthStatus
    reason: str
    """One word in CamelCase, for programs."""
    message: str


HEALTHY: Final = Health(
    HealthStatus.HEALTHY, "Healthy", "the volume answers, and accepts writes if it is mounted for them"
)


@dataclass(frozen=True, slots=True)
class Statistics:
    """How full a volume is, and its health. A volume that does not answer has no usage."""

    usage: Usage | None
    health: Health
