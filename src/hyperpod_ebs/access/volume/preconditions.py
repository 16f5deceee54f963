"""The preconditions of attaching and detaching a volume: a decision about each, and what to do about one that fails.

Sources: SageMaker API reference, AttachClusterNodeVolume and DetachClusterNodeVolume; EC2 API reference, AttachVolume
and DetachVolume; SageMaker Developer Guide, "Using the Amazon EBS CSI driver on SageMaker HyperPod EKS clusters".
"""

from typing import Final

from hyperpod_ebs.access.aws.permissions import FORBIDDEN, Verdict
from hyperpod_ebs.access.aws.volumes import Holder
from hyperpod_ebs.access.volume.checks import Check, failing, passing, unknown
from hyperpod_ebs.access.volume.facts import Facts
from hyperpod_ebs.access.volume.node_checks import limit_check, target_checks
from hyperpod_ebs.access.volume.volume_checks import (
    key_check,
    kubernetes_check,
    volume_to_attach,
    volume_to_detach,
    zone_check,
)

_VOLUME_TAGS: Final = ("aws:resourcetag/", "ec2:resourcetag/")
"""How the condition keys begin of which a volume has all values."""


def attach_checks(facts: Facts, *, leaving: Holder | None = None, managed_is_fine: bool = False) -> list[Check]:
    """The preconditions of attaching the volume to the node.

    Args:
        facts: What is known.
        leaving: The holder that the volume is detached from first.
        managed_is_fine: Whether the volume may be one that Kubernetes manages.
    """
    return [
        *target_checks(facts),
        volume_to_attach(facts, leaving),
        zone_check(facts),
        limit_check(facts),
        key_check(facts),
        kubernetes_check(facts, managed_is_fine=managed_is_fine),
        *map(_permission, facts.permissions),
    ]


def detach_checks(facts: Facts, *, managed_is_fine: bool = False) -> list[Check]:
    """The preconditions of detaching the volume from the node."""
    return [
        *target_checks(facts, is_detach=True),
        volume_to_detach(facts),
        kubernetes_check(facts, managed_is_fine=managed_is_fine),
        *map(_permission, facts.permissions),
    ]


def _permission(verdict: Verdict) -> Check:
    action, name = verdict.need.action, f"permission {verdict.need.action}"
    match verdict.decision:
        case "allowed":
            return passing(name, f"the caller may {action} on {verdict.need.resource}")
        case "denied" if keys := _unknown_keys(verdict):
            return unknown(name, f"{verdict.reason}; whether AWS allows it depends on {', '.join(keys)}")
        case "denied":
            allow = f'allow it: {{"Effect": "Allow", "Action": "{action}", "Resource": "{_scope(verdict)}"}}'
            step = FORBIDDEN if verdict.is_forbidden else allow
            has_step = "allow it" in verdict.reason  # a denial of AWS says it already
            return failing(name, verdict.reason if has_step else f"{verdict.reason}; {step}")
        case _:
            return unknown(name, verdict.reason)


def _unknown_keys(verdict: Verdict) -> list[str]:
    """The condition keys that decide and are known only to AWS, such as the caller's network or a cluster's tags."""
    is_volume = ":volume/" in verdict.need.resource
    return sorted(key for key in verdict.missing_keys if not (is_volume and key.lower().startswith(_VOLUME_TAGS)))


def _scope(verdict: Verdict) -> str:
    """The resources of the statement to add: all volumes, but the very cluster or key."""
    resource = verdict.need.resource
    return f"{resource.partition('/')[0]}/*" if ":volume/" in resource else resource
