"""What to do next about an attachment: a table, and no I/O.

seen                  wanted     next
--------------------  ---------  -------
detached              attached   Attach
attaching here        attached   Wait
attached here         attached   Done
detaching here        attached   Wait
busy here             attached   Refuse
attaching elsewhere   attached   Refuse
attached elsewhere    attached   Refuse
detaching elsewhere   attached   Wait
busy elsewhere        attached   Refuse
detached              detached   Done
attaching here        detached   Detach
attached here         detached   Detach
detaching here        detached   Wait
busy here             detached   Wait
attaching elsewhere   detached   Done
attached elsewhere    detached   Done
detaching elsewhere   detached   Done
busy elsewhere        detached   Done
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import assert_never

from hyperpod_ebs.driver.model.nodes import Node
from hyperpod_ebs.driver.model.volume import Attachment, AttachState


@dataclass(frozen=True, slots=True)
class Attach:
    """Ask the cloud to attach."""


@dataclass(frozen=True, slots=True)
class Detach:
    """Ask the cloud to detach."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Look again: the cloud is on its way."""


@dataclass(frozen=True, slots=True)
class Done:
    """It is as wanted."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """It cannot be had while things are so."""

    why: str


Step = Attach | Detach | Wait | Done | Refuse


@dataclass(frozen=True, slots=True)
class AttachmentView:
    """A volume's attachment, seen from one node."""

    state: AttachState
    here: bool = False
    holder: str = ""


def view_from(node: Node, attachments: Iterable[Attachment]) -> AttachmentView:
    """What `node` should know: its own attachment first, else whoever holds the volume."""
    held = [a for a in attachments if a.state is not AttachState.DETACHED]
    for attachment in sorted(held, key=lambda a: a.node != node):
        return AttachmentView(attachment.state, here=attachment.node == node, holder=attachment.holder)
    return AttachmentView(AttachState.DETACHED)


def next_step_to_attach(seen: AttachmentView) -> Step:
    """The next step that brings the volume nearer to being on the node."""
    match seen.state:
        case AttachState.DETACHED:
            return Attach()
        case AttachState.DETACHING:
            return Wait()
        case AttachState.BUSY:
            return Refuse(f"a detach from {seen.holder} waits until the volume is unmounted there")
        case AttachState.ATTACHING | AttachState.ATTACHED if not seen.here:
            return Refuse(f"attached to {seen.holder}")
        case AttachState.ATTACHING:
            return Wait()
        case AttachState.ATTACHED:
            return Done()
        case _:
            assert_never(seen.state)


def next_step_to_detach(seen: AttachmentView) -> Step:
    """The next step that brings the volume nearer to being off the node."""
    if not seen.here:
        return Done()
    match seen.state:
        case AttachState.DETACHED:
            return Done()
        case AttachState.ATTACHING | AttachState.ATTACHED:
            return Detach()
        case AttachState.DETACHING | AttachState.BUSY:
            return Wait()
        case _:
            assert_never(seen.state)
