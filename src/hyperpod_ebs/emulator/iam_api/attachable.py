"""Managed policies, the customer's and AWS's, as attachments and permissions boundaries use them."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from hyperpod_ebs.emulator.iam_api import faults
from hyperpod_ebs.emulator.identity import aws_managed
from hyperpod_ebs.emulator.state.store import Store
from hyperpod_ebs.emulator.state.world import World
from hyperpod_ebs.emulator.wire.operations import AwsFault


def require_policy(world: World, arn: str) -> None:
    """Refuse to attach a policy that does not exist, or that is only for a service-linked role.

    Raises:
        AwsFault: NoSuchEntity, InvalidInput or PolicyNotAttachable.
    """
    _require_policy_arn(arn)
    if not _exists(world, arn):
        raise faults.no_such_entity(f"Policy {arn} does not exist or is not attachable.")
    if (managed := aws_managed.find(arn, world.region.partition)) is not None and not managed.is_attachable:
        raise AwsFault("PolicyNotAttachable", "Cannot attach a Service Role Policy to a Customer Role.")


def require_boundary(world: World, arn: str) -> None:
    """Refuse a permissions boundary that is not a managed policy; an empty ARN stands for none.

    Raises:
        AwsFault: NoSuchEntity or InvalidInput.
    """
    if not arn:
        return
    _require_policy_arn(arn)
    if not _exists(world, arn):
        raise faults.no_such_entity(f"Scope ARN: {arn} does not exist or is not attachable.")


def policy_name(arn: str) -> str:
    """The name at the end of a policy's ARN."""
    return arn.rpartition("/")[2]


def policy_path(arn: str) -> str:
    """The path in a policy's ARN."""
    return arn.partition(":policy")[2].removesuffix(policy_name(arn))


@dataclass(frozen=True, slots=True)
class PolicyUse:
    """How many users, groups and roles use each managed policy, by its ARN."""

    attachments: Counter[str]
    boundaries: Counter[str]

    @classmethod
    def count(cls, store: Store) -> "PolicyUse":
        """Count the uses of all policies."""
        attached = [user.attached for user in store.users.values()]
        attached += [group.attached for group in store.groups.values()]
        attached += [role.attached for role in store.roles.values()]
        boundaries = [user.boundary for user in store.users.values()] + [role.boundary for role in store.roles.values()]
        return cls(Counter(arn for arns in attached for arn in arns), Counter(boundaries))

    def members(self, arn: str) -> Mapping[str, int]:
        """The uses of a policy as answers show them."""
        return {"AttachmentCount": self.attachments[arn], "PermissionsBoundaryUsageCount": self.boundaries[arn]}

    def has(self, arn: str) -> bool:
        """Whether the policy is in use."""
        return bool(self.attachments[arn] or self.boundaries[arn])


def _exists(world: World, arn: str) -> bool:
    return arn in world.store.managed_policies or aws_managed.find(arn, world.region.partition) is not None


def _require_policy_arn(arn: str) -> None:
    if not arn.startswith("arn:") or ":policy/" not in arn:
        raise faults.invalid_input(f"ARN {arn} is not valid.")
