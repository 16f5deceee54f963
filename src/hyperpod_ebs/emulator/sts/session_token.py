"""GetSessionToken: temporary credentials of a user."""

from dataclasses import replace
from typing import Final

from hyperpod_ebs.emulator.identity.identities import Identities
from hyperpod_ebs.emulator.identity.sessions import Sessions, new_session
from hyperpod_ebs.emulator.state.world import World
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
        new = new_session(
            parameters.get("DurationSeconds", USER_SECONDS), minimum_token=parameters.get("MinimumSessionTokenSize", 0)
        )
        session = self._sessions.add(replace(new, user=self._world.store.access_keys[call.key_id].user))
        return await self._world.acknowledge(credentials_answer(session))
