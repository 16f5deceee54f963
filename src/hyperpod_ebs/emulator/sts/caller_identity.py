"""Callers and their keys: GetCallerIdentity, GetAccessKeyInfo and DecodeAuthorizationMessage."""

from hyperpod_ebs.emulator.identity import access_denied
from hyperpod_ebs.emulator.state.world import World
from hyperpod_ebs.emulator.wire.operations import Answer, AwsFault, Call, Operations, Parameters


class CallerIdentity:
    """The operations of STS that create no credentials."""

    operations = Operations["CallerIdentity"]()

    def __init__(self, world: World) -> None:
        self._store = world.store

    @operations("GetCallerIdentity")
    async def identity(self, _: Parameters, call: Call) -> Answer:
        """GetCallerIdentity, which needs no permission."""
        return {"UserId": call.user_id, "Account": call.account, "Arn": call.arn}

    @operations("GetAccessKeyInfo")
    async def access_key_info(self, parameters: Parameters, call: Call) -> Answer:
        """The account of an access key, active or not."""
        key = parameters["AccessKeyId"]
        if key not in self._store.access_keys and key not in self._store.sessions:
            raise AwsFault("InvalidClientTokenId", f"The access key {key} does not exist", 403)
        return {"Account": call.account}

    @operations("DecodeAuthorizationMessage")
    async def decode(self, parameters: Parameters, _: Call) -> Answer:
        """The decision in the message of a denied call of EC2."""
        try:
            return {"DecodedMessage": access_denied.decode(parameters["EncodedMessage"])}
        except access_denied.NotEncodedHere:
            # Source: STS API Reference, DecodeAuthorizationMessage, "Errors".
            text = "Message is not valid"
            raise AwsFault("InvalidAuthorizationMessageException", text, 400) from None
