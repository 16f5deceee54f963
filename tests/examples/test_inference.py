"""The inference examples' programs: a model store, a cache and an event log on a directory."""

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.example_programs import run, running


def flip(path: Path, at: int = 0) -> None:
    """Change one bit of a file."""
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


async def asked(port: int) -> Any:
    """What a model's server answers."""
    async with aiohttp.request("GET", f"http://127.0.0.1:{port}/") as answer:
        return await answer.json()


async def test_a_server_loads_the_model_that_was_fetched_last_and_answers_for_it(tmp_path: Path) -> None:
    """The guide: a model store sized by the model."""
    store = ("--directory", tmp_path)
    none = await run("model.py", "serve", *store, "--port", "0", code=1)
    fetched = await run("model.py", "fetch", *store, "--name", "small", "--mib", "2")
    await run("model.py", "fetch", *store, "--name", "large", "--mib", "3")

    async with running("model.py", "serve", *store, "--port", "0") as server:
        port = (await server.says("serving"))["port"]
        large = await asked(port)
        code, _ = await server.told_to_end()
    await run("model.py", "fetch", *store, "--name", "other", "--mib", "1")

    assert "fetch one first" in none[0]["reason"]
    assert (large["model"], large["bytes"]) == ("large", 3 * 2**20)
    assert large["digest"] != fetched[0]["digest"]
    assert code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["current", "large", "other"]


async def test_a_fetch_that_is_killed_leaves_the_current_model_as_it_was(tmp_path: Path) -> None:
    """Ours: a server that starts in the middle of a fetch loads the old one, and the next fetch goes on."""
    store = ("--directory", tmp_path)
    await run("model.py", "fetch", *store, "--name", "small", "--mib", "1")
    async with running("model.py", "fetch", *store, "--name", "large", "--mib", "640") as fetch:
        async with asyncio.timeout(20):
            while not (tmp_path / "large" / "part-00001.bin").exists():  # noqa: ASYNC110 - a process tells nobody
                await asyncio.sleep(0.005)
        await fetch.killed()

    async with running("model.py", "serve", *store, "--port", "0") as server:
        serving = await server.says("serving")

    assert serving["model"] == "small"


