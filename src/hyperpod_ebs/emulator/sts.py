"""Security Token Service (STS): the caller's identity."""

from hyperpod_ebs.emulator.wire.operations import Answer, Call, Operations, Parameters


class Sts:
    """The operations of STS."""

    name = "sts"
    operations = Operations["Sts"]()

    @operations("GetCallerIdentity")
    async def identity(self, _: Parameters, call: Call) -> Answer:
        """GetCallerIdentity, which needs no permission."""
        return {"UserId": call.user_id, "Account": call.account, "Arn": call.arn}
