"""The next step of attaching or detaching a volume: a table, without I/O.

the node sees         wanted     next
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
from datetime import datetime
from typing import assert_never

from hyperpod_ebs.driver.model.nodes import Node
from hyperpod_ebs.driver.model.volume import Attachment, AttachState


@dataclass(frozen=True, slots=True)
class Attach:
    """Request the attachment."""


@dataclass(frozen=True, slots=True)
class Detach:
    """Request the detachment."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Poll again: AWS is changing the attachment."""


@dataclass(frozen=True, slots=True)
class Done:
    """Nothing is left to do."""

    device: str = ""
    """The device name of the attachment; empty after a detachment and on a HyperPod node."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """Fail: the volume cannot be attached in this state."""

    reason: str


Step = Attach | Detach | Wait | Done | Refuse


@dataclass(frozen=True, slots=True)
class AttachmentView:
    """A volume's attachment as one node sees it."""

    state: AttachState
    here: bool = False
    """Whether it is this node's own attachment."""
    holder: str = ""
    """What the volume is attached to, for messages."""
    since: datetime | None = None
    """When the attachment was requested."""
    device: str = ""
    """The device name on an EC2 instance; empty on a HyperPod node."""

    def __str__(self) -> str:
        """The attachment for messages, with a time instead of an age: a repeated message stays the same."""
        if self.state is AttachState.DETACHED:
            return "no attachment"
        is_attaching = self.state is AttachState.ATTACHING and self.since is not None
        return f"{self.state} at {self.holder}" + (f" since {self.since:%Y-%m-%dT%H:%M:%SZ}" if is_attaching else "")


def view_from(node: Node, attachments: Iterable[Attachment]) -> AttachmentView:
    """The attachment that matters to `node`: its own if there is one, otherwise another node's."""
    current = [attachment for attachment in attachments if attachment.state is not AttachState.DETACHED]
    for attachment in sorted(current, key=lambda attachment: attachment.node != node):
        here = attachment.node == node
        return AttachmentView(
            attachment.state, here=here, holder=attachment.holder, since=attachment.since, device=attachment.device
        )
    return AttachmentView(AttachState.DETACHED)


def next_step_to_attach(view: AttachmentView) -> Step:
    """The next step towards attaching the volume to the node."""
    match view.state:
        case AttachState.DETACHED:
            return Attach()
        case AttachState.DETACHING:
            return Wait()
        case AttachState.BUSY:
            return Refuse(
                f"the volume is still mounted on {view.holder}, from which AWS is detaching it; unmount it there"
            )
        case AttachState.ATTACHING | AttachState.ATTACHED if not view.here:
            return Refuse(f"the volume is attached to {view.holder}; end the pod that uses it there")
        case AttachState.ATTACHING:
            return Wait()
        case AttachState.ATTACHED:
            return Done(view.device)
        case _:
            assert_never(view.state)


def next_step_to_detach(view: AttachmentView) -> Step:
    """The next step towards detaching the volume from the node."""
    if not view.here:
        return Done()
    match view.state:
        case AttachState.DETACHED:
            return Done()
        case AttachState.ATTACHING | AttachState.ATTACHED:
            return Detach()
        case AttachState.DETACHING | AttachState.BUSY:
            return Wait()
        case _:
            assert_never(view.state)
