"""`make demo-kubernetes`, as it is run."""

import json
import sys

import pytest

from hyperpod_ebs.kit import command
from tests.support.live_cluster import Live


@pytest.mark.usefixtures("cordon")
async def test_the_demo_shows_a_training_that_moves_and_ends_with_the_same_weights(live: Live) -> None:
    argv = [sys.executable, "-m", "localcluster", "demo", f"--directory={live.record.directory}", "--output=json"]

    finished = await command.run(argv, deadline=600)

    told = json.loads(finished.out)
    assert told["error"] is None
    assert [step["name"].partition(":")[0] for step in told["steps"]] == [
        "start the training, and one that nobody will disturb",
        "wait until 6 checkpoints are written",
        "take the node away",
        "see the volume move, and the training go on elsewhere",
        "train to the end, and compare the weights",
        "delete all of it, and look what is left at the cloud",
    ]
