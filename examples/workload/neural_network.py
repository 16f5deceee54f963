"""A small neural network in plain Python, and points to train it: is a point inside the circle?

The network has two inputs, one hidden layer and one output, and learns by stochastic gradient
descent on the logistic loss. Every step depends only on the seed and the number of the step,
so an interrupted training ends with exactly the same weights as an uninterrupted one.
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
THRESHOLD: Final = 0.5

Point = tuple[float, float, float]
"""Two coordinates, and 1.0 inside the circle or 0.0 outside."""


@dataclass(slots=True)
class Network:
    """The weights of the network."""

    inward: list[list[float]]
    """For each hidden neuron: two weights and a bias."""

    outward: list[float]
    """A weight for each hidden neuron, and a bias."""

    @classmethod
    def initial(cls, seed: int) -> Self:
        """The weights before the first step."""
        generator = random.Random(f"{seed}/weights")
        inward = [[generator.gauss(0, 1) for _ in range(3)] for _ in range(HIDDEN)]
        return cls(inward, [generator.gauss(0, 1) for _ in range(HIDDEN + 1)])

    def text(self) -> str:
        """The weights as JSON, which represents floats exactly."""
        return json.dumps({"inward": self.inward, "outward": self.outward})

    def probability(self, x: float, y: float) -> float:
        """The predicted probability that the point is inside the circle."""
        return self._forward(x, y)[1]

    def learn(self, points: Sequence[Point]) -> float:
        """Change the weights by one step of gradient descent; the loss before it."""
        loss, inward_slopes, outward_slopes = 0.0, [[0.0] * 3 for _ in self.inward], [0.0] * len(self.outward)
        for x, y, label in points:
            hidden, probability = self._forward(x, y)
            loss -= math.log(max(1e-12, probability if label else 1 - probability))
            error = probability - label
            for index, value in enumerate(hidden):
                outward_slopes[index] += error * value
                hidden_error = error * self.outward[index] * (1 - value * value)
                for position, signal in enumerate((x, y, 1.0)):
                    inward_slopes[index][position] += hidden_error * signal
            outward_slopes[-1] += error
        rate = RATE / len(points)
        self.outward = [weight - rate * slope for weight, slope in zip(self.outward, outward_slopes, strict=True)]
        self.inward = [
            [weight - rate * slope for weight, slope in zip(*rows, strict=True)]
            for rows in zip(self.inward, inward_slopes, strict=True)
        ]
        return loss / len(points)

    def _forward(self, x: float, y: float) -> tuple[list[float], float]:
        """The outputs of the hidden layer, and the probability."""
        hidden = [math.tanh(a * x + b * y + c) for a, b, c in self.inward]
        total = sum(weight * value for weight, value in zip(self.outward, hidden, strict=False)) + self.outward[-1]
        return hidden, 1 / (1 + math.exp(-max(-60.0, min(60.0, total))))


def points(seed: int, step: int, count: int = BATCH) -> list[Point]:
    """The training points of a step."""
    generator = random.Random(f"{seed}/{step}")
    coordinates = [(generator.uniform(-1, 1), generator.uniform(-1, 1)) for _ in range(count)]
    return [(x, y, float(math.hypot(x, y) < RADIUS)) for x, y in coordinates]


def accuracy(network: Network, seed: int, count: int = 2000) -> float:
    """The fraction of correct predictions for points that are not used in training."""
    unseen = points(seed, -1, count)
    return sum((network.probability(x, y) > THRESHOLD) == bool(label) for x, y, label in unseen) / count
