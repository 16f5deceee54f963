"""A training job that can be killed: it goes on from its last complete checkpoint, wherever that is mounted.

Its last line has the digest of the weights, which is the same however often it was killed.
"""

import argparse
import hashlib
import signal
import sys
import time
from pathlib import Path

import checkpoints
import durable
import ending
import network
from checkpoints import Checkpoint


def main() -> int:
    """Train to the end."""
    asked = arguments().parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(ending.TOLD))
    asked.directory.mkdir(parents=True, exist_ok=True)
    found = checkpoints.last(asked.directory)
    durable.say(event="resumed" if found else "started", step=found.step if found else 0, node=asked.node)
    at = found or Checkpoint(0, network.Network.untaught(asked.seed))
    model = at.network
    for step in range(at.step, asked.steps):
        loss = model.learn(network.points(asked.seed, step))
        time.sleep(asked.pace)
        done = step + 1
        if done % asked.every == 0 or done == asked.steps:
            path = checkpoints.save(asked.directory, Checkpoint(done, model))
            durable.say(event="checkpoint", step=done, loss=round(loss, 6), file=path.name)
    durable.say(
        event="done",
        steps=asked.steps,
        here=asked.steps - at.step,
        accuracy=round(network.accuracy(model, asked.seed), 4),
        weights=hashlib.sha256(model.text().encode()).hexdigest(),
    )
    return 0


def arguments() -> argparse.ArgumentParser:
    """What it takes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", type=Path, required=True, help="where the checkpoints are")
    parser.add_argument("--steps", type=int, default=2000, help="steps of the whole training")
    parser.add_argument("--every", type=int, default=50, help="steps from one checkpoint to the next")
    parser.add_argument("--pace", type=float, default=0.0, help="seconds to wait after each step")
    parser.add_argument("--seed", type=int, default=1, help="what everything follows from")
    parser.add_argument("--node", default="", help="where it runs, to be said")
    return parser


if __name__ == "__main__":
    sys.exit(main())
