"""The programs of the inference examples, each on a directory: a model store, a cache and an event log."""

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.example_programs import run, start


def flip(path: Path, at: int = 0) -> None:
    """Change one bit of a file."""
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


async def get_model(port: int) -> Any:
    """What the model server responds."""
    async with aiohttp.request("GET", f"http://127.0.0.1:{port}/") as response:
        return await response.json()


async def test_a_server_loads_the_latest_fetched_model_and_answers_requests(tmp_path: Path) -> None:
    """examples/inference/model-store."""
    store = ("--directory", tmp_path)
    none = await run("model_store.py", "serve", *store, "--port", "0", code=1)
    fetched = await run("model_store.py", "fetch", *store, "--name", "small", "--mib", "2")
    await run("model_store.py", "fetch", *store, "--name", "large", "--mib", "3")

    async with start("model_store.py", "serve", *store, "--port", "0") as server:
        port = (await server.wait_for("serving"))["port"]
        large = await get_model(port)
        code, _ = await server.terminate()
    await run("model_store.py", "fetch", *store, "--name", "other", "--mib", "1")

    assert "fetch one first" in none[0]["reason"]
    assert (large["model"], large["bytes"]) == ("large", 3 * 2**20)
    assert large["digest"] != fetched[0]["digest"]
    assert code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["current", "large", "other"]


async def test_a_killed_fetch_leaves_the_current_model_unchanged(tmp_path: Path) -> None:
    """A server that starts during a fetch loads the previous model."""
    store = ("--directory", tmp_path)
    await run("model_store.py", "fetch", *store, "--name", "small", "--mib", "1")
    async with start("model_store.py", "fetch", *store, "--name", "large", "--mib", "640") as fetch:
        async with asyncio.timeout(20):
            while not (tmp_path / "large" / "part-00001.bin").exists():  # noqa: ASYNC110 - the process reports no event for it
                await asyncio.sleep(0.005)
        await fetch.kill()

    async with start("model_store.py", "serve", *store, "--port", "0") as server:
        serving = await server.wait_for("serving")

    assert serving["model"] == "small"


