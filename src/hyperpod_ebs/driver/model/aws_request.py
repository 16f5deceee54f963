"""Requests to AWS, and the lines in which they wait, as the code sees them that sends, rations and measures them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Request:
    """A request to AWS."""

    operation: str
    """AWS's name of the operation: `AttachVolume`."""
    subject: str
    """The volume, snapshot or other object that the request is about."""
    action: str
    """What the request does, for messages that begin with "cannot": `attach volume vol-1 to node i-1`."""
    creates: bool = False
    """Whether the request creates something."""
    repeatable: bool = True
    """Whether sending the request twice has the same effect as sending it once."""
    service: str = "ec2"
    """The SDK's name of the service."""
    timeout: float | None = None
    """Seconds for AWS's answer to one attempt; None for the SDK's own limits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LineState:
    """The calls of one operation that wait for their turn, and what is known of the operation's budget."""

    operation: str
    tokens: float
    """The calls that can be sent at once."""
    capacity: float
    rate: float
    """The calls a second that the driver sends for as long as calls wait, as it has learned."""
    documented_rate: float
    waiting: int
    on_the_way: int
    throttled: int
    """Calls that AWS has throttled since the process started."""
    next_subjects: tuple[str, ...]
    """The subjects whose turn comes first."""
