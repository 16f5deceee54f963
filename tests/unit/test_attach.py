"""Attaching and detaching: what follows when AWS refuses, and which of EC2's descriptions count."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.attachment import Attach, Wait
from hyperpod_ebs.driver.model.nodes import Ec2Node, HyperPodNode, Node
from hyperpod_ebs.driver.model.volume import Attachment, AttachState, Volume
from hyperpod_ebs.driver.volumes.attach import AttachSighting, attach_volume, detach_volume, step_after
from hyperpod_ebs.driver.volumes.watch import Watcher
from tests.support.scripted_cloud import ID, NODE, OTHER, ScriptedCloud, a_volume, an_attachment
from tests.support.virtual_time import now, run


def succeed(
    scripted: ScriptedCloud, act: Callable[..., Coroutine[Any, Any, object]], node: Node | None = NODE
) -> float:
    """Attach or detach the volume; the time at which that succeeded."""

    async def inner() -> float:
        async with Watcher(scripted.cloud) as watcher:
            await act(scripted.cloud, watcher, ID, node)
            return now()

    return run(inner())


def fail(
    scripted: ScriptedCloud, act: Callable[..., Coroutine[Any, Any, object]], node: Node | None = NODE
) -> errors.Error:
    """Attach or detach the volume; the error with which that failed."""

    async def inner() -> errors.Error:
        async with Watcher(scripted.cloud) as watcher:
            with pytest.raises(errors.Error) as refusal:
                await act(scripted.cloud, watcher, ID, node)
            return refusal.value

    return run(inner())


def refusing(*refusals: errors.Error, attach: bool = True, **terms: Any) -> ScriptedCloud:
    """A cloud whose first answers to an attach, or to a detach, are these refusals."""
    scripted = ScriptedCloud(**terms)
    scripted.refusals["attach" if attach else "detach"] = list(refusals)
    return scripted


def test_an_answer_that_says_attached_needs_no_second_call() -> None:
    """SageMaker API reference, AttachClusterNodeVolume: the response has the attachment's status."""
    scripted = ScriptedCloud(attached=an_attachment("attached"))

    succeed(scripted, attach_volume)

    assert scripted.calls.total() == 1


@pytest.mark.requirement("csi.publish-volume.usable")
def test_attach_waits_until_the_volume_is_attached() -> None:
    """CSI spec, ControllerPublishVolume: a published volume is available on the node."""
    scripted = ScriptedCloud(shows=lambda at: a_volume("in-use", an_attachment("attached" if at > 3 else "attaching")))

    assert 3 < succeed(scripted, attach_volume) < 4


def test_an_attachment_to_the_previous_node_is_ignored_after_aws_accepted_the_attach() -> None:
    """EC2 developer guide, eventual consistency: after a move, a replica may still show the previous attachment."""

    def shows(at: float) -> Volume:
        return a_volume("in-use", an_attachment("attached", OTHER) if at < 4 else an_attachment("attached"))

    assert 4 < succeed(ScriptedCloud(shows=shows), attach_volume) < 6


@pytest.mark.requirement("csi.publish-volume.idempotent")
def test_a_repeated_attach_succeeds_although_aws_says_in_use() -> None:
    """CSI spec, ControllerPublishVolume: the call is idempotent."""
    scripted = refusing(errors.InUse("in use"), shows=lambda _: a_volume("in-use", an_attachment("attached")))

    succeed(scripted, attach_volume)

    assert scripted.calls == {"attach": 1, "describe_volume": 1}


@pytest.mark.requirement("csi.publish-volume.elsewhere")
def test_attaching_a_volume_that_another_node_has_fails_and_names_that_node() -> None:
    """CSI spec, ControllerPublishVolume: "Volume published to another node"."""
    scripted = refusing(errors.InUse("in use"), shows=lambda _: a_volume("in-use", an_attachment("attached", OTHER)))

    refusal = fail(scripted, attach_volume)

    assert isinstance(refusal, errors.InUse)
    assert str(OTHER) in str(refusal)


def test_attach_waits_for_a_detachment_from_another_node_and_then_attaches() -> None:
    """A pod that moves must not wait for the attacher's next retry."""
    scripted = refusing(
        errors.InUse("in use"),
        shows=lambda at: a_volume("in-use", an_attachment("detaching", OTHER)) if at < 5 else a_volume(),
        attached=an_attachment("attached"),
    )

    assert 5 < succeed(scripted, attach_volume) < 7
    assert scripted.calls["attach"] == 2


