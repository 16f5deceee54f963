"""What calls of CloudTrail need.

Source: Service Authorization Reference, "Actions, resources, and condition keys for AWS
CloudTrail": LookupEvents takes no resource.
"""

from collections.abc import Sequence

from hyperpod_ebs.emulator.identity.authorizer import Need
from hyperpod_ebs.emulator.wire.operations import Parameters


class CloudTrailNeeds:
    """Lists what calls of CloudTrail need."""

    def needs(self, operation: str, parameters: Parameters) -> Sequence[Need]:  # noqa: ARG002 - no call depends on them
        """What a call needs."""
        return [Need(action=f"cloudtrail:{operation}")]
