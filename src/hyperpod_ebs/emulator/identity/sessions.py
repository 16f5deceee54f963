"""Temporary credentials: their keys and tokens, and the removal of sessions that expired long ago.

Source: AWS STS API Reference, "Credentials".
"""

import base64
import secrets
import time
from heapq import heapify, heappop, heappush
from typing import Final

from hyperpod_ebs.emulator.identity.administrator import new_unique_id
from hyperpod_ebs.emulator.identity_records import Session
from hyperpod_ebs.emulator.state.store import Store
from hyperpod_ebs.emulator.state.world import now
from hyperpod_ebs.emulator.wire.operations import AwsFault

KEPT: Final = 3600.0
"""Seconds that an expired session is kept, in which its key is answered as expired; later the key is unknown."""

MAX_REMOVED: Final = 64
"""Sessions that the creation of one session removes, so that no call waits for the removal of many."""

MAX_SESSIONS: Final = 10_000
"""Sessions that are kept; beyond them STS throttles, as AWS does, so that no caller can fill the memory."""

MAX_OF_OWNER: Final = 2_500
"""Sessions of one user or role, so that a caller without any permission cannot take all that are kept."""

MAX_TOKEN: Final = 4096
"""Bytes of the longest session token."""

_TOKEN_START: Final = base64.b64encode(b"!\n\torigin_ec")
"""The first bytes of the session tokens of AWS: IQoJb3JpZ2luX2Vj."""

_TOKEN_LENGTH: Final = 256


class Sessions:
    """Adds sessions to the store."""

    def __init__(self, store: Store) -> None:
        self._sessions = store.sessions
        self._expiries = [(session.expires, session.id) for session in self._sessions.values()]
        heapify(self._expiries)

    def add(self, session: Session) -> Session:
        """Store a new session; remove a few sessions that expired long ago.

        Raises:
            AwsFault: There are too many sessions that have not expired, of all owners or of this one.
        """
        self._remove_expired(before=time.time() - KEPT)
        if self._is_full(session):
            self._remove_expired(before=time.time())
        if self._is_full(session):
            raise AwsFault("Throttling", "Rate exceeded", 400)
        heappush(self._expiries, (session.expires, session.id))
        return self._sessions.put(session)

    def _is_full(self, session: Session) -> bool:
        """Whether there is no space for a session of this owner."""
        field, owner = ("user", session.user) if session.user else ("role", session.role)
        return len(self._sessions) >= MAX_SESSIONS or len(self._sessions.where(field, owner)) >= MAX_OF_OWNER

    def _remove_expired(self, *, before: float) -> None:
        for _ in range(MAX_REMOVED):
            if not self._expiries or self._expiries[0][0] > before:
                return
            _, id_ = heappop(self._expiries)
            self._sessions.drop(id_)


def new_session(seconds: int, *, minimum_token: int = 0) -> Session:
    """A session with random keys that is valid from now on; the caller gives it an owner.

    Args:
        seconds: How long the session is valid.
        minimum_token: Bytes that the token has at least; it has at most `MAX_TOKEN`.
    """
    issued = now()
    length = min(max(minimum_token, _TOKEN_LENGTH), MAX_TOKEN)
    token = _TOKEN_START + base64.b64encode(secrets.token_bytes(length))
    return Session(
        id=new_unique_id("ASIA"),
        secret=base64.b64encode(secrets.token_bytes(30)).decode(),
        token=token[:length].decode(),
        issued=issued,
        expires=int(issued) + seconds,
    )
