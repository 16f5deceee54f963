"""What the demo did: its steps, the states its volumes went through, and what it left."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from hyperpod_ebs.demo.sandbox import Leftovers


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing that was done."""

    name: str
    seconds: float
    calls: Mapping[str, int]
    """How often each AWS operation was called, by `service:Operation`."""
    result: str
    """What came out, for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """When a volume came into a state."""

    volume: str
    state: str
    instant: float
    """Unix seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The whole run."""

    profile: str
    seconds: float
    """From the first call to the last deletion, without the start of processes."""
    steps: tuple[Step, ...]
    history: tuple[Moment, ...]
    leftovers: Leftovers
    volumes: tuple[str, ...]
    """Ids of volumes that still exist at the cloud."""
    snapshots: tuple[str, ...]
    """Ids of snapshots that still exist at the cloud."""

    @property
    def clean(self) -> bool:
        """Whether nothing is left, here or at the cloud."""
        left = self.leftovers
        return not (left.loop_devices or left.mounts or left.processes or self.volumes or self.snapshots)

    def document(self) -> dict[str, object]:
        """The report as JSON has it."""
        return {
            "profile": self.profile,
            "seconds": self.seconds,
            "steps": [asdict(step) for step in self.steps],
            "history": [asdict(moment) for moment in self.history],
            "leftovers": {**asdict(self.leftovers), "volumes": self.volumes, "snapshots": self.snapshots},
        }
