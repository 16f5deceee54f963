"""How long AWS takes to answer a call of EC2 or SageMaker.

Only the answer is late: the call is carried out at once, and the durations of state changes begin then. One figure is
observed: EC2 acknowledges AttachVolume after 0.25 to 1 second (kubernetes-sigs/aws-ebs-csi-driver issue 2056). The
others are guesses. The other services answer without delay, because volumes do not wait for them.
"""

import random
from collections.abc import Callable, Mapping
from typing import Final, Literal

from hyperpod_ebs.emulator.state.clock import Profile

LatencyMode = Literal["off", "observed"]

Latency = Callable[[str, str], float]
"""Draws the seconds until an operation is answered; the arguments are the service and the operation."""

Span = tuple[float, float]
"""The shortest and the longest latency in seconds; all between them are equally likely."""

_NONE: Final[Span] = (0.0, 0.0)
_READ: Final[Span] = (0.03, 0.06)
_CHANGE: Final[Span] = (0.1, 0.2)
_ATTACH: Final[Span] = (0.25, 1.0)

_SPANS: Final[Mapping[str, Span]] = {
    "ec2:AttachVolume": _ATTACH,
    "sagemaker:AttachClusterNodeVolume": _ATTACH,  # a guess: SageMaker calls EC2
}
_SERVICES: Final = frozenset({"ec2", "sagemaker"})
_READING: Final = ("Describe", "Get", "List")


def span_of(service: str, operation: str) -> Span:
    """The shortest and the longest latency of an operation, in seconds."""
    if service not in _SERVICES:
        return _NONE
    return _SPANS.get(f"{service}:{operation}", _READ if operation.startswith(_READING) else _CHANGE)


def no_latency(_service: str, _operation: str) -> float:
    """Answer at once."""
    return 0.0


def latency_of(mode: LatencyMode | None, *, profile: Profile, seed: int) -> Latency:
    """The latency of an emulator.

    Args:
        mode: Whether there is latency; None for the profile's default, which is none with `instant`.
        profile: The profile of the emulator.
        seed: The seed of the latencies; they do not change the clock's draws from the same seed.
    """
    if mode == "off" or (mode is None and profile == "instant"):
        return no_latency
    generator = random.Random(f"{seed}/latency")  # noqa: S311 - must be repeatable
    return lambda service, operation: generator.uniform(*span_of(service, operation))
