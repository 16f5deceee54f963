"""The steps of the demo, timed, with the AWS calls that each of them took."""

import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from hyperpod_ebs.demo.report import Step
from hyperpod_ebs.demo.screen import Screen
from hyperpod_ebs.sandbox.failures import Failure, StepFailed, explanation

Counts = Mapping[str, int]
"""How often each AWS operation was called, by `service:Operation`."""


@dataclass(frozen=True, slots=True)
class Result:
    """Collects what a step has to say."""

    said: list[str]

    def __call__(self, text: str) -> None:
        """Say it beside the step."""
        self.said.append(text)


async def _none() -> Counts:
    return {}


class Steps:
    """What was done so far, and what is being done."""

    def __init__(self, screen: Screen) -> None:
        """`screen` is told of each."""
        self._screen = screen
        self.done: list[Step] = []
        self.now: str | None = None
        self._calls: Callable[[], Awaitable[Counts]] = _none

    def count(self, calls: Callable[[], Awaitable[Counts]] = _none) -> None:
        """Take the counts of AWS calls from `calls`; from nowhere while there is no cloud."""
        self._calls = calls

    @asynccontextmanager
    async def step(self, name: str) -> AsyncGenerator[Result]:
        """A step; what the block says is its result.

        Raises:
            StepFailed: What went wrong with it, whatever it was, in a sentence that names the step.
        """
        self._screen.began(name)
        self.now, since, result = name, time.monotonic(), Result([])
        try:
            before = await self._calls()
            yield result
            seconds, after = time.monotonic() - since, await self._calls()
        except Failure:
            raise
        except Exception as error:
            raise StepFailed(f"{name}: {explanation(error)}") from error
        calls = {key: more for key, count in after.items() if (more := count - before.get(key, 0)) > 0}
        step = Step(name=name, seconds=round(seconds, 3), calls=calls, result="; ".join(result.said))
        self.done.append(step)
        self.now = None
        self._screen.ended(step)
