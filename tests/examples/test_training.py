"""The programs of the training examples, each on a directory: data sets, checkpoints and shared artifacts."""

import asyncio
import os
import shutil
from pathlib import Path
from typing import Final

import checkpoints
import pytest
from checkpoints import Checkpoint
from neural_network import Network

from tests.support.example_programs import Event, run, start

DAMAGED: Final = "its digest does not match its content"
STEPS: Final = ("--steps", "600", "--every", "20")


async def train(directory: Path, *words: str) -> list[Event]:
    """Run a training to its end; its events."""
    return await run("train.py", "--directory", directory, *STEPS, *words)


def checkpoint_files(directory: Path) -> list[Path]:
    """The checkpoints, oldest first."""
    return sorted(directory.glob("step-*.ckpt"))


@pytest.mark.requirement("examples.lose-nothing")
async def test_a_repeatedly_killed_training_ends_with_the_weights_of_an_uninterrupted_one(tmp_path: Path) -> None:
    """examples/training/checkpoint: the weights are exactly equal."""
    steps: list[int] = []
    while len(steps) < 5:
        async with start("train.py", "--directory", tmp_path / "killed", *STEPS, "--pace", "0.02") as training:
            begun = await training.next_event()
            steps.append(begun["step"])
            last = await training.wait_for("checkpoint")
            rest = await training.kill()
            saved = [event["step"] for event in (last, *rest) if event["event"] == "checkpoint"]
            assert saved[-1] > begun["step"]

    ended = await train(tmp_path / "killed")
    whole = await train(tmp_path / "whole")

    assert steps == sorted(set(steps))
    assert ended[0]["event"] == "resumed"
    assert ended[0]["step"] > steps[-1] > 0
    assert ended[-1]["weights"] == whole[-1]["weights"]
    assert ended[-1]["here"] == 600 - ended[0]["step"]
    assert whole[-1]["accuracy"] > 0.85


@pytest.mark.requirement("examples.lose-nothing")
@pytest.mark.parametrize("harm", ["cut short", "changed", "emptied"])
async def test_a_damaged_checkpoint_is_skipped(tmp_path: Path, harm: str) -> None:
    """The training resumes from the latest valid checkpoint, although a later file exists."""
    await train(tmp_path / "whole")
    await run("train.py", "--directory", tmp_path / "torn", "--steps", "200", "--every", "20")
    torn = checkpoint_files(tmp_path / "torn")[-1]
    content = torn.read_bytes()
    match harm:
        case "cut short":
            torn.write_bytes(content[:-1])
        case "changed":
            torn.write_bytes(content.replace(b"200", b"201"))
        case _:
            torn.write_bytes(b"")

    resumed = await train(tmp_path / "torn")

    assert resumed[0] == {"event": "skipped", "checkpoint": torn.name, "reason": DAMAGED}
    assert (resumed[1]["event"], resumed[1]["step"]) == ("resumed", 180)
    assert resumed[-1]["weights"] == (await train(tmp_path / "whole"))[-1]["weights"]


async def test_three_checkpoints_are_kept_and_unfinished_files_are_ignored(tmp_path: Path) -> None:
    """Old checkpoints would fill the volume."""
    (tmp_path / ".step-000000040.ckpt.new").write_bytes(b"half")

    events = await run("train.py", "--directory", tmp_path, "--steps", "200", "--every", "20", "--node", "n1")

    assert events[0] == {"event": "started", "step": 0, "node": "n1"}
    assert [path.name for path in checkpoint_files(tmp_path)] == [f"step-{step:09d}.ckpt" for step in (160, 180, 200)]


