"""Wait until a volume is attached, detached or available; report the progress, and name what is stuck."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Literal, assert_never

from hyperpod_ebs.access.aws.session import Aws
from hyperpod_ebs.access.aws.volumes import EbsVolume, Holder, describe_volume
from hyperpod_ebs.access.console import note
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.nodes import Ec2Node, Node

Until = Literal["attached", "detached", "available"]

USUAL: Final = "2 to 10 s"
"""How long attaching or detaching usually takes."""

STUCK_AFTER: Final = 60.0
"""Seconds after which a change of an attachment counts as stuck (EBS User Guide, stuck attachments: a few minutes)."""

SHOWN_WITHIN: Final = 20.0
"""Seconds within which DescribeVolumes shows a new attachment."""

TIMEOUT: Final = 300.0
"""Seconds to wait by default."""

_FIRST_PAUSE: Final = 0.25
_LONGEST_PAUSE: Final = 2.0
_REPEAT: Final = 5.0
"""Seconds between two lines about the same state."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """What to wait for."""

    volume_id: str
    until: Until
    node: Node | None
    """The node to attach to or to detach from; None for any."""

    timeout: float
    command: Callable[..., str]
    """The command line of these words, for messages."""

    was_requested: bool = False
    """Whether this process has just requested the change."""

    def __str__(self) -> str:
        if self.until == "available":
            return f"volume {self.volume_id} is available"
        where = f" {'to' if self.until == 'attached' else 'from'} {self.node}" if self.node else ""
        return f"volume {self.volume_id} is {self.until}{where}"

    @property
    def wait_command(self) -> str:
        """The command line that waits for the same."""
        node = ["--node", self.node] if self.node else []
        return self.command("wait", self.volume_id, "--until", self.until, *node)


@dataclass(frozen=True, slots=True)
class Reached:
    """The goal is reached."""


@dataclass(frozen=True, slots=True)
class Pending:
    """AWS is still changing the volume, or does not show the change yet."""

    state: str
    holder: Holder | None


@dataclass(frozen=True, slots=True)
class Unreachable:
    """The goal will not be reached without another request."""

    reason: str


Progress = Reached | Pending | Unreachable


def progress(goal: Goal, volume: EbsVolume, elapsed: float) -> Progress:
    """How far the volume is, `elapsed` seconds after the wait began."""
    holders = [each for each in volume.holders if each.state != "detached"]
    match goal.until:
        case "attached":
            return _progress_of_attaching(goal, volume, holders, elapsed)
        case "detached":
            return _progress_of_detaching(goal, volume, holders, elapsed)
        case "available":
            return _progress_of_release(goal, volume, holders)
        case _:
            assert_never(goal.until)


def _progress_of_attaching(goal: Goal, volume: EbsVolume, holders: Sequence[Holder], elapsed: float) -> Progress:
    if here := next((each for each in holders if goal.node in {None, each.node}), None):
        match here.state:
            case "attached":
                return Reached()
            case "attaching":
                return Pending("attaching", here)
            case state:
                return Unreachable(f"it is {state} at {_name(here)}: it is being detached")
    if holders and not volume.multi_attach:
        return Unreachable(f"it is {holders[0].state} at {_name(holders[0])}")
    if goal.was_requested and elapsed <= SHOWN_WITHIN:
        return Pending("requested", None)
    return Unreachable(
        f"AWS shows no attachment {SHOWN_WITHIN:g} s after the request, and may have undone it; see whether the node "
        "still exists, then attach the volume again"
        if goal.was_requested
        else f"it is {volume.state}, and is not being attached"
    )


def _progress_of_detaching(goal: Goal, volume: EbsVolume, holders: Sequence[Holder], elapsed: float) -> Progress:
    here = next((each for each in holders if goal.node in {None, each.node}), None)
    if here is None:
        return Reached()
    if here.state == "attached" and not (goal.was_requested and elapsed <= SHOWN_WITHIN):
        command = goal.command("detach", volume.id, _name(here))
        return Unreachable(f"it is attached to {_name(here)}, and is not being detached; run `{command}`")
    return Pending(here.state, here)


def _progress_of_release(goal: Goal, volume: EbsVolume, holders: Sequence[Holder]) -> Progress:
    if volume.state == "available":
        return Reached()
    if volume.state in {"deleting", "deleted", "error"}:
        return Unreachable(f"it is in state {volume.state}")
    if holders and all(each.state == "attached" for each in holders) and not goal.was_requested:
        return Unreachable(f"it is attached to {_name(holders[0])}; detach it there first")
    return Pending(holders[0].state if holders else volume.state, holders[0] if holders else None)


def stuck_text(goal: Goal, pending: Pending, elapsed: float) -> str:
    """What is stuck and what to do about it; empty if nothing is."""
    holder = pending.holder
    if holder is None:
        return ""
    node, since = _name(holder), elapsed
    if pending.state == "attaching" and holder.since:
        since = max(since, (datetime.now(UTC) - holder.since).total_seconds())
    if pending.state == "busy":
        return (
            f"stuck: the device is still mounted or open on {node}, so that AWS cannot finish detaching it; unmount it "
            f"there (`hyperpod-ebs volume release {goal.volume_id}` on the node)"
        )
    if since < STUCK_AFTER:
        return ""
    if pending.state == "attaching":
        return (
            f"stuck: volume {goal.volume_id} is attaching to {node} for {since:.0f} s, which usually takes {USUAL}; "
            f"undo it with `{goal.command('detach', goal.volume_id, node)}` and attach it again, or replace the node"
        )
    last = (
        f"stop the instance, or at last `{goal.command('detach', goal.volume_id, node, '--force')}`"
        if isinstance(holder.node, Ec2Node)
        else "reboot the node, or at last replace it"
    )
    return (
        f"stuck: volume {goal.volume_id} is {pending.state} at {node} for {since:.0f} s, which usually takes {USUAL}; "
        f"unmount it on the node (`hyperpod-ebs volume release {goal.volume_id}` there), {last}"
    )


def _name(holder: Holder) -> str:
    return str(holder.node or holder.resource)


@dataclass(slots=True, kw_only=True)
class _Reporter:
    """Writes a line when the state changes, and every few seconds."""

    goal: Goal
    begin: float
    state: str = ""
    at: float = field(default=0.0)
    has_reported_stuck: bool = False

    def report(self, state: str, problem: str) -> None:
        now = time.monotonic()
        elapsed = now - self.begin
        if state != self.state or now - self.at >= _REPEAT:
            note(f"volume {self.goal.volume_id}: {state}, {elapsed:.0f} s; usually {USUAL}")
            self.state, self.at = state, now
        if problem and not self.has_reported_stuck:
            note(problem)
            self.has_reported_stuck = True


async def wait(aws: Aws, goal: Goal) -> EbsVolume:
    """Wait for the goal; the volume as EC2 shows it then.

    Raises:
        VolumeNotFound: The volume does not exist any more.
        TimedOut: The goal is not reached within its timeout.
        Refused: The goal will not be reached without another request.
        Denied: The caller may not describe volumes.
    """
    reporter = _Reporter(goal=goal, begin=time.monotonic())
    pause, problem, state = _FIRST_PAUSE, "", "not seen yet"
    try:
        while (elapsed := time.monotonic() - reporter.begin) < goal.timeout:
            try:
                async with asyncio.timeout(max(goal.timeout - elapsed, 1)):
                    volume = await describe_volume(aws, goal.volume_id)
            except errors.Unavailable as error:
                reporter.report(f"AWS does not answer ({error})", "")
            except TimeoutError:
                break
            else:
                match progress(goal, volume, elapsed):
                    case Reached():
                        return volume
                    case Unreachable(reason):
                        raise errors.Refused(f"waited until {goal}, but {reason}")
                    case Pending(state) as pending:
                        problem = stuck_text(goal, pending, elapsed)
                        reporter.report(state, problem)
            await asyncio.sleep(min(pause, max(goal.timeout - elapsed, 0)))
            pause = min(pause * 1.5, _LONGEST_PAUSE)
    except asyncio.CancelledError:
        _say_what_continues(goal, state)
        raise
    advice = f"{problem}; follow it" if problem else "AWS continues with it; follow it"
    raise errors.TimedOut(
        f"volume {goal.volume_id} is {state} after {goal.timeout:g} s, and not {goal.until}; {advice} with "
        f"`{goal.wait_command}`"
    )


def _say_what_continues(goal: Goal, state: str) -> None:
    note(f"interrupted: volume {goal.volume_id} is {state}, and AWS continues with it")
    note(f"  follow it: {goal.wait_command}")
    if goal.node and goal.until == "attached":
        note(f"  undo it:   {goal.command('detach', goal.volume_id, goal.node)}")
    if goal.node and goal.until == "detached":
        note(f"  undo it:   {goal.command('attach', goal.volume_id, goal.node)}, once it is available")
