"""Policies that are compiled once for many decisions."""

import logging
from collections import OrderedDict
from typing import Final

from hyperpod_ebs.iam import documents
from hyperpod_ebs.iam.documents import Kind, MalformedPolicy, Policy

log: Final = logging.getLogger(__name__)

MAX_CHARACTERS: Final = 1_000_000
"""Characters of the documents whose compiled policies are kept; a policy takes up to 50 bytes for each."""


class CompiledPolicies:
    """The policies that were used last, up to a total length of their documents."""

    def __init__(self, max_characters: int) -> None:
        self._max_characters = max_characters
        self._policies: OrderedDict[tuple[str, Kind, str], Policy] = OrderedDict()
        self._characters = 0

    def get(self, document: str, kind: Kind, name: str) -> Policy:
        """A stored policy, compiled now or earlier.

        A policy that only an earlier version of the emulator accepted has no statements.
        """
        key = (document, kind, name)
        if (policy := self._policies.get(key)) is not None:
            self._policies.move_to_end(key)
            return policy
        try:
            policy = documents.parse(document, kind=kind, name=name)
        except MalformedPolicy as error:
            log.warning("stored policy %s is not valid, and allows nothing: %s", name, error)
            policy = Policy(name=name, statements=[])
        self._policies[key] = policy
        self._characters += len(document)
        while self._characters > self._max_characters:
            (oldest, _, _), _ = self._policies.popitem(last=False)
            self._characters -= len(oldest)
        return policy


compiled_policy: Final = CompiledPolicies(MAX_CHARACTERS).get
"""A stored policy. All emulators of a process keep their compiled policies together."""
