"""`volume attach`, `detach` and `move`: check all preconditions, then request the change and follow it."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from hyperpod_ebs.access import exit_codes
from hyperpod_ebs.access.aws.session import Aws, open_aws
from hyperpod_ebs.access.aws.volumes import EbsVolume, Holder
from hyperpod_ebs.access.console import note
from hyperpod_ebs.access.volume.change_requests import Request, request_attachment, request_detachment
from hyperpod_ebs.access.volume.checks import Check, failing
from hyperpod_ebs.access.volume.facts import DETACHED, Facts, Target, Unread
from hyperpod_ebs.access.volume.outcome import print_end, print_preconditions
from hyperpod_ebs.access.volume.preconditions import attach_checks, detach_checks
from hyperpod_ebs.access.volume.reading import Act, Question, read_facts, read_manager, read_volume
from hyperpod_ebs.access.volume.targets import find_target, target_of
from hyperpod_ebs.access.volume.waiting import wait
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.nodes import HyperPodNode, Node


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A detachment whose preconditions are met."""

    checks: Sequence[Check]
    volume: EbsVolume | Unread
    leaving: Target
    holder: Holder | None
    """The attachment that ends; None if the caller may not see it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A move whose preconditions are met."""

    end: Plan
    joining: Target


async def attach(request: Request) -> int:
    """Attach the volume to the node; the exit code.

    Raises:
        Error: AWS refuses, or the volume is not attached in time.
    """
    async with open_aws(request.options) as aws:
        async with _changing_nothing():
            volume = await read_volume(aws, request.volume_id)
            target = await find_target(aws, request.node or "", request.cluster)
            facts = await _read(aws, request, "Attach", volume, target)
        here = facts.holder_here
        if here and here.state == "attached" and isinstance(volume, EbsVolume):
            sentence = f"volume {volume.id} is already attached to {target.node}"
            print_end(volume, sentence, node=target.node, checks=[], output=request.output, changed=False)
            return 0
        if here and here.state == "attaching":
            checks: list[Check] = []
            note(f"volume {request.volume_id} is already attaching to {target.node}")
        else:
            checks = attach_checks(facts, managed_is_fine=request.managed_is_fine)
        code = _report(request, target.node, checks)
        if code is not None:
            return code
        if not here:
            await request_attachment(aws, request, target)
        await _follow_attach(aws, request, target, checks)
        return 0


async def plan_detach(request: Request, *, force: bool) -> Plan | int:
    """Find the attachment and check the preconditions of detaching; an exit code if the command ends here.

    Raises:
        InvalidRequest: The node is not given, and the volume has several; or SageMaker has no forced detachment.
        Error: AWS does not let the caller find the attachment.
    """
    async with _changing_nothing(), open_aws(request.options) as aws:
        volume = await read_volume(aws, request.volume_id)
        if request.node:
            target = await find_target(aws, request.node, request.cluster)
        elif isinstance(found := await _only_target(aws, volume), Check):
            return _report(request, None, [found]) or exit_codes.OK
        else:
            target = found
        if force and isinstance(target.node, HyperPodNode):
            raise errors.InvalidRequest(
                f"HyperPod has no forced detachment, and EC2 refuses to detach volumes of HyperPod nodes: reboot node "
                f"{target.node} with `aws sagemaker batch-reboot-cluster-nodes`, or replace it, to end the attachment"
            )
        facts = await _read(aws, request, "Detach", volume, target)
        checks = detach_checks(facts, managed_is_fine=request.managed_is_fine)
        if (code := _report(request, target.node, checks)) is not None:
            return code
        return Plan(checks=checks, volume=volume, leaving=target, holder=facts.holder_here)


async def detach(request: Request, plan: Plan, *, force: bool) -> int:
    """Detach the volume as planned; the exit code.

    Raises:
        Error: AWS refuses, or the volume is not detached in time.
    """
    async with open_aws(request.options) as aws:
        node = await request_detachment(aws, request, plan.leaving, plan.holder, force=force)
        try:
            volume = await wait(aws, request.goal("detached", node))
        except errors.Denied as denial:
            return _end_unseen(denial, f"AWS is detaching volume {request.volume_id} from {node}")
        sentence = f"volume {volume.id} is detached from {node}, and {volume.state}"
        print_end(volume, sentence, node=node, checks=plan.checks, output=request.output, changed=True)
        return 0


