"""GetSessionToken: temporary credentials of a user."""

from typing import Final

from hyperpod_ebs.emulator.identity.identities import Identities
from hyperpod_ebs.emulator.identity.sessions import Sessions, new_session_keys
from hyperpod_ebs.emulator.identity_records import Session
from hyperpod_ebs.emulator.state.world import World, now
from hyperpod_ebs.emulator.sts.credentials import credentials_answer, require_no_mfa
from hyperpod_ebs.emulator.wire.operations import Answer, AwsFault, Call, Operations, Parameters

USER_SECONDS: Final = 43_200
"""The default duration of a user's temporary credentials."""


class SessionToken:
    """Creates sessions of users."""

    operations = Operations["SessionToken"]()

    def __init__(self, world: World, identities: Identities, sessions: Sessions) -> None:
        self._world = world
        self._identities = identities
        self._sessions = sessions

    @operations("GetSessionToken")
    async def create(self, parameters: Parameters, call: Call) -> Answer:
        """Create temporary credentials with the permissions of the user that calls."""
        if self._identities.require(call.key_id).session is not None:
            raise AwsFault("AccessDenied", "Cannot call GetSessionToken with session credentials", 403)
        require_no_mfa(parameters)
        keys = new_session_keys(minimum_token=parameters.get("MinimumSessionTokenSize", 0))
        issued = now()
        session = self._sessions.add(
            Session(
                id=keys.id,
                secret=keys.secret,
                token=keys.token,
                user=self._world.store.access_keys[call.key_id].user,
                issued=issued,
                expires=int(issued) + parameters.get("DurationSeconds", USER_SECONDS),
            )
        )
        return await self._world.acknowledge(credentials_answer(session))
