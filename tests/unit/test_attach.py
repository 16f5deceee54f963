"""Attaching and detaching: what is decided where AWS refuses, and what is believed of what it shows."""

from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.nodes import Ec2Node, HyperPodNode, Node
from hyperpod_ebs.driver.model.volume import Attachment, AttachState, Volume
from hyperpod_ebs.driver.volumes.attach import LAG, PATIENCE, ROUNDS, SHOWN, publish, unpublish
from hyperpod_ebs.driver.volumes.watch import Watcher
from tests.support.scripted_cloud import ID, NODE, OTHER, PaperCloud, a_volume, held
from tests.support.virtual_time import now, run


def done(paper: PaperCloud, act: Callable[..., Coroutine[Any, Any, None]], node: Node | None = NODE) -> float:
    """When it was done."""

    async def inner() -> float:
        async with Watcher(paper.cloud) as watcher:
            await act(paper.cloud, watcher, ID, node)
            return now()

    return run(inner())


def refused(paper: PaperCloud, act: Callable[..., Coroutine[Any, Any, None]], node: Node | None = NODE) -> errors.Error:
    """What is said instead."""

    async def inner() -> errors.Error:
        async with Watcher(paper.cloud) as watcher:
            with pytest.raises(errors.Error) as refusal:
                await act(paper.cloud, watcher, ID, node)
            return refusal.value

    return run(inner())


def refusing(*refusals: errors.Error, attach: bool = True, **terms: Any) -> PaperCloud:
    """A cloud that refuses so at first."""
    paper = PaperCloud(**terms)
    paper.refusals["attach" if attach else "detach"] = list(refusals)
    return paper


def test_an_answer_that_says_attached_costs_one_call() -> None:
    """Ours: SageMaker's answer has the state in it."""
    paper = PaperCloud(attached=held("attached"))

    done(paper, publish)

    assert paper.calls.total() == 1


def test_an_attachment_is_waited_for() -> None:
    """CSI: what is published can be used."""
    paper = PaperCloud(shows=lambda at: a_volume("in-use", held("attached" if at > 3 else "attaching")))

    assert 3 < done(paper, publish) < 4


def test_what_ec2_showed_before_the_attach_is_not_believed_after_it() -> None:
    """EC2: after a move a replica may still show the last holder; it has taken our attach, so that is over."""

    def shows(at: float) -> Volume:
        return a_volume("in-use", held("attached", OTHER) if at < 4 else held("attached"))

    assert 4 < done(PaperCloud(shows=shows), publish) < 6


def test_a_repeat_is_looked_up_and_succeeds() -> None:
    """CSI: a repeat on the same node succeeds; AWS says in use."""
    paper = refusing(errors.InUse("in use"), shows=lambda _: a_volume("in-use", held("attached")))

    done(paper, publish)

    assert paper.calls == {"attach": 1, "volumes": 1}


def test_an_attachment_elsewhere_is_refused_with_the_holders_name() -> None:
    """CSI: FAILED_PRECONDITION, and the operator reads where it is."""
    paper = refusing(errors.InUse("in use"), shows=lambda _: a_volume("in-use", held("attached", OTHER)))

    refusal = refused(paper, publish)

    assert isinstance(refusal, errors.InUse)
    assert str(OTHER) in str(refusal)


def test_a_detachment_under_way_elsewhere_is_waited_for_and_then_it_is_asked_again() -> None:
    """Ours: the move of a pod needs no further round of the CO."""
    paper = refusing(
        errors.InUse("in use"),
        shows=lambda at: a_volume("in-use", held("detaching", OTHER)) if at < 5 else a_volume(),
        attached=held("attached"),
    )

    assert 5 < done(paper, publish) < 7
    assert paper.calls["attach"] == 2


def test_a_volume_that_is_free_and_refused_all_the_same_keeps_awss_reason() -> None:
    """AWS: still creating, another zone, a cluster that is updating."""
    paper = refusing(errors.NotReady("zone mismatch"), shows=lambda _: a_volume())

    assert str(refused(paper, publish)) == "zone mismatch"


def test_an_attachment_that_aws_gives_up_is_asked_for_again_but_not_for_ever() -> None:
    """EC2: with a key that was revoked it attaches and then lets go."""

    def shows(at: float) -> Volume:
        return a_volume("in-use", held("attaching")) if at % 4 < 2 else a_volume()

    paper = PaperCloud(shows=shows)

    refusal = refused(paper, publish)

    assert isinstance(refusal, errors.NotReady)
    assert paper.calls["attach"] == ROUNDS


def test_an_attachment_that_ec2_never_shows_is_asked_for_again() -> None:
    """Ours: an acknowledgement that came to nothing is found out."""
    paper = PaperCloud(shows=lambda _: a_volume())

    refusal = refused(paper, publish)

    assert isinstance(refusal, errors.NotReady)
    assert paper.calls["attach"] == ROUNDS


def test_an_attachment_on_its_way_for_too_long_is_to_be_asked_for_again() -> None:
    """Ours: every wait has a deadline."""
    paper = PaperCloud(shows=lambda _: a_volume("in-use", held("attaching")))

    refusal = refused(paper, publish)

    assert type(refusal) is errors.Unavailable
    assert f"{PATIENCE:g} s" in str(refusal)


def test_a_volume_that_is_gone_cannot_be_attached() -> None:
    """CSI: NOT_FOUND, but only once EC2's lag is over."""
    paper = PaperCloud(shows=lambda at: a_volume("in-use", held("attaching")) if at < 2 else None)

    assert isinstance(refused(paper, publish), errors.VolumeNotFound)
    assert isinstance(refused(refusing(errors.NotReady("what?")), publish), errors.VolumeNotFound)


