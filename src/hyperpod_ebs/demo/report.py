"""What the demo did: its steps, the states its volumes went through, and what it left."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from hyperpod_ebs.sandbox.sandbox import Leftovers


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
    """From the first process's start until nothing was left."""
    steps: tuple[Step, ...]
    history: tuple[Moment, ...] = ()
    leftovers: Leftovers
    volumes: tuple[str, ...] = ()
    """Ids of volumes that the cloud still had when it was stopped."""
    snapshots: tuple[str, ...] = ()
    """Ids of snapshots that it still had."""
    error: str | None = None
    """Why it did not come to its end, in a sentence."""

    @property
    def clean(self) -> bool:
        """Whether nothing is left, here or at the cloud."""
        return not any(self.left().values())

    def left(self) -> dict[str, tuple[str, ...]]:
        """What is left, by its kind; the kinds are always the same."""
        return {**self.leftovers.as_dict(), "volumes": self.volumes, "snapshots": self.snapshots}

    def document(self) -> dict[str, object]:
        """The report as JSON has it."""
        return {
            "profile": self.profile,
            "seconds": self.seconds,
            "steps": [asdict(step) for step in self.steps],
            "history": [asdict(moment) for moment in self.history],
            "leftovers": self.left(),
            "error": self.error,
        }
