"""STS: who am I."""

from hyperpod_ebs.emulator.wire.operations import Answer, Asked, Call, Operations


class Sts:
    """Security Token Service."""

    name = "sts"
    operations = Operations["Sts"]()

    @operations("GetCallerIdentity")
    async def identity(self, _: Asked, call: Call) -> Answer:
        """The caller; nobody needs a permission for it."""
        return {"UserId": call.user_id, "Account": call.account, "Arn": call.arn}
