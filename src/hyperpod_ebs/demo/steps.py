"""The steps of the demo, with the time and the AWS calls of each."""

import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from hyperpod_ebs.demo.report import Step
from hyperpod_ebs.demo.screen import Screen
from hyperpod_ebs.sandbox.failures import Failure, StepFailed, explanation

CallCounts = Mapping[str, int]
"""The number of calls of each AWS operation, by `service:Operation`."""


@dataclass(frozen=True, slots=True)
class Result:
    """Collects the sentences of a step's result."""

    sentences: list[str]

    def __call__(self, sentence: str) -> None:
        """Add a sentence."""
        self.sentences.append(sentence)


async def _no_calls() -> CallCounts:
    return {}


class Steps:
    """The finished steps, and the current one."""

    def __init__(self, screen: Screen) -> None:
        """`screen` shows each step."""
        self._screen = screen
        self.finished: list[Step] = []
        self.current: str | None = None
        self._call_counts: Callable[[], Awaitable[CallCounts]] = _no_calls

    def count_calls(self, call_counts: Callable[[], Awaitable[CallCounts]] = _no_calls) -> None:
        """Get the counts of AWS calls from `call_counts` from now on; without an argument, count no calls."""
        self._call_counts = call_counts

    @asynccontextmanager
    async def step(self, name: str) -> AsyncGenerator[Result]:
        """A step; the block adds sentences to its result.

        Raises:
            StepFailed: The block raised an error; the message names the step and explains the error.
        """
        self._screen.start_step(name)
        self.current, start, result = name, time.monotonic(), Result([])
        try:
            before = await self._call_counts()
            yield result
            seconds, after = time.monotonic() - start, await self._call_counts()
        except Failure:
            raise
        except Exception as error:
            raise StepFailed(f"{name}: {explanation(error)}") from error
        calls = {key: more for key, count in after.items() if (more := count - before.get(key, 0)) > 0}
        step = Step(name=name, seconds=round(seconds, 3), calls=calls, result="; ".join(result.sentences))
        self.finished.append(step)
        self.current = None
        self._screen.finish_step(step)
