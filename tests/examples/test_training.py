"""The training examples' programs: data sets, checkpoints and shared artifacts on a directory."""

import asyncio
import os
import shutil
from pathlib import Path
from typing import Final

import checkpoints as checkpoints_
import pytest
from checkpoints import Checkpoint
from network import Network

from tests.support.example_programs import Line, run, running

STEPS: Final = ("--steps", "600", "--every", "20")


async def trained(directory: Path, *words: str) -> list[Line]:
    """What a training says that runs to its end."""
    return await run("train.py", "--directory", directory, *STEPS, *words)


def checkpoints(directory: Path) -> list[Path]:
    """The files, oldest first."""
    return sorted(directory.glob("step-*.ckpt"))


@pytest.mark.requirement("examples.lose-nothing")
async def test_a_training_killed_again_and_again_ends_with_the_weights_of_one_that_was_not(tmp_path: Path) -> None:
    """The guide: checkpoints and intermediate results are saved; ours: not a bit is different."""
    steps: list[int] = []
    while len(steps) < 5:
        async with running("train.py", "--directory", tmp_path / "killed", *STEPS, "--pace", "0.02") as training:
            begun = await training.line()
            steps.append(begun["step"])
            last = await training.says("checkpoint")
            said = await training.killed()
            assert [last["step"], *(one["step"] for one in said if one["event"] == "checkpoint")][-1] > begun["step"]

    ended = await trained(tmp_path / "killed")
    whole = await trained(tmp_path / "whole")

    assert steps == sorted(set(steps))
    assert ended[0]["event"] == "resumed"
    assert ended[0]["step"] > steps[-1] > 0
    assert ended[-1]["weights"] == whole[-1]["weights"]
    assert ended[-1]["here"] == 600 - ended[0]["step"]
    assert whole[-1]["accuracy"] > 0.85


@pytest.mark.requirement("examples.lose-nothing")
@pytest.mark.parametrize("harm", ["cut short", "changed", "emptied"])
async def test_a_checkpoint_that_is_torn_is_passed_over(tmp_path: Path, harm: str) -> None:
    """Ours: the last complete one counts, whatever lies about being later."""
    await trained(tmp_path / "whole")
    await run("train.py", "--directory", tmp_path / "torn", "--steps", "200", "--every", "20")
    torn = checkpoints(tmp_path / "torn")[-1]
    content = torn.read_bytes()
    match harm:
        case "cut short":
            torn.write_bytes(content[:-1])
        case "changed":
            torn.write_bytes(content.replace(b"200", b"201"))
        case _:
            torn.write_bytes(b"")

    resumed = await trained(tmp_path / "torn")

    assert resumed[0] == {"event": "passed over", "checkpoint": torn.name, "reason": "it is not what was written"}
    assert (resumed[1]["event"], resumed[1]["step"]) == ("resumed", 180)
    assert resumed[-1]["weights"] == (await trained(tmp_path / "whole"))[-1]["weights"]


async def test_checkpoints_do_not_fill_the_volume_and_what_was_being_written_does_not_count(tmp_path: Path) -> None:
    """Ours: three stay."""
    (tmp_path / ".step-000000040.ckpt.new").write_bytes(b"half")

    said = await run("train.py", "--directory", tmp_path, "--steps", "200", "--every", "20", "--node", "n1")

    assert said[0] == {"event": "started", "step": 0, "node": "n1"}
    assert [path.name for path in checkpoints(tmp_path)] == [f"step-{step:09d}.ckpt" for step in (160, 180, 200)]


@pytest.mark.parametrize("step", [50, 950])
async def test_the_checkpoint_just_saved_stays_whatever_else_is_there(tmp_path: Path, step: int) -> None:
    """Ours: what is half copied from elsewhere does not count among the three, be it later or earlier."""
    foreign = [f"step-{later:09d}.ckpt" for later in (900, 910, 920, 1000)]
    for name in foreign:
        (tmp_path / name).write_bytes(b"half")

    for done in (step - 1, step):
        checkpoints_.save(tmp_path, Checkpoint(done, Network.untaught(1)))
    found = checkpoints_.last(tmp_path)

    assert found is not None
    assert found.step == step
    assert {path.name for path in checkpoints(tmp_path)} >= {f"step-{one:09d}.ckpt" for one in (step - 1, step)}
    assert (tmp_path / foreign[-1]).exists()


async def test_a_training_ends_at_once_when_it_is_told_to(tmp_path: Path) -> None:
    """Kubernetes: a pod that is evicted has SIGTERM first; the first process of a container has to heed it."""
    async with running("train.py", "--directory", tmp_path, *STEPS, "--pace", "0.05") as training:
        await training.line()

        code, _ = await training.told_to_end()

    assert code == 143


async def test_a_data_set_is_written_once_and_verified_byte_by_byte(tmp_path: Path) -> None:
    """The guide: a volume with the data set outlives its pods; ours: a Job that is run again changes nothing."""
    small = ("--directory", tmp_path, "--files", "3", "--mib", "1")

    written = await run("dataset.py", "write", *small)
    again = await run("dataset.py", "write", *small)
    verified = await run("dataset.py", "verify", "--directory", tmp_path)
    (tmp_path / "part-00001.bin").write_bytes(b"something else")
    damaged = await run("dataset.py", "verify", "--directory", tmp_path, code=1)

    assert again[0]["event"] == "present"
    assert {one[-1]["digest"] for one in (written, again, verified)} == {written[-1]["digest"]}
    assert verified[-1]["bytes"] == 3 * 2**20
    assert "part-00001.bin has the digest" in damaged[0]["reason"]


async def test_a_data_set_whose_writer_was_killed_is_not_there_until_another_completes_it(tmp_path: Path) -> None:
    """Ours: the list of digests comes last."""
    many = ("--directory", tmp_path, "--files", "40", "--mib", "1")
    stop = tmp_path / ".part-00003.bin.new"
    os.mkfifo(stop)  # where nobody reads, so that it comes no further
    async with running("dataset.py", "write", *many) as writer:
        async with asyncio.timeout(60):
            while not (tmp_path / "part-00002.bin").exists():  # noqa: ASYNC110 - a process tells nobody
                await asyncio.sleep(0.005)
        await writer.killed()
    stop.unlink()

    absent = await run("dataset.py", "verify", "--directory", tmp_path, code=1)
    await run("dataset.py", "write", *many)
    completed = await run("dataset.py", "verify", "--directory", tmp_path)

    assert "was never completed" in absent[0]["reason"]
    assert completed[0]["files"] == 40


async def test_who_has_a_copy_of_the_artifacts_has_the_version_of_its_moment(tmp_path: Path) -> None:
    """The guide: artifacts are shared by several jobs; ours: what is published later is not in an earlier snapshot."""
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
    assert {one[-1]["event"] for one in (nothing, damaged, unused)} == {"damaged"}