@pytest.mark.requirement("examples.lose-nothing")
async def test_a_model_that_is_damaged_is_not_served_and_the_next_fetch_has_it_anew(tmp_path: Path) -> None:
    """Ours: every byte is looked at when it is loaded; a digest is never made to fit what is there."""
    small = ("fetch", "--directory", tmp_path, "--name", "small", "--mib", "32")
    whole = await run("model.py", *small)
    flip(tmp_path / "small" / "part-00001.bin")

    damaged = await run("model.py", "serve", "--directory", tmp_path, "--port", "0", code=1)
    told, *_, anew = await run("model.py", *small)
    async with running("model.py", "serve", "--directory", tmp_path, "--port", "0") as server:
        serving = await server.says("serving")

    assert damaged[0]["event"] == told["event"] == "damaged"
    assert "part-00001.bin has the digest" in told["reason"]
    assert anew["digest"] == serving["digest"] == whole[0]["digest"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["current", "small"]


async def test_the_second_start_has_from_the_cache_what_the_first_prepared(tmp_path: Path) -> None:
    """The guide: ephemeral storage makes inference faster; ours: by how much is measured and told."""
    few = ("--cache", tmp_path, "--artifacts", "3", "--kib", "256")

    first = await run("cache.py", *few, "--crash-once", code=1)
    async with running("cache.py", *few, "--crash-once") as second:
        again = await second.says("ready")
        compared = await second.says("compared")
    (tmp_path / "artifact-001.xz").write_bytes(b"torn")
    (tmp_path / "artifact-002.xz").unlink()
    async with running("cache.py", *few) as third:
        mended = await third.says("ready")

    assert (first[0]["prepared"], first[0]["cached"], first[1]["event"]) == (3, 0, "crashing")
    assert compared["first_seconds"] == first[0]["seconds"]
    assert (again["prepared"], again["cached"], again["seconds"]) == (0, 3, compared["second_seconds"])
    assert (mended["start"], mended["prepared"], mended["cached"]) == (3, 2, 1)


@pytest.mark.requirement("examples.lose-nothing")
async def test_no_acknowledged_event_is_lost_however_often_the_writer_is_killed(tmp_path: Path) -> None:
    """The guide: inference results and logs on persistent storage; ours: across rotation, in order, to the byte."""
    words = ("--directory", tmp_path, "--event-bytes", "4096", "--segment-mib", "1", "--batch", "16")
    acknowledged = 0
    for _ in range(5):
        async with running("event_log.py", "write", *words, "--events", "100000") as writer:
            opened = await writer.says("opened")
            assert opened["last"] >= acknowledged
            first = await writer.says("acknowledged")
            await writer.says("acknowledged")
            said = await writer.killed()
            acknowledged = max(one["last"] for one in (first, *said) if "last" in one)

    done = (await run("event_log.py", "write", *words, "--events", str(acknowledged + 1000)))[-1]
    verified = (await run("event_log.py", "verify", "--directory", tmp_path))[0]

    assert (verified["events"], verified["chain"]) == (done["events"], done["chain"])
    assert verified["events"] == acknowledged + 1000
    assert verified["segments"] > 3


async def test_a_second_writer_waits_until_the_first_has_ended(tmp_path: Path) -> None:
    """Ours: two pods may have one volume on one node for a moment; what either acknowledged is in the log."""
    words = ("write", "--directory", tmp_path, "--event-bytes", "4096", "--segment-mib", "1", "--batch", "16")
    async with running("event_log.py", *words, "--events", "100000", "--pace", "0.01") as first:
        await first.says("acknowledged")
        async with running("event_log.py", *words, "--events", "200000") as second:
            held = await second.line()
            await first.says("acknowledged")
            said = await first.killed()
            opened = await second.says("opened")
            code, _ = await second.told_to_end()
    verified = (await run("event_log.py", "verify", "--directory", tmp_path))[0]

    assert held["event"] == "held"
    assert opened["last"] >= max((one["last"] for one in said if one["event"] == "acknowledged"), default=0)
    assert code == 0
    assert verified["events"] >= opened["last"]


async def test_a_writer_that_waits_for_another_ends_when_it_is_told_to(tmp_path: Path) -> None:
    """Kubernetes: a pod that is deleted has SIGTERM first."""
    words = ("write", "--directory", tmp_path, "--events", "1", "--stay")
    async with running("event_log.py", *words) as first, running("event_log.py", *words) as second:
        either = {first: await first.line(), second: await second.line()}
        (waiting,) = (one for one, line in either.items() if line["event"] == "held")

        code, _ = await waiting.told_to_end()

    assert code == 143


@pytest.mark.requirement("examples.lose-nothing")
@pytest.mark.parametrize("harm", ["a segment is gone", "a byte is changed", "an event is taken out"])
async def test_a_log_that_is_not_whole_is_not_verified(tmp_path: Path, harm: str) -> None:
    """Ours: each line has the digest of all before it."""
    words = ("--directory", tmp_path, "--event-bytes", "4096", "--segment-mib", "1", "--batch", "16")
    await run("event_log.py", "write", *words, "--events", "1000")
    segment = sorted(tmp_path.glob("*.log"))[1]
    lines = segment.read_bytes().splitlines(keepends=True)
    match harm:
        case "a segment is gone":
            segment.unlink()
        case "a byte is changed":
            segment.write_bytes(b"".join([*lines[:5], lines[5].replace(b'"answer"', b'"Answer"'), *lines[6:]]))
        case _:
            segment.write_bytes(b"".join([*lines[:5], *lines[6:]]))

    lost = await run("event_log.py", "verify", "--directory", tmp_path, code=1)

    assert lost[0]["event"] == "lost"


@pytest.mark.requirement("examples.lose-nothing")
@pytest.mark.parametrize("harm", ["a bit is flipped", "the last seal is gone", "the last seal is no seal"])
async def test_a_writer_throws_away_nothing_that_it_cannot_read(tmp_path: Path, harm: str) -> None:
    """Ours: what a kill leaves is a batch at the most; more than that was acknowledged, and a person has to look."""
    words = ("--directory", tmp_path, "--event-bytes", "4096", "--batch", "16", "--segment-mib", "1")
    await run("event_log.py", "write", *words, "--events", "500")
    *_, last = sorted(tmp_path.glob("*.log"))
    seal = max(tmp_path.glob("*.sealed"))
    match harm:
        case "a bit is flipped":
            flip(last, at=10_000)
        case "the last seal is gone":
            seal.unlink()
        case _:
            seal.write_bytes(b"{")
    before = {path.name: path.read_bytes() for path in tmp_path.glob("events-*")}

    lost = await run("event_log.py", "write", *words, "--events", "1000", code=1)
    found = await run("event_log.py", "verify", *words, code=0 if harm == "the last seal is gone" else 1)

    assert lost[-1]["event"] == "lost"
    assert found[-1]["event"] in {"lost", "verified"}
    assert {path.name: path.read_bytes() for path in tmp_path.glob("events-*")} == before


async def test_a_log_goes_on_after_a_torn_line_and_a_half_made_rotation(tmp_path: Path) -> None:
    """Ours: what a kill left was never acknowledged."""
    words = ("--directory", tmp_path, "--event-bytes", "4096", "--segment-mib", "1", "--batch", "16")
    before = (await run("event_log.py", "write", *words, "--events", "300"))[-1]
    *_, last = sorted(tmp_path.glob("*.log"))
    torn = b'0123 {"n": 301, "answ'
    with last.open("ab") as file:
        file.write(torn)
    sealed = max(tmp_path.glob("*.sealed"))
    shutil.copy(sealed, tmp_path / f".{sealed.name}.new")

    cut, opened, *_, after = await run("event_log.py", "write", *words, "--events", "301")
    verified = (await run("event_log.py", "verify", "--directory", tmp_path))[0]

    assert (cut["event"], cut["bytes"]) == ("cut", len(torn))
    assert (tmp_path / cut["kept"]).read_bytes() == torn
    assert opened["last"] == before["events"] == 300
    assert verified["chain"] == after["chain"]
    assert json.loads(last.read_bytes().splitlines()[-1].partition(b" ")[2])["n"] == 301