@pytest.mark.parametrize("step", [50, 950])
async def test_the_new_checkpoint_is_kept_although_damaged_files_have_later_steps(tmp_path: Path, step: int) -> None:
    """Incomplete copies from another directory are not counted among the three that are kept."""
    foreign = [f"step-{later:09d}.ckpt" for later in (900, 910, 920, 1000)]
    for name in foreign:
        (tmp_path / name).write_bytes(b"half")

    for done in (step - 1, step):
        checkpoints.save(tmp_path, Checkpoint(done, Network.initial(1)))
    found = checkpoints.latest(tmp_path)

    assert found is not None
    assert found.step == step
    assert {path.name for path in checkpoint_files(tmp_path)} >= {f"step-{kept:09d}.ckpt" for kept in (step - 1, step)}
    assert (tmp_path / foreign[-1]).exists()


async def test_a_training_ends_at_once_on_sigterm(tmp_path: Path) -> None:
    """Kubernetes documentation, "Termination of Pods": the first process of a container must handle SIGTERM."""
    async with start("train.py", "--directory", tmp_path, *STEPS, "--pace", "0.05") as training:
        await training.next_event()

        code, _ = await training.terminate()

    assert code == 143


async def test_a_data_set_is_written_once_and_verified_byte_by_byte(tmp_path: Path) -> None:
    """examples/training/dataset: a Job that runs again changes nothing."""
    small = ("--directory", tmp_path, "--files", "3", "--mib", "1")

    written = await run("dataset.py", "write", *small)
    again = await run("dataset.py", "write", *small)
    verified = await run("dataset.py", "verify", "--directory", tmp_path)
    (tmp_path / "part-00001.bin").write_bytes(b"something else")
    damaged = await run("dataset.py", "verify", "--directory", tmp_path, code=1)

    assert again[0]["event"] == "present"
    assert {events[-1]["digest"] for events in (written, again, verified)} == {written[-1]["digest"]}
    assert verified[-1]["bytes"] == 3 * 2**20
    assert "part-00001.bin has the digest" in damaged[0]["reason"]


async def test_a_data_set_of_a_killed_writer_is_incomplete_until_another_finishes_it(tmp_path: Path) -> None:
    """The list of digests is written last."""
    many = ("--directory", tmp_path, "--files", "40", "--mib", "1")
    stop = tmp_path / ".part-00003.bin.new"
    os.mkfifo(stop)  # the writer blocks here, because no process reads the pipe
    async with start("dataset.py", "write", *many) as writer:
        async with asyncio.timeout(60):
            while not (tmp_path / "part-00002.bin").exists():  # noqa: ASYNC110 - the process reports no event for it
                await asyncio.sleep(0.005)
        await writer.kill()
    stop.unlink()

    absent = await run("dataset.py", "verify", "--directory", tmp_path, code=1)
    await run("dataset.py", "write", *many)
    completed = await run("dataset.py", "verify", "--directory", tmp_path)

    assert "was never completed" in absent[0]["reason"]
    assert completed[0]["files"] == 40


async def test_a_snapshot_of_the_artifacts_keeps_the_version_of_its_time(tmp_path: Path) -> None:
    """examples/training/shared-artifacts: a later version is not in an earlier snapshot."""
    here = ("--directory", tmp_path / "store", "--mib", "1")
    first = await run("artifacts.py", "publish", *here, "--version", "1")
    shutil.copytree(tmp_path / "store", tmp_path / "snapshot")
    second = await run("artifacts.py", "publish", *here, "--version", "2")

    old = await run("artifacts.py", "use", "--directory", tmp_path / "snapshot")
    new = await run("artifacts.py", "use", "--directory", tmp_path / "store")
    nothing = await run("artifacts.py", "use", "--directory", tmp_path, code=1)
    (tmp_path / "store" / "version-2" / "part-00001.bin").write_bytes(b"something else")
    damaged = await run("artifacts.py", "publish", *here, "--version", "2", code=1)
    unused = await run("artifacts.py", "use", "--directory", tmp_path / "store", code=1)

    assert (old[0]["version"], old[0]["digest"]) == (1, first[0]["digest"])
    assert (new[0]["version"], new[0]["digest"]) == (2, second[0]["digest"])
    assert first[0]["digest"] != second[0]["digest"]
    assert {events[-1]["event"] for events in (nothing, damaged, unused)} == {"damaged"}
