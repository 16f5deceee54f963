"""A training job that can be killed at any time: it continues from its latest valid checkpoint, on any node.

Its last line has the digest of the weights, which does not depend on how often it was killed.
"""

import argparse
import hashlib
import signal
import sys
import time
from pathlib import Path

import checkpoints
import events
import neural_network
import shutdown
from checkpoints import Checkpoint


def main() -> int:
    """Train until the last step."""
    options = arguments().parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(shutdown.EXIT_CODE))
    options.directory.mkdir(parents=True, exist_ok=True)
    found = checkpoints.latest(options.directory)
    events.report(event="resumed" if found else "started", step=found.step if found else 0, node=options.node)
    start = found or Checkpoint(0, neural_network.Network.initial(options.seed))
    network = start.network
    for step in range(start.step, options.steps):
        loss = network.learn(neural_network.points(options.seed, step))
        time.sleep(options.pace)
        done = step + 1
        if done % options.every == 0 or done == options.steps:
            path = checkpoints.save(options.directory, Checkpoint(done, network))
            events.report(event="checkpoint", step=done, loss=round(loss, 6), file=path.name)
    events.report(
        event="done",
        steps=options.steps,
        here=options.steps - start.step,
        accuracy=round(neural_network.accuracy(network, options.seed), 4),
        weights=hashlib.sha256(network.text().encode()).hexdigest(),
    )
    return 0


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", type=Path, required=True, help="the directory of the checkpoints")
    parser.add_argument("--steps", type=int, default=2000, help="steps of the whole training")
    parser.add_argument("--every", type=int, default=50, help="steps between two checkpoints")
    parser.add_argument("--pace", type=float, default=0.0, help="seconds to wait after each step")
    parser.add_argument("--seed", type=int, default=1, help="seed of the weights and the training points")
    parser.add_argument("--node", default="", help="the node's name, to be reported")
    return parser


if __name__ == "__main__":
    sys.exit(main())
