"""The permission to give a service a role: iam:PassRole.

Source: IAM User Guide, "Grant a user permissions to pass a role to an AWS service".
"""

from collections.abc import Mapping

from hyperpod_ebs.emulator.identity.authorizer import Need
from hyperpod_ebs.emulator.identity.tag_values import resource_tags


def pass_role_need(role_arn: str, service: str, tags: Mapping[str, str] | None = None) -> Need:
    """What a call that gives a role to a service needs.

    Args:
        role_arn: The role.
        service: The service's principal: eks.amazonaws.com.
        tags: The role's tags.
    """
    context = {"iam:PassedToService": service, **resource_tags(tags or {}, "iam")}
    return Need(action="iam:PassRole", resource=role_arn, context=context)