async def plan_move(request: Request) -> Move | int:
    """Check the preconditions of detaching the volume and of attaching it elsewhere; an exit code if it ends here.

    Raises:
        InvalidRequest: The volume is attached to several nodes.
        Error: AWS does not let the caller find the attachment.
    """
    async with _changing_nothing(), open_aws(request.options) as aws:
        volume = await read_volume(aws, request.volume_id)
        old = await _only_target(aws, volume)
        if isinstance(old, Check):
            return _report(request, None, [old]) or exit_codes.OK
        new = await find_target(aws, request.node or "", request.cluster)
        if old.node == new.node and isinstance(volume, EbsVolume):
            sentence = f"volume {volume.id} is already attached to {new.node}"
            print_end(volume, sentence, node=new.node, checks=[], output=request.output, changed=False)
            return exit_codes.OK
        leaving = await _read(aws, request, "Detach", volume, old)
        joining = await _read(aws, request, "Attach", volume, new)
        holder = leaving.holder_here
        first = detach_checks(leaving, managed_is_fine=request.managed_is_fine)
        second = attach_checks(joining, leaving=holder, managed_is_fine=request.managed_is_fine)
        checks = list(dict.fromkeys([*first, *second]))
        if (code := _report(request, new.node, checks)) is not None:
            return code
        return Move(end=Plan(checks=checks, volume=volume, leaving=old, holder=holder), joining=new)


async def move(request: Request, plan: Move) -> int:
    """Detach the volume, then attach it to the other node, as planned; the exit code.

    Raises:
        Error: AWS refuses, or does not finish in time; the message says where the volume is.
    """
    target = plan.joining
    finish = request.command("attach", request.volume_id, target.node)
    async with open_aws(request.options) as aws:
        old = await request_detachment(aws, request, plan.end.leaving, plan.end.holder)
        try:
            await wait(aws, request.goal("available", old))
        except (asyncio.CancelledError, errors.Error) as error:
            if isinstance(error, asyncio.CancelledError):
                note(f"  move it on, once it is available: {finish}")
                raise
            raise errors.Refused(f"{error}; once it is available, finish with `{finish}`") from error
        try:
            await request_attachment(aws, request, target)
        except errors.Error as error:
            raise errors.Refused(
                f"volume {request.volume_id} is detached from {old} and available, but not attached to {target.node}: "
                f"{error}; finish with `{finish}`, or undo with `{request.command('attach', request.volume_id, old)}`"
            ) from error
        await _follow_attach(aws, request, target, plan.end.checks)
        return 0


async def _follow_attach(aws: Aws, request: Request, target: Target, checks: Sequence[Check]) -> None:
    try:
        volume = await wait(aws, request.goal("attached", target.node))
    except errors.Denied as denial:
        _end_unseen(denial, f"AWS is attaching volume {request.volume_id} to {target.node}")
        return
    sentence = (
        f"volume {volume.id} is attached to {target.node}; on the node, `hyperpod-ebs volume use {volume.id} "
        "DIRECTORY` mounts it"
    )
    print_end(volume, sentence, node=target.node, checks=checks, output=request.output, changed=True)


@asynccontextmanager
async def _changing_nothing() -> AsyncGenerator[None]:
    """Say after Ctrl-C that nothing was changed in the block."""
    try:
        yield
    except asyncio.CancelledError:
        note("interrupted; nothing was changed")
        raise


async def _read(aws: Aws, request: Request, act: Act, volume: EbsVolume | Unread, target: Target) -> Facts:
    async with asyncio.TaskGroup() as group:
        reading = group.create_task(read_manager(request.kubernetes, volume, request.volume_id))
        facts = await read_facts(aws, Question(act=act, volume=volume, volume_id=request.volume_id, target=target))
    managed_by, problem = reading.result()
    return facts.with_manager(managed_by, problem)


async def _only_target(aws: Aws, volume: EbsVolume | Unread) -> Target | Check:
    """The only node that holds the volume; a failing check if there is none, or another AWS service holds it.

    Raises:
        InvalidRequest: It is not known, or there are several.
    """
    if isinstance(volume, Unread):
        raise errors.InvalidRequest(f"{volume.reason}; or give the node that the volume is attached to")
    holders = [each for each in volume.holders if each.state != DETACHED]
    if not holders:
        return failing("volume", f"volume {volume.id} is {volume.state}, not attached: there is nothing to detach")
    if len(holders) > 1:
        names = ", ".join(str(each.node or each.resource) for each in holders)
        raise errors.InvalidRequest(f"volume {volume.id} is attached to {names}: give one of these nodes")
    (holder,) = holders
    if holder.node is None:
        return failing(
            "volume",
            f"volume {volume.id} is attached to {holder.resource}, which belongs to another AWS service: detach it "
            "with that service",
        )
    return await target_of(aws, holder.node, holder.resource)


def _report(request: Request, node: Node | None, checks: Sequence[Check]) -> int | None:
    return print_preconditions(
        checks,
        volume_id=request.volume_id,
        node=node,
        output=request.output,
        is_dry_run=request.is_dry_run,
    )


def _end_unseen(denial: errors.Denied, what: str) -> int:
    note(f"{what}, but the caller may not see it finish: {denial.why}")
    return 0
