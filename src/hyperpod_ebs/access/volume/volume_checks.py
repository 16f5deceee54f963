"""The preconditions that a volume has to meet: its state, zone and key, and that Kubernetes does not manage it."""

from typing import Final

from hyperpod_ebs.access.aws.keys import ENABLED
from hyperpod_ebs.access.aws.volumes import EbsVolume, Holder
from hyperpod_ebs.access.volume.checks import Check, failing, passing, unknown
from hyperpod_ebs.access.volume.facts import DETACHED, Absent, Facts, Machine, Unread
from hyperpod_ebs.driver.model.nodes import Ec2Node, HyperPodNode

_MULTI_ATTACH_LIMIT: Final = 16
"""Instances to which a Multi-Attach volume can be attached (EBS User Guide)."""


def volume_to_attach(facts: Facts, leaving: Holder | None) -> Check:
    """Whether the volume is free for the node, once `leaving` does not hold it any more."""
    volume = facts.volume
    if isinstance(volume, Unread):
        return unknown("volume", volume)
    others = [each for each in volume.holders if each != leaving and each.state != DETACHED]
    if is_shareable(facts) and len(others) < _MULTI_ATTACH_LIMIT:
        return passing("volume", f"Multi-Attach volume {volume.id} is attached to {len(others)} instances")
    if is_shareable(facts):
        return failing(
            "volume",
            f"Multi-Attach volume {volume.id} is attached to {len(others)} instances, and {_MULTI_ATTACH_LIMIT} is the "
            "limit: detach it from one of them",
        )
    if others:
        return failing("volume", _use_text(volume, others[0], facts))
    if volume.state == "available" or leaving is not None:
        return passing("volume", f"volume {volume.id} is {volume.state}")
    step = "wait until it is available" if volume.state == "creating" else "use another volume"
    return failing("volume", f"volume {volume.id} is in state {volume.state}, not available: {step}")


def is_shareable(facts: Facts) -> bool:
    """Whether the volume can be attached to the node besides others: a Multi-Attach volume in use, on EC2."""
    volume = facts.volume
    return (
        isinstance(volume, EbsVolume)
        and volume.multi_attach
        and volume.state == "in-use"
        and isinstance(facts.target.node, Ec2Node)
        and all(isinstance(each.node, Ec2Node) for each in volume.holders)
    )


def _use_text(volume: EbsVolume, holder: Holder, facts: Facts) -> str:
    what = f"volume {volume.id} is in use, not available: it is {holder.state} at {holder.node or holder.resource}"
    if holder.node is None:
        return f"{what}, which belongs to another AWS service; detach it with that service"
    if volume.multi_attach and isinstance(facts.target.node, HyperPodNode):
        return f"{what}, and HyperPod attaches also a Multi-Attach volume only while it is available; detach it first"
    if holder.state != "attached":
        return f"{what}; wait until it is available with `hyperpod-ebs volume wait {volume.id} --until available`"
    return f"{what}; move it with `hyperpod-ebs volume move {volume.id} {facts.target.node}`"


def volume_to_detach(facts: Facts) -> Check:
    """Whether the volume is attached to the node."""
    volume, node = facts.volume, facts.target.node
    if isinstance(volume, Unread):
        return unknown("volume", volume)
    if here := facts.holder_here:
        return passing("volume", f"volume {volume.id} is {here.state} at {node}")
    if not volume.holders:
        return failing(
            "volume", f"volume {volume.id} is {volume.state}, not attached to {node}: there is nothing to do"
        )
    holders = ", ".join(str(each.node or each.resource) for each in volume.holders)
    return failing(
        "volume", f"volume {volume.id} is attached to {holders}, not to {node}: give the node that it is attached to"
    )


def zone_check(facts: Facts) -> Check:
    """Whether volume and node are in the same zone."""
    volume, machine = facts.volume, facts.machine
    if isinstance(volume, Unread):
        return unknown("zone", volume)
    if not isinstance(machine, Machine):
        return unknown("zone", machine)
    known = [(volume.zone_id, machine.zone_id), (volume.zone, machine.zone)]
    pair = next((pair for pair in known if all(pair)), None)
    if pair is None:
        return unknown("zone", f"AWS does not show the zone of node {facts.target.node}")
    if pair[0] == pair[1]:
        return passing("zone", f"volume and node are in zone {volume.zone}")
    return failing(
        "zone",
        f"volume {volume.id} is in zone {volume.zone}, and node {facts.target.node} in zone "
        f"{machine.zone or machine.zone_id}: choose a node in {volume.zone}, or create a volume in the node's zone "
        f"from a snapshot (`hyperpod-ebs volume snapshot {volume.id}`)",
    )


def key_check(facts: Facts) -> Check:
    """Whether the volume's key can be used."""
    match facts.key:
        case None:
            return passing("key", f"volume {facts.volume_id} is not encrypted")
        case Absent(message):
            return failing("key", f"{message}: the volume's data cannot be read without it; restore a backup")
        case Unread() as unread:
            return unknown("key", unread)
        case key if key.state == ENABLED:
            return passing("key", f"KMS key {key.arn} is {key.state}")
        case key:
            until = f" until {key.deletion:%Y-%m-%d}" if key.deletion else ""
            steps = {
                "Disabled": f"enable it with `aws kms enable-key --key-id {key.arn}`",
                "PendingDeletion": f"cancel that with `aws kms cancel-key-deletion --key-id {key.arn}`, then enable it",
            }
            step = steps.get(key.state, f"make it usable; see `aws kms describe-key --key-id {key.arn}`")
            text = (
                f"KMS key {key.arn} of volume {facts.volume_id} is in state {key.state}{until}, not {ENABLED}: {step}"
            )
            return failing("key", text)


def kubernetes_check(facts: Facts, *, managed_is_fine: bool) -> Check:
    """Whether users may change the volume by hand."""
    if not facts.managed_by and facts.unread_kubernetes:
        text = (
            f"the tags of volume {facts.volume_id} do not show that Kubernetes manages it; persistent volumes were not "
        )
        return unknown("kubernetes", f"{text}read: {facts.unread_kubernetes}")
    if not facts.managed_by:
        return passing("kubernetes", f"Kubernetes does not manage volume {facts.volume_id}")
    what = f"Kubernetes manages volume {facts.volume_id} ({facts.managed_by})"
    if managed_is_fine:
        return passing("kubernetes", f"{what}; the command continues nevertheless")
    return failing(
        "kubernetes",
        f"{what}, and attaching or detaching it by hand takes it away from its pods: use a pod for it, or repeat the "
        "command with --even-though-kubernetes-manages-it",
    )
