"""A small neural network in plain Python, and points to teach it: is a point inside the circle?

Two inputs, one hidden layer, one output; stochastic gradient descent on the logistic
loss. Everything follows from the seed and the number of the step, so that a training
that was cut in two ends with the very same weights as one that was not.
"""

import json
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

HIDDEN: Final = 8
BATCH: Final = 16
RATE: Final = 0.3
RADIUS: Final = 0.7
SURE: Final = 0.5

Point = tuple[float, float, float]
"""Where it is, and 1.0 inside the circle, 0.0 outside."""


@dataclass(slots=True)
class Network:
    """The weights."""

    inward: list[list[float]]
    """For each hidden neuron: two weights and a bias."""

    outward: list[float]
    """A weight for each hidden neuron, and a bias."""

    @classmethod
    def untaught(cls, seed: int) -> Self:
        """The weights before the first step."""
        chance = random.Random(f"{seed}/weights")
        inward = [[chance.gauss(0, 1) for _ in range(3)] for _ in range(HIDDEN)]
        return cls(inward, [chance.gauss(0, 1) for _ in range(HIDDEN + 1)])

    def text(self) -> str:
        """The weights as JSON, which has every bit of a float."""
        return json.dumps({"inward": self.inward, "outward": self.outward})

    def says(self, x: float, y: float) -> float:
        """How sure it is that the point is inside."""
        return self._run(x, y)[1]

    def learn(self, points: Sequence[Point]) -> float:
        """One step of descent; the loss before it."""
        loss, down_in, down_out = 0.0, [[0.0] * 3 for _ in self.inward], [0.0] * len(self.outward)
        for x, y, wanted in points:
            hidden, said = self._run(x, y)
            loss -= math.log(max(1e-12, said if wanted else 1 - said))
            error = said - wanted
            for index, value in enumerate(hidden):
                down_out[index] += error * value
                back = error * self.outward[index] * (1 - value * value)
                for place, signal in enumerate((x, y, 1.0)):
                    down_in[index][place] += back * signal
            down_out[-1] += error
        pace = RATE / len(points)
        self.outward = [weight - pace * down for weight, down in zip(self.outward, down_out, strict=True)]
        self.inward = [
            [weight - pace * down for weight, down in zip(*rows, strict=True)]
            for rows in zip(self.inward, down_in, strict=True)
        ]
        return loss / len(points)

    def _run(self, x: float, y: float) -> tuple[list[float], float]:
        hidden = [math.tanh(a * x + b * y + c) for a, b, c in self.inward]
        total = sum(weight * value for weight, value in zip(self.outward, hidden, strict=False)) + self.outward[-1]
        return hidden, 1 / (1 + math.exp(-max(-60.0, min(60.0, total))))


def points(seed: int, step: int, count: int = BATCH) -> list[Point]:
    """The points of a step."""
    chance = random.Random(f"{seed}/{step}")
    places = [(chance.uniform(-1, 1), chance.uniform(-1, 1)) for _ in range(count)]
    return [(x, y, float(math.hypot(x, y) < RADIUS)) for x, y in places]


def accuracy(network: Network, seed: int, count: int = 2000) -> float:
    """The share of points, never seen in training, that it is right about."""
    unseen = points(seed, -1, count)
    return sum((network.says(x, y) > SURE) == bool(wanted) for x, y, wanted in unseen) / count
