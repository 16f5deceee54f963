"""Managed policies that are attached, or that are permissions boundaries."""

from hyperpod_ebs.emulator.iam_api import faults
from hyperpod_ebs.emulator.identity import aws_managed
from hyperpod_ebs.emulator.state.store import Store


def exists(store: Store, arn: str) -> bool:
    """Whether there is a managed policy with this ARN, the customer's or AWS's."""
    return arn in store.managed_policies or aws_managed.find(arn) is not None


def require_policy(store: Store, arn: str) -> None:
    """Refuse an ARN of no managed policy.

    Raises:
        AwsFault: NoSuchEntity.
    """
    if not exists(store, arn):
        raise faults.no_such_entity(f"Policy {arn} does not exist or is not attachable.")


def require_boundary(store: Store, arn: str) -> None:
    """Refuse a permissions boundary that is not a managed policy; an empty ARN stands for none.

    Raises:
        AwsFault: NoSuchEntity, or InvalidInput for a text that is not the ARN of a policy.
    """
    if not arn:
        return
    if not arn.startswith("arn:") or ":policy/" not in arn:
        raise faults.invalid_input(f"ARN {arn} is not valid.")
    if not exists(store, arn):
        raise faults.no_such_entity(f"Scope ARN: {arn} does not exist or is not attachable.")


def boundary_users(store: Store, arn: str) -> int:
    """How many users and roles have the policy as their permissions boundary."""
    boundaries = [user.boundary for user in store.users.values()] + [role.boundary for role in store.roles.values()]
    return boundaries.count(arn)
