"""`make demo-kubernetes`, as it is run."""

import json
import sys

import pytest

from hyperpod_ebs.kit import command
from tests.support.live_cluster import LiveCluster


@pytest.mark.usefixtures("cordon_turn")
async def test_the_demo_shows_a_training_job_that_moves_and_gets_the_same_weights(live: LiveCluster) -> None:
    """The training job's weights at the end are those of a job that was not interrupted."""
    argv = [sys.executable, "-m", "localcluster", "demo", f"--directory={live.record.directory}", "--output=json"]

    finished = await command.run(argv, deadline=600)

    document = json.loads(finished.out)
    assert document["error"] is None
    assert [step["name"] for step in document["steps"]] == [
        "start two training jobs",
        "wait until 6 checkpoints are written",
        "cordon the node and delete the pod",
        "wait for the job on another node",
        "compare the weights of both jobs",
        "delete everything",
    ]
