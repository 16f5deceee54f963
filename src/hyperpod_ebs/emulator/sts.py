"""Security Token Service (STS): the caller's identity."""

from collections.abc import Sequence

from hyperpod_ebs.emulator.identity.authorizer import Need
from hyperpod_ebs.emulator.wire.operations import Answer, Call, Operations, Parameters


class Sts:
    """The operations of STS."""

    name = "sts"
    operations = Operations["Sts"]()

    @operations("GetCallerIdentity")
    async def identity(self, _: Parameters, call: Call) -> Answer:
        """GetCallerIdentity, which needs no permission."""
        return {"UserId": call.user_id, "Account": call.account, "Arn": call.arn}


class StsNeeds:
    """What calls of STS need: GetCallerIdentity nothing, even where a policy denies it."""

    def needs(self, operation: str, _: Parameters) -> Sequence[Need]:
        """What a call needs."""
        return [] if operation == "GetCallerIdentity" else [Need(action=f"sts:{operation}")]
