"""The next step of attaching or detaching a volume: the table in the module's docstring, row by row."""

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
    """A row of the table."""

    state: AttachState
    here: bool
    wanted: str
    step: str

    @property
    def id(self) -> str:
        """The row in words, for the test's id."""
        where = "" if self.state is AttachState.DETACHED else " here" if self.here else " elsewhere"
        return f"{self.state}{where}, wanted {self.wanted}"


def rows() -> list[Row]:
    """The rows of the table in the module's docstring."""
    lines = (attachment.__doc__ or "").splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("---")) + 1
    found = []
    for line in filter(None, lines[start:]):
        *sees, wanted, step = line.split()
        found.append(Row(AttachState(sees[0]), sees[1:] == ["here"], wanted, step))
    return found


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.id)
def test_the_code_does_what_each_row_of_the_table_says(row: Row) -> None:
    """The table is documentation that cannot become outdated."""
    next_step = attachment.next_step_to_attach if row.wanted == "attached" else attachment.next_step_to_detach

    step = next_step(AttachmentView(row.state, here=row.here, holder="i-holder"))

    assert type(step) is STEPS[row.step]


def test_the_table_has_every_state_here_and_elsewhere_for_both_goals() -> None:
    locations = {state: (False,) if state is AttachState.DETACHED else (True, False) for state in AttachState}

    assert {(row.state, row.here, row.wanted) for row in rows()} == {
        (state, here, wanted)
        for state, values in locations.items()
        for here in values
        for wanted in ("attached", "detached")
    }


def test_a_refusal_names_the_holder() -> None:
    """CSI spec, ControllerPublishVolume: FAILED_PRECONDITION, and the message should have the node."""
    for state in (AttachState.ATTACHED, AttachState.ATTACHING, AttachState.BUSY):
        step = attachment.next_step_to_attach(AttachmentView(state, holder="i-holder"))

        assert isinstance(step, attachment.Refuse)
        assert "i-holder" in step.reason


def attachment_to(node: HyperPodNode | Ec2Node, state: AttachState) -> Attachment:
    """An attachment to a node."""
    return Attachment(state=state, node=node, holder=str(node))


def test_a_node_sees_its_own_attachment_before_that_of_another_node() -> None:
    """EC2 shows two attachments for a moment while a volume moves."""
    attachments = [attachment_to(ELSEWHERE, AttachState.DETACHING), attachment_to(HERE, AttachState.ATTACHING)]

    assert attachment.view_from(HERE, attachments) == AttachmentView(AttachState.ATTACHING, here=True, holder=str(HERE))


def test_a_node_without_an_attachment_sees_that_of_another_node() -> None:
    attachments = [attachment_to(ELSEWHERE, AttachState.ATTACHED)]

    assert attachment.view_from(HERE, attachments) == AttachmentView(AttachState.ATTACHED, holder=str(ELSEWHERE))


def test_a_detached_attachment_does_not_count() -> None:
    """EC2 may list an attachment for a while after it has ended."""
    assert attachment.view_from(HERE, [attachment_to(HERE, AttachState.DETACHED)]) == AttachmentView(
        AttachState.DETACHED
    )