@pytest.mark.requirement("examples.lose-nothing")
async def test_a_damaged_model_is_not_served_and_the_next_fetch_replaces_it(tmp_path: Path) -> None:
    """The server compares every byte; a fetch never adapts the digests to damaged files."""
    small = ("fetch", "--directory", tmp_path, "--name", "small", "--mib", "32")
    whole = await run("model_store.py", *small)
    flip(tmp_path / "small" / "part-00001.bin")

    damaged = await run("model_store.py", "serve", "--directory", tmp_path, "--port", "0", code=1)
    reported, *_, replaced = await run("model_store.py", *small)
    async with start("model_store.py", "serve", "--directory", tmp_path, "--port", "0") as server:
        serving = await server.wait_for("serving")

    assert damaged[0]["event"] == reported["event"] == "damaged"
    assert "part-00001.bin has the digest" in reported["reason"]
    assert replaced["digest"] == serving["digest"] == whole[0]["digest"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["current", "small"]


async def test_the_second_start_uses_what_the_first_has_prepared(tmp_path: Path) -> None:
    """examples/inference/container-cache: both starts are measured."""
    few = ("--cache", tmp_path, "--artifacts", "3", "--kib", "256")

    first = await run("cached_server.py", *few, "--crash-once", code=1)
    async with start("cached_server.py", *few, "--crash-once") as second:
        again = await second.wait_for("ready")
        compared = await second.wait_for("compared")
    (tmp_path / "artifact-001.xz").write_bytes(b"torn")
    (tmp_path / "artifact-002.xz").unlink()
    async with start("cached_server.py", *few) as third:
        repaired = await third.wait_for("ready")

    assert (first[0]["prepared"], first[0]["cached"], first[1]["event"]) == (3, 0, "crashing")
    assert compared["first_seconds"] == first[0]["seconds"]
    assert (again["prepared"], again["cached"], again["seconds"]) == (0, 3, compared["second_seconds"])
    assert (repaired["start"], repaired["prepared"], repaired["cached"]) == (3, 2, 1)


@pytest.mark.requirement("examples.lose-nothing")
async def test_no_acknowledged_event_is_lost_by_kills_of_the_writer(tmp_path: Path) -> None:
    """examples/inference/event-log: the chain of digests covers every byte, also across rotations."""
    words = ("--directory", tmp_path, "--event-bytes", "4096", "--segment-mib", "1", "--batch", "16")
    acknowledged = 0
    for _ in range(5):
        async with start("event_log.py", "write", *words, "--events", "100000") as writer:
            opened = await writer.wait_for("opened")
            assert opened["last"] >= acknowledged
            first = await writer.wait_for("acknowledged")
            await writer.wait_for("acknowledged")
            rest = await writer.kill()
            acknowledged = max(event["last"] for event in (first, *rest) if "last" in event)

    done = (await run("event_log.py", "write", *words, "--events", str(acknowledged + 1000)))[-1]
    verified = (await run("event_log.py", "verify", "--directory", tmp_path))[0]

    assert (verified["events"], verified["chain"]) == (done["events"], done["chain"])
    assert verified["events"] == acknowledged + 1000
    assert verified["segments"] > 3


async def test_a_second_writer_waits_until_the_first_has_ended(tmp_path: Path) -> None:
    """Two pods can use one volume on the same node for a moment; the log must have what each acknowledged."""
    words = ("write", "--directory", tmp_path, "--event-bytes", "4096", "--segment-mib", "1", "--batch", "16")
    async with start("event_log.py", *words, "--events", "100000", "--pace", "0.01") as first:
        await first.wait_for("acknowledged")
        async with start("event_log.py", *words, "--events", "200000") as second:
            locked = await second.next_event()
            await first.wait_for("acknowledged")
            rest = await first.kill()
            opened = await second.wait_for("opened")
            code, _ = await second.terminate()
    verified = (await run("event_log.py", "verify", "--directory", tmp_path))[0]

    assert locked["event"] == "locked"
    assert opened["last"] >= max((event["last"] for event in rest if event["event"] == "acknowledged"), default=0)
    assert code == 0
    assert verified["events"] >= opened["last"]


async def test_a_writer_that_waits_for_another_ends_on_sigterm(tmp_path: Path) -> None:
    """Kubernetes documentation, "Termination of Pods": the processes of a deleted pod get SIGTERM."""
    words = ("write", "--directory", tmp_path, "--events", "1", "--stay")
    async with start("event_log.py", *words) as first, start("event_log.py", *words) as second:
        first_events = {first: await first.next_event(), second: await second.next_event()}
        (waiting,) = (program for program, event in first_events.items() if event["event"] == "locked")

        code, _ = await waiting.terminate()

    assert code == 143


@pytest.mark.requirement("examples.lose-nothing")
@pytest.mark.parametrize("harm", ["a segment is deleted", "a byte is changed", "an event is removed"])
async def test_a_log_with_missing_or_changed_events_is_not_verified(tmp_path: Path, harm: str) -> None:
    """Each line has the digest of all lines before it."""
    words = ("--directory", tmp_path, "--event-bytes", "4096", "--segment-mib", "1", "--batch", "16")
    await run("event_log.py", "write", *words, "--events", "1000")
    segment = sorted(tmp_path.glob("*.log"))[1]
    lines = segment.read_bytes().splitlines(keepends=True)
    match harm:
        case "a segment is deleted":
            segment.unlink()
        case "a byte is changed":
            segment.write_bytes(b"".join([*lines[:5], lines[5].replace(b'"answer"', b'"Answer"'), *lines[6:]]))
        case _:
            segment.write_bytes(b"".join([*lines[:5], *lines[6:]]))

    lost = await run("event_log.py", "verify", "--directory", tmp_path, code=1)

    assert lost[0]["event"] == "lost"


@pytest.mark.requirement("examples.lose-nothing")
@pytest.mark.parametrize("harm", ["a bit is flipped", "the last seal is deleted", "the last seal is damaged"])
async def test_a_writer_changes_nothing_in_a_damaged_log(tmp_path: Path, harm: str) -> None:
    """A kill leaves at most one unfinished batch; more data was acknowledged, so a person must check it."""
    words = ("--directory", tmp_path, "--event-bytes", "4096", "--batch", "16", "--segment-mib", "1")
    await run("event_log.py", "write", *words, "--events", "500")
    *_, last = sorted(tmp_path.glob("*.log"))
    seal = max(tmp_path.glob("*.sealed"))
    match harm:
        case "a bit is flipped":
            flip(last, at=10_000)
        case "the last seal is deleted":
            seal.unlink()
        case _:
            seal.write_bytes(b"{")
    before = {path.name: path.read_bytes() for path in tmp_path.glob("events-*")}

    lost = await run("event_log.py", "write", *words, "--events", "1000", code=1)
    found = await run("event_log.py", "verify", *words, code=0 if harm == "the last seal is deleted" else 1)

    assert lost[-1]["event"] == "lost"
    assert found[-1]["event"] in {"lost", "verified"}
    assert {path.name: path.read_bytes() for path in tmp_path.glob("events-*")} == before


async def test_a_log_continues_after_a_torn_line_and_an_unfinished_rotation(tmp_path: Path) -> None:
    """The unfinished line and rotation were never acknowledged."""
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
