"""How a call to AWS is made: a few tries, and each answer in the driver's own errors.

The SDK's own retries are off: it does not tell whether an earlier try may have done
its work, and for a create that is what everything hangs on.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final, TypedDict, TypeVar

from hyperpod_ebs.driver.aws.errors import translated
from hyperpod_ebs.driver.model import errors

T = TypeVar("T")
P = TypeVar("P", bound=Mapping[str, object])
R = TypeVar("R")

PAUSES: Final = (0.25, 0.75)
"""Seconds, at most, before each further try. The CO tries again too, so these are few."""

# Exactly these: what they are parents of says more, and that trying again at once will not help.
_SILENCE: Final = frozenset({errors.Unavailable, errors.OutcomeUnknown})


class After(TypedDict, total=False):
    """Where a page begins; empty for the first."""

    NextToken: str


async def pages(doing: str, ask: Callable[[After], Awaitable[P]], read: Callable[[P], Iterable[R]]) -> tuple[R, ...]:
    """All that AWS answers to `ask`, page by page: what is left out would be taken for gone.

    Raises:
        Error: As `answer` does.
    """
    items: list[R] = []
    after = After()
    while True:
        page, token = await answer(
            doing,
            lambda: ask(after),  # noqa: B023 - called before it changes
            lambda said: (tuple(read(said)), said.get("NextToken")),
        )
        items += page
        if not token:
            return tuple(items)
        after = After(NextToken=str(token))


async def answer(
    doing: str,
    ask: Callable[[], Awaitable[T]],
    read: Callable[[T], R],
    *,
    creates: bool = False,
    repeatable: bool = True,
) -> R:
    """What AWS answers to `ask`, in our values; tried again when it throttles or does not answer.

    Args:
        doing: What is being done, for messages.
        ask: Makes the call.
        read: Makes our value of the answer.
        creates: Whether something may come into being.
        repeatable: Whether the same call twice does the same as once.

    Raises:
        OutcomeUnknown: It creates, and one of the tries may have done so.
        Error: What AWS refused it with.
    """
    pauses = iter(PAUSES)
    unproved = False
    while True:
        try:
            with translated(doing, creates=creates):
                return read(await ask())
        except errors.Error as error:
            unproved = unproved or isinstance(error, errors.OutcomeUnknown)
            again = type(error) is errors.Throttled or (repeatable and type(error) in _SILENCE)
            pause = next(pauses, None)
            if not again or pause is None:
                if unproved and not isinstance(error, errors.OutcomeUnknown):
                    raise errors.OutcomeUnknown(
                        f"{error}; an earlier try had no answer and may have done it"
                    ) from error
                raise
        await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - spreads load, keeps no secret
