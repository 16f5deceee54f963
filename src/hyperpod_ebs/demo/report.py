"""The result of the demo: its steps, the states of its volumes, and what is left behind."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from hyperpod_ebs.sandbox.sandbox import Leftovers


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A completed step."""

    name: str
    seconds: float
    calls: Mapping[str, int]
    """The number of calls of each AWS operation, by `service:Operation`."""
    result: str
    """The outcome in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """The time at which a volume changed to a state."""

    volume: str
    state: str
    instant: float
    """Unix seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The result of one run."""

    profile: str
    seconds: float
    """From the start of the first process to the last check for leftovers."""
    steps: tuple[Step, ...]
    history: tuple[Moment, ...] = ()
    leftovers: Leftovers
    volumes: tuple[str, ...] = ()
    """Ids of the volumes that were left in the emulator when it was stopped."""
    snapshots: tuple[str, ...] = ()
    """Ids of the snapshots that were left."""
    error: str | None = None
    """Why the demo failed, in a sentence; None after success."""

    @property
    def is_clean(self) -> bool:
        """Whether nothing is left behind, on the machine and in the emulator."""
        return not any(self.all_leftovers().values())

    def all_leftovers(self) -> dict[str, tuple[str, ...]]:
        """What is left behind, by kind; every kind is present."""
        return {**self.leftovers.as_dict(), "volumes": self.volumes, "snapshots": self.snapshots}

    def document(self) -> dict[str, object]:
        """The report as a JSON document."""
        return {
            "profile": self.profile,
            "seconds": self.seconds,
            "steps": [asdict(step) for step in self.steps],
            "history": [asdict(moment) for moment in self.history],
            "leftovers": self.all_leftovers(),
            "error": self.error,
        }
