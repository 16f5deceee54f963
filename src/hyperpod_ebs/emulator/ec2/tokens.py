"""Client tokens: a request that is repeated makes nothing twice."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from hyperpod_ebs.emulator.records import Token
from hyperpod_ebs.emulator.state.store import Store
from hyperpod_ebs.emulator.wire.operations import Asked, AwsFault

LENGTH: Final = 64

LIFETIME: Final = 24 * 3600.0
"""Seconds that a token is remembered; AWS publishes none."""

_APART: Final = frozenset({"ClientToken", "DryRun"})


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens that an operation has seen."""

    store: Store
    operation: str

    def made(self, asked: Asked, scope: str) -> Sequence[str]:
        """Ids of what the same request made before; none if it is new.

        Raises:
            AwsFault: The token came with other parameters, or may not be so.
        """
        token = asked.get("ClientToken")
        if not token:
            return ()
        if len(token) > LENGTH or not token.isascii():
            text = f"Value for parameter clientToken is invalid. Expecting at most {LENGTH} ASCII characters."
            raise AwsFault("InvalidParameterValue", text)
        known = self.store.tokens.get(self._id(token, scope))
        if known is None or known.used < time.time() - LIFETIME:
            return ()
        if known.terms != _terms(asked):
            raise mismatch(f"Arguments on this idempotent request are inconsistent with arguments used in {token}.")
        return known.made

    def remember(self, asked: Asked, scope: str, made: Sequence[str]) -> None:
        """What this request made."""
        if token := asked.get("ClientToken"):
            record = Token(id=self._id(token, scope), terms=_terms(asked), made=tuple(made), used=time.time())
            self.store.tokens.put(record)

    def _id(self, token: str, scope: str) -> str:
        return f"{self.operation}/{scope}/{token}"


def forget_old(store: Store) -> None:
    """Forget the tokens that nobody may repeat any more."""
    for token in [token for token in store.tokens.values() if token.used < time.time() - LIFETIME]:
        store.tokens.drop(token.id)


def mismatch(text: str) -> AwsFault:
    """The refusal of a token that was used for something else, or for what is gone."""
    return AwsFault("IdempotentParameterMismatch", text)


def _terms(asked: Asked) -> str:
    return json.dumps({name: value for name, value in asked.items() if name not in _APART}, sort_keys=True, default=str)
