"""What to do next about an attachment: the module's table, run row by row."""

from typing import Final, NamedTuple

import pytest

from hyperpod_ebs.driver.model import attachment
from hyperpod_ebs.driver.model.attachment import AttachmentView
from hyperpod_ebs.driver.model.nodes import Ec2Node, HyperPodNode
from hyperpod_ebs.driver.model.volume import Attachment, AttachState

HERE: Final = HyperPodNode("abcdefghijkl", "i-0123456789abcdef0")
ELSEWHERE: Final = Ec2Node("i-12345678")
STEPS: Final = {cls.__name__: cls for cls in (attachment.Attach, attachment.Detach, attachment.Wait)} | {
    "Done": attachment.Done,
    "Refuse": attachment.Refuse,
}


class Row(NamedTuple):
    """A line of the docstring."""

    state: AttachState
    here: bool
    wanted: str
    step: str

    @property
    def id(self) -> str:
        """The row in words."""
        place = "" if self.state is AttachState.DETACHED else " here" if self.here else " elsewhere"
        return f"{self.state}{place}, wanted {self.wanted}"


def rows() -> list[Row]:
    """The table of the module's docstring."""
    lines = (attachment.__doc__ or "").splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("---")) + 1
    found = []
    for line in filter(None, lines[start:]):
        *seen, wanted, step = line.split()
        found.append(Row(AttachState(seen[0]), seen[1:] == ["here"], wanted, step))
    return found


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.id)
def test_each_row_of_the_table_is_what_the_code_does(row: Row) -> None:
    """Ours: the picture cannot rot."""
    toward = attachment.next_step_to_attach if row.wanted == "attached" else attachment.next_step_to_detach

    step = toward(AttachmentView(row.state, here=row.here, holder="i-holder"))

    assert type(step) is STEPS[row.step]


def test_the_table_leaves_no_state_out() -> None:
    """Ours: every state, here and elsewhere, wanted both ways."""
    places = {state: (False,) if state is AttachState.DETACHED else (True, False) for state in AttachState}

    assert {(row.state, row.here, row.wanted) for row in rows()} == {
        (state, here, wanted)
        for state, heres in places.items()
        for here in heres
        for wanted in ("attached", "detached")
    }


def test_a_refusal_names_the_holder() -> None:
    """CSI spec §ControllerPublishVolume: FAILED_PRECONDITION should say which node has it."""
    for state in (AttachState.ATTACHED, AttachState.ATTACHING, AttachState.BUSY):
        step = attachment.next_step_to_attach(AttachmentView(state, holder="i-holder"))

        assert isinstance(step, attachment.Refuse)
        assert "i-holder" in step.why


def held(node: HyperPodNode | Ec2Node, state: AttachState) -> Attachment:
    """An attachment."""
    return Attachment(state=state, node=node, holder=str(node))


def test_a_node_sees_its_own_attachment_before_another_ones() -> None:
    """Ours: a volume that moves shows two for a moment."""
    attachments = [held(ELSEWHERE, AttachState.DETACHING), held(HERE, AttachState.ATTACHING)]

    assert attachment.view_from(HERE, attachments) == AttachmentView(AttachState.ATTACHING, here=True, holder=str(HERE))


def test_a_node_without_one_sees_the_holder() -> None:
    """Ours."""
    attachments = [held(ELSEWHERE, AttachState.ATTACHED)]

    assert attachment.view_from(HERE, attachments) == AttachmentView(AttachState.ATTACHED, holder=str(ELSEWHERE))


def test_what_is_detached_is_not_seen_at_all() -> None:
    """EC2 may list an attachment for a while after it has ended."""
    assert attachment.view_from(HERE, [held(HERE, AttachState.DETACHED)]) == AttachmentView(AttachState.DETACHED)