def test_a_refusal_to_attach_a_free_volume_is_passed_on_unchanged() -> None:
    """AWS refuses volumes that are still creating or in another zone, and clusters that are updating."""
    scripted = refusing(errors.NotReady("zone mismatch"), shows=lambda _: a_volume())

    assert str(fail(scripted, attach_volume)) == "zone mismatch"


def test_an_attachment_that_aws_drops_is_requested_again_a_few_times() -> None:
    """With a revoked KMS key, EC2 begins to attach the volume and then drops the attachment."""

    def shows(at: float) -> Volume:
        return a_volume("in-use", an_attachment("attaching")) if at % 4 < 2 else a_volume()

    scripted = ScriptedCloud(shows=shows)

    refusal = fail(scripted, attach_volume)

    assert isinstance(refusal, errors.NotReady)
    assert scripted.calls["attach"] == 3


def test_an_acknowledged_attachment_that_never_appears_is_requested_again() -> None:
    scripted = ScriptedCloud(shows=lambda _: a_volume())

    refusal = fail(scripted, attach_volume)

    assert isinstance(refusal, errors.NotReady)
    assert scripted.calls["attach"] == 3


def test_an_attachment_that_takes_too_long_fails_with_a_retryable_error() -> None:
    stuck = replace(an_attachment("attaching"), since=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    scripted = ScriptedCloud(shows=lambda _: a_volume("in-use", stuck))

    refusal = fail(scripted, attach_volume)

    assert type(refusal) is errors.Unavailable
    assert f"after 180 s: AWS has not finished, EC2 shows attaching at {NODE} since 2026-01-02T03:04:05Z" in str(
        refusal
    )


@pytest.mark.requirement("csi.publish-volume.missing")
def test_attaching_a_volume_that_is_gone_fails_with_not_found() -> None:
    """CSI spec, ControllerPublishVolume: "Volume does not exist"."""
    scripted = ScriptedCloud(shows=lambda at: a_volume("in-use", an_attachment("attaching")) if at < 2 else None)

    assert isinstance(fail(scripted, attach_volume), errors.VolumeNotFound)
    assert isinstance(fail(refusing(errors.NotReady("what?")), attach_volume), errors.VolumeNotFound)


@pytest.mark.requirement("absence.proved")
def test_an_attached_volume_that_ec2_does_not_list_is_not_missing() -> None:
    """Only the answer to a volume's id proves that the volume does not exist."""
    scripted = ScriptedCloud(
        shows=lambda _: a_volume("in-use", an_attachment("attached")),
        lists=lambda at: a_volume("in-use", an_attachment("attaching")) if at < 2 else None,
    )

    assert type(fail(scripted, attach_volume)) is errors.Unavailable


@pytest.mark.requirement("absence.proved")
def test_a_volume_that_aws_does_not_know_yet_is_attached_once_it_does() -> None:
    """EC2 developer guide, eventual consistency: a new id may not be known to every call."""
    scripted = refusing(
        errors.VolumeNotFound("no such volume"),
        shows=lambda at: None if at < 1 else a_volume("in-use", an_attachment("attached")),
    )

    succeed(scripted, attach_volume)

    assert scripted.calls["attach"] == 2


@pytest.mark.requirement("csi.publish-volume.idempotent")
def test_a_volume_that_aws_says_is_in_use_is_not_taken_for_free() -> None:
    """The attachment of a killed controller may be newer than what EC2 shows."""
    scripted = refusing(
        errors.InUse("in use"),
        shows=lambda at: a_volume() if at < 4 else a_volume("in-use", an_attachment("attached")),
    )

    assert 4 < succeed(scripted, attach_volume) < 6
    assert scripted.calls["attach"] == 1


@pytest.mark.parametrize("shown", [None, a_volume()], ids=["no volume", "no attachment"])
def test_an_attachment_that_ec2_does_not_show_is_waited_for_fifteen_seconds(shown: Volume | None) -> None:
    """EC2 developer guide, eventual consistency."""
    sightings = [AttachSighting(node=NODE, volume=shown, age=age) for age in (14.9, 15.0)]

    assert [step_after(sighting) for sighting in sightings] == [Wait(), Attach()]


def test_an_attach_that_aws_refused_as_in_use_fails_when_ec2_shows_the_other_node() -> None:
    """The first description was older than the attachment to that node."""
    scripted = refusing(
        errors.InUse("in use"),
        shows=lambda at: a_volume() if at < 4 else a_volume("in-use", an_attachment("attached", OTHER)),
    )

    async def act() -> float:
        async with Watcher(scripted.cloud) as watcher:
            with pytest.raises(errors.InUse, match=str(OTHER)):
                await attach_volume(scripted.cloud, watcher, ID, NODE)
            return now()

    assert 4 < run(act()) < 6


class RefusedDetach(NamedTuple):
    """AWS's refusal of a detach, what EC2 shows, and whether the detach succeeds."""

    id: str
    refusal: errors.Error
    shown: Volume | None
    success: bool


GONE_NODE = errors.NodeNotFound("no such node")
NOT_ATTACHED = errors.NotReady("not attached")
UNPARSED = Attachment(state=AttachState.ATTACHED, node=None, holder=f"arn:new:form/{NODE.instance}")
FOREIGN = Attachment(state=AttachState.ATTACHED, node=None, holder="arn:aws:eks:r:1:cluster/x")


@pytest.mark.requirement("detach.live-volume-stays", "csi.unpublish-volume.unknown-node")
@pytest.mark.parametrize(
    "case",
    [
        RefusedDetach("the volume is gone", errors.VolumeNotFound("no"), None, success=True),
        RefusedDetach("the node is gone and the volume is not attached", GONE_NODE, a_volume(), success=True),
        RefusedDetach("detached already", NOT_ATTACHED, a_volume(), success=True),
        RefusedDetach(
            "attached to another node", NOT_ATTACHED, a_volume("in-use", an_attachment("attached", OTHER)), success=True
        ),
        RefusedDetach("held by another service", NOT_ATTACHED, a_volume("in-use", FOREIGN), success=True),
        RefusedDetach(
            "detached, as EC2 shows for a while",
            NOT_ATTACHED,
            a_volume("available", an_attachment("detached")),
            success=True,
        ),
        RefusedDetach(
            "attached to the unknown node", GONE_NODE, a_volume("in-use", an_attachment("attached")), success=False
        ),
        RefusedDetach(
            "the same instance in another cluster",
            GONE_NODE,
            a_volume("in-use", an_attachment("attached", HyperPodNode("zzzzzzzzzzzz", NODE.instance))),
            success=False,
        ),
        RefusedDetach(
            "the same instance without a cluster",
            NOT_ATTACHED,
            a_volume("in-use", an_attachment("attached", Ec2Node(NODE.instance))),
            success=False,
        ),
        RefusedDetach("the instance in an unknown form of ARN", GONE_NODE, a_volume("in-use", UNPARSED), success=False),
    ],
    ids=lambda case: case.id,
)
def test_a_refused_detach_succeeds_only_if_ec2_shows_no_attachment_to_the_instance(case: RefusedDetach) -> None:
    """After a success the attacher attaches the volume to another node, so a wrong ARN must not count as detached."""
    scripted = refusing(case.refusal, attach=False, shows=lambda _: case.shown)

    if case.success:
        succeed(scripted, detach_volume)
    else:
        assert isinstance(fail(scripted, detach_volume), errors.NotReady)


@pytest.mark.requirement("detach.live-volume-stays")
def test_a_volume_that_ec2_does_not_show_for_a_moment_does_not_count_as_detached() -> None:
    """EC2 developer guide, eventual consistency: replicas lag."""
    lagging = refusing(
        GONE_NODE, attach=False, shows=lambda at: None if at < 0.5 else a_volume("in-use", an_attachment("attached"))
    )

    assert isinstance(fail(lagging, detach_volume), errors.NotReady)
    assert succeed(refusing(GONE_NODE, attach=False), detach_volume) == pytest.approx(3)


@pytest.mark.requirement("absence.proved", "detach.live-volume-stays")
def test_a_volume_that_ec2_does_not_list_is_not_detached_while_it_is_attached() -> None:
    """Another node would get a volume that is in use."""
    hidden = ScriptedCloud(shows=lambda _: a_volume("in-use", an_attachment("detaching")), lists=lambda _: None)
    gone = ScriptedCloud(shows=lambda at: a_volume("in-use", an_attachment("detaching")) if at < 5 else None)

    assert type(fail(hidden, detach_volume)) is errors.Unavailable
    assert succeed(gone, detach_volume) > 8


@pytest.mark.requirement("absence.proved", "detach.live-volume-stays")
@pytest.mark.parametrize("proof", [True, False], ids=["AWS confirms it", "AWS denies it"])
def test_a_description_from_before_a_new_attachment_does_not_count_as_detached(*, proof: bool) -> None:
    """EC2 may show a volume free because it does not show its attachment yet."""
    attached_now = replace(an_attachment("detaching"), since=datetime.now(UTC))

    def shows(at: float) -> Volume:
        return a_volume() if at < 2 or at >= 6 else a_volume("in-use", an_attachment("detaching"))

    scripted = ScriptedCloud(shows=shows, detached=attached_now)
    answers = [errors.NotAttached("available")] if proof else [errors.NotReady("detaching")] * 9

    async def act() -> float:
        async with Watcher(scripted.cloud) as watcher, asyncio.TaskGroup() as group:
            detaching = group.create_task(detach_volume(scripted.cloud, watcher, ID, NODE))
            await asyncio.sleep(0)
            scripted.refusals["detach"] = list(answers)
            await detaching
            return now()

    assert (run(act()) < 2) is proof
    assert proof or run(act()) >= 6


@pytest.mark.requirement("absence.proved", "csi.unpublish-volume.all-nodes")
def test_detach_without_a_node_looks_again_at_a_volume_that_seems_free() -> None:
    """What EC2 shows first may be older than the attachment."""
    scripted = ScriptedCloud(
        shows=lambda at: a_volume() if at < 1 else a_volume("in-use", an_attachment("attached")),
        detached=an_attachment("detached"),
    )

    succeed(scripted, detach_volume, None)

    assert scripted.calls["detach"] == 1


def test_detach_waits_for_a_detachment_that_is_running_already() -> None:
    """AWS refuses a second detach while the first is running."""
    scripted = refusing(
        NOT_ATTACHED,
        attach=False,
        shows=lambda at: a_volume("in-use", an_attachment("detaching")) if at < 4 else a_volume(),
    )

    assert 4 < succeed(scripted, detach_volume) < 6


def test_a_detach_that_waits_for_an_unmount_says_that_the_volume_is_still_mounted() -> None:
    """EC2 API reference, DetachVolume: a volume that is still mounted gets stuck in the busy state."""
    scripted = ScriptedCloud(shows=lambda _: a_volume("in-use", an_attachment("busy")))

    refusal = fail(scripted, detach_volume)

    assert isinstance(refusal, errors.InUse)
    assert "still mounted" in str(refusal)


@pytest.mark.requirement("csi.unpublish-volume.all-nodes")
def test_detach_without_a_node_detaches_the_volume_from_every_node() -> None:
    """CSI spec, ControllerUnpublishVolume: without a node id, unpublish from all nodes."""
    scripted = ScriptedCloud(
        shows=lambda _: a_volume("in-use", an_attachment("attached", OTHER)), detached=an_attachment("detached", OTHER)
    )
    free, foreign = (
        ScriptedCloud(shows=lambda _: a_volume()),
        ScriptedCloud(shows=lambda _: a_volume("in-use", FOREIGN)),
    )

    succeed(scripted, detach_volume, None)
    succeed(free, detach_volume, None)

    assert scripted.calls["detach"] == 1
    assert free.calls["detach"] == 0
    assert isinstance(fail(foreign, detach_volume, None), errors.NotReady)


states = st.sampled_from([state for state in AttachState if state is not AttachState.DETACHED])
holders = st.sampled_from([NODE, OTHER])
shown = st.one_of(
    st.none(), st.just(a_volume()), st.builds(lambda s, n: a_volume("in-use", an_attachment(s, n)), states, holders)
)


@pytest.mark.requirement("waits.end")
@given(st.lists(shown, min_size=1, max_size=6), st.lists(st.just(errors.InUse("in use")), max_size=1))
def test_attach_ends_in_time_and_succeeds_only_with_an_attachment(
    history: list[Volume | None], refusals: list[errors.Error]
) -> None:
    """For any history of states of three seconds each, of which the last one stays."""

    def shows(at: float) -> Volume | None:
        return history[min(int(at // 3), len(history) - 1)]

    scripted = refusing(*refusals, shows=shows)

    async def act() -> tuple[bool, float]:
        async with Watcher(scripted.cloud) as watcher:
            try:
                await attach_volume(scripted.cloud, watcher, ID, NODE)
            except errors.Error:
                return False, now()
            return True, now()

    attached, ended = run(act())

    assert ended <= 3 * (180 + 15)
    was_attached = any(volume is not None and volume.attachments == (an_attachment("attached"),) for volume in history)
    assert was_attached or not attached
