"""Client tokens: a repeated request creates nothing a second time."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from hyperpod_ebs.emulator.records import Token
from hyperpod_ebs.emulator.state.store import Store
from hyperpod_ebs.emulator.wire.operations import AwsFault, Parameters

MAX_LENGTH: Final = 64

LIFETIME: Final = 24 * 3600.0
"""Seconds that a token is remembered; AWS does not publish its own value."""

_NOT_COMPARED: Final = frozenset({"ClientToken", "DryRun"})


@dataclass(frozen=True, slots=True)
class ClientTokens:
    """The tokens that an operation has seen."""

    store: Store
    operation: str

    def earlier_ids(self, parameters: Parameters, scope: str) -> Sequence[str]:
        """The ids of the resources that the same request created before; empty for a new request.

        Raises:
            AwsFault: The token is invalid or was used with other parameters.
        """
        token = parameters.get("ClientToken")
        if not token:
            return ()
        if len(token) > MAX_LENGTH or not token.isascii():
            text = f"Value for parameter clientToken is invalid. Expecting at most {MAX_LENGTH} ASCII characters."
            raise AwsFault("InvalidParameterValue", text)
        known = self.store.tokens.get(self._id(token, scope))
        if known is None or known.used < time.time() - LIFETIME:
            return ()
        if known.terms != _terms(parameters):
            text = f"Arguments on this idempotent request are inconsistent with arguments used in {token}."
            raise token_mismatch(text)
        return known.made

    def remember(self, parameters: Parameters, scope: str, ids: Sequence[str]) -> None:
        """Store the ids of the resources that this request creates."""
        if token := parameters.get("ClientToken"):
            record = Token(id=self._id(token, scope), terms=_terms(parameters), made=tuple(ids), used=time.time())
            self.store.tokens.put(record)

    def _id(self, token: str, scope: str) -> str:
        return f"{self.operation}/{scope}/{token}"


def forget_expired(store: Store) -> None:
    """Delete the tokens that are older than their lifetime."""
    for token in [token for token in store.tokens.values() if token.used < time.time() - LIFETIME]:
        store.tokens.drop(token.id)


def token_mismatch(text: str) -> AwsFault:
    """The error for a token that was used for another request, or whose resource is deleted."""
    return AwsFault("IdempotentParameterMismatch", text)


def _terms(parameters: Parameters) -> str:
    """The parameters that a repeated request must have in common with the first, as canonical JSON.

    Each list in the requests that have a token is a set to EC2: tags, tag specifications, security groups, block
    devices and network interfaces, with their addresses.
    """
    return _canonical({name: value for name, value in parameters.items() if name not in _NOT_COMPARED})


def _canonical(value: object) -> str:
    """`value` as JSON text, equal for values that differ only in the order of members and elements."""
    if isinstance(value, Mapping):
        return json.dumps({name: _canonical(member) for name, member in value.items()}, sort_keys=True)
    if isinstance(value, list):
        return json.dumps(sorted({_canonical(element) for element in value}))
    return json.dumps(value, default=str)
