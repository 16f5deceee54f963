"""Prove policies: all steps succeed with them, use everything that they allow, and fail without any part of them."""

import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Final

import aiohttp
from botocore.exceptions import ClientError

from tests.support.emulator_clients import error_of
from tests.support.missing_permissions import without_ids
from tests.support.permission_removals import (
    Documents,
    Part,
    Removal,
    parts,
    with_other_resources,
    with_unmet_conditions,
    without_actions,
    without_statements,
)

_DENIED: Final = re.compile(r"perform: (?P<action>[\w-]+:\w+)")
_ISSUER: Final = re.compile(r"127\.0\.0\.1:\d+/oidc/[0-9A-F]{32}")
_REASONS: Final = (_DENIED, re.compile(r"Ec2ErrCode: (\w+)"), re.compile(r"(lacks [\w:]+ or [\w:]+)"))
"""What an error names, the most exact first."""

_DELEGATED: Final = "kms:*"
"""What a key's policy leaves to the policies in IAM: they allow it, so no decision names the key's statement."""

_TABLES: Final[Mapping[str, Callable[[Documents], Iterator[Removal]]]] = {
    "statement taken away": without_statements,
    "action taken away": without_actions,
    "resource that is another one": with_other_resources,
    "condition that is not met": with_unmet_conditions,
}


async def _nothing(_: Any) -> None:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """Something that the policies are for."""

    name: str
    prepare: Callable[[], Awaitable[Any]]
    """Creates what the call needs, as the administrator."""

    call: Callable[[Any], Awaitable[Any]]
    undo: Callable[[Any], Awaitable[Any]] = field(default=_nothing)
    """Ends what the call began, as the administrator."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """Policies and what they are for."""

    documents: Documents
    attempts: Sequence[Attempt]
    put: Callable[[Documents], Awaitable[Any]]
    """Puts the policies in force, in place of those before."""

    http: aiohttp.ClientSession
    """A client of the emulator's own pages."""

    principal: str
    """A part of the ARN of the principals whose decisions count."""

    async def run(self) -> None:
        """Run all attempts with the whole policies.

        Raises:
            ClientError: An attempt is refused.
            AssertionError: A part of the policies is not used.
        """
        await self.put(self.documents)
        assert await self._list_unused_parts() == []

    async def tables(self) -> list[str]:
        """The lines of the tables: what is refused without each part of the policies.

        Raises:
            AssertionError: A part is not used, or nothing is refused without it.
        """
        await self.run()
        lines = list[str]()
        for head, removals in _TABLES.items():
            rows = [await self._row(removal) for removal in removals(self.documents)]
            if rows:
                lines += [f"| {head} | what is refused |", "|---|---|", *rows, ""]
        return [_without_ids(line) for line in lines]

    async def _row(self, removal: Removal) -> str:
        reasons: dict[str, str] = {}
        for attempt in self.attempts:
            prepared = await attempt.prepare()
            await self.put(removal.documents)
            reason = await _refusal(attempt, prepared)
            await self.put(self.documents)
            if reason is not None:
                reasons[attempt.name] = reason
                await attempt.call(prepared)  # it succeeds once the policies are whole again
            await attempt.undo(prepared)
        assert reasons, f"nothing is refused: {removal.what}"
        return f"| {removal.what} | {'<br>'.join(f'{name}: {reason}' for name, reason in reasons.items())} |"

    async def _list_unused_parts(self) -> list[Part]:
        """Run all attempts; the parts that none uses, as the emulator's call record shows; all attempts succeed."""
        used: set[tuple[str, str]] = set()
        for attempt in self.attempts:
            prepared = await attempt.prepare()
            before = (await self._calls())["last"]
            await attempt.call(prepared)
            used |= {
                (decision["statement"], decision["action"])
                for call in (await self._calls(before))["calls"]
                for decision in call["decisions"]
                if self.principal in (decision["principal"] or "") and decision["verdict"] == "allowed"
            }
            await attempt.undo(prepared)
        return [
            part
            for part in parts(self.documents)
            if part.action != _DELEGATED
            and not any(
                statement == self.documents[part.policy]["Statement"][part.statement]["Sid"]
                and fnmatchcase(action, part.action)
                for statement, action in used
            )
        ]

    async def _calls(self, after: int = 0) -> dict[str, Any]:
        async with self.http.get(f"/_emulator/calls/latest?after={after}") as answer:
            calls: dict[str, Any] = await answer.json()
            return calls


def _without_ids(line: str) -> str:
    return _ISSUER.sub("oidc.eks.us-west-2.amazonaws.com/id/EXAMPLE", without_ids(line))


async def _refusal(attempt: Attempt, prepared: Any) -> str | None:
    """Why a call is refused; None if it succeeds."""
    try:
        await attempt.call(prepared)
    except ClientError as error:
        code, text = error_of(error)
        named = next((match[1] for pattern in _REASONS if (match := pattern.search(text))), None)
        return f"`{code}`, {f'`{named}`' if named else text}"
    return None
