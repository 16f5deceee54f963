"""A request to AWS, as the code that sends it and the code that rations it see it."""

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