class Off(NamedTuple):
    """AWS's refusal of a detach, what EC2 shows, and whether that is a success."""

    id: str
    refusal: errors.Error
    shown: Volume | None
    success: bool


GONE_NODE = errors.NodeNotFound("no such node")
NOT_THERE = errors.NotReady("not attached")
UNPARSED = Attachment(state=AttachState.ATTACHED, node=None, holder=f"arn:new:form/{NODE.instance}")
FOREIGN = Attachment(state=AttachState.ATTACHED, node=None, holder="arn:aws:eks:r:1:cluster/x")


@pytest.mark.parametrize(
    "case",
    [
        Off("the volume is gone", errors.VolumeNotFound("no"), None, success=True),
        Off("the node is gone and nothing attached", GONE_NODE, a_volume(), success=True),
        Off("off already", NOT_THERE, a_volume(), success=True),
        Off("attached to another node", NOT_THERE, a_volume("in-use", held("attached", OTHER)), success=True),
        Off("held by another service", NOT_THERE, a_volume("in-use", FOREIGN), success=True),
        Off("detached, as EC2 shows for a while", NOT_THERE, a_volume("available", held("detached")), success=True),
        Off("unknown node that has it", GONE_NODE, a_volume("in-use", held("attached")), success=False),
        Off(
            "the same instance in another cluster",
            GONE_NODE,
            a_volume("in-use", held("attached", HyperPodNode("zzzzzzzzzzzz", NODE.instance))),
            success=False,
        ),
        Off(
            "the same instance without a cluster",
            NOT_THERE,
            a_volume("in-use", held("attached", Ec2Node(NODE.instance))),
            success=False,
        ),
        Off(
            "the instance in a form of ARN that we do not know", GONE_NODE, a_volume("in-use", UNPARSED), success=False
        ),
    ],
    ids=lambda case: case.id,
)
def test_a_detach_that_aws_refuses_succeeds_only_where_ec2_shows_no_attachment(case: Off) -> None:
    """Attacher: success frees the volume for another node; a wrong ARN must not free a live one."""
    paper = refusing(case.refusal, attach=False, shows=lambda _: case.shown)

    if case.success:
        done(paper, unpublish)
    else:
        assert isinstance(refused(paper, unpublish), errors.NotReady)


def test_a_volume_that_ec2_does_not_show_for_a_moment_is_not_off_its_node() -> None:
    """EC2: replicas lag; AWS knew no such node, and said nothing of the volume."""
    lagging = refusing(
        GONE_NODE, attach=False, shows=lambda at: None if at < 0.5 else a_volume("in-use", held("attached"))
    )

    assert isinstance(refused(lagging, unpublish), errors.NotReady)
    assert done(refusing(GONE_NODE, attach=False), unpublish) == pytest.approx(LAG)


def test_a_detachment_under_way_is_joined() -> None:
    """AWS: a second detach is refused while the first is on its way."""
    paper = refusing(
        NOT_THERE,
        attach=False,
        shows=lambda at: a_volume("in-use", held("detaching")) if at < 4 else a_volume(),
    )

    assert 4 < done(paper, unpublish) < 6


def test_a_volume_still_mounted_is_said_to_be() -> None:
    """Ours: busy is the node's doing, and the operator reads so."""
    paper = PaperCloud(shows=lambda _: a_volume("in-use", held("busy")))

    refusal = refused(paper, unpublish)

    assert isinstance(refusal, errors.InUse)
    assert "still mounted" in str(refusal)


def test_without_a_node_it_is_taken_off_whatever_has_it() -> None:
    """CSI: an empty node id means everywhere."""
    paper = PaperCloud(shows=lambda _: a_volume("in-use", held("attached", OTHER)), detached=held("detached", OTHER))
    free, foreign = PaperCloud(shows=lambda _: a_volume()), PaperCloud(shows=lambda _: a_volume("in-use", FOREIGN))

    done(paper, unpublish, None)
    done(free, unpublish, None)

    assert paper.calls["detach"] == 1
    assert free.calls["detach"] == 0
    assert isinstance(refused(foreign, unpublish, None), errors.NotReady)


states = st.sampled_from([state for state in AttachState if state is not AttachState.DETACHED])
holders = st.sampled_from([NODE, OTHER])
shown = st.one_of(
    st.none(), st.just(a_volume()), st.builds(lambda s, n: a_volume("in-use", held(s, n)), states, holders)
)


@given(st.lists(shown, min_size=1, max_size=6), st.lists(st.just(errors.InUse("in use")), max_size=1))
def test_whatever_ec2_shows_attaching_ends_in_time_and_never_succeeds_unattached(
    history: list[Volume | None], refusals: list[errors.Error]
) -> None:
    """Ours: for any history of states, three seconds each, of which the last lasts."""

    def shows(at: float) -> Volume | None:
        return history[min(int(at // 3), len(history) - 1)]

    paper = refusing(*refusals, shows=shows)

    async def act() -> tuple[bool, float]:
        async with Watcher(paper.cloud) as watcher:
            try:
                await publish(paper.cloud, watcher, ID, NODE)
            except errors.Error:
                return False, now()
            return True, now()

    attached, ended = run(act())

    assert ended <= ROUNDS * (PATIENCE + SHOWN)
    ours = [one.attachments for one in history if one is not None and one.attachments == (held("attached"),)]
    assert not attached or ours
