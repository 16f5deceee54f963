"""The benchmark of the controller, run quickly: its results are complete, with and without a peer."""

import asyncio
import json
import shlex
import signal
import sys
from pathlib import Path
from typing import Final

import pytest

from hyperpod_ebs.sandbox import janitor

pytestmark = pytest.mark.root

BENCH: Final = (sys.executable, "-m", "bench.controller", "--quick")
REPOSITORY: Final = Path(__file__).parents[2]


async def start_bench(*words: str) -> asyncio.subprocess.Process:
    """Start the benchmark."""
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(*BENCH, *words, stdout=pipe, stderr=pipe, cwd=REPOSITORY)


async def run_bench(*words: str) -> str:
    """Run the benchmark, which must succeed; what it prints."""
    process = await start_bench(*words)
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode()


def write_peer(directory: Path) -> Path:
    """A peer that is our own controller, behind a program that stays its parent."""
    peer = directory / "peer"
    peer.write_text(f'#!/bin/sh\ncd / && {shlex.quote(sys.executable)} -m hyperpod_ebs.cli "$@"\n')
    peer.chmod(0o755)
    return peer


def assert_nothing_is_left(directory: Path) -> None:
    """Check that no loop device, mount or file of the benchmark is left in the directory for temporary files."""
    assert not janitor.loops_below(directory)
    assert not janitor.mounts_below(directory)
    assert not list(directory.glob("hp-bench-*"))


async def test_the_benchmark_measures_ours_and_a_peer_and_leaves_nothing_behind(
    short_path: Path, tmp_path: Path
) -> None:
    files = ("--json", str(tmp_path / "bench.json"), "--directory", str(tmp_path / "lines"))
    words = ("--rows", "burst", "--peer", str(write_peer(tmp_path)), *files)

    printed = await run_bench(*words)

    document = json.loads((tmp_path / "bench.json").read_text())
    assert document["problem"] is None
    for row in document["rows"]:
        assert isinstance(row["ours"], float | int), row
        assert isinstance(row["peer"], float | int), row
        assert row["text"] in printed
    for column in ("unit", "ours", "peer", "limit", "ours / limit", "ours / peer"):
        assert column in printed
    assert {"processors", "load", "busy", "is_quiet"} == set(document["machine"])
    measured = [(entry["measurement"], entry["contender"]) for entry in document["details"]]
    assert measured == [("burst", "ours"), ("burst", "peer")]
    burst = document["details"][0]["details"]["burst"]
    assert burst["calls"]["ec2:CreateVolume"] >= document["scale"]["burst"]
    assert "attached volumes" in (tmp_path / "lines" / "ours-burst.txt").read_text()
    assert (tmp_path / "lines" / "peer-burst.svg").read_text().startswith("<svg")
    assert "# HELP" in (tmp_path / "lines" / "ours-burst-metrics.txt").read_text()
    assert_nothing_is_left(short_path)


async def test_the_benchmark_without_a_peer_compares_ours_with_the_limits_alone(short_path: Path) -> None:
    printed = await run_bench("--rows", "lives,rpcs,starts,simulation", "--output", "json")

    rows = {row["id"]: row for row in json.loads(printed)["rows"]}
    assert set(rows) >= {
        "waste_mean_1",
        "waste_p95_1",
        "calls_1",
        "cpu_1",
        "rpc_plugin_info",
        "start",
        "simulated_calls",
    }
    assert rows["calls_1"]["peer"] is None
    assert rows["calls_1"]["ours_to_limit"] == rows["calls_1"]["ours"] / rows["calls_1"]["limit"]
    assert_nothing_is_left(short_path)


async def test_ctrl_c_ends_the_benchmark_with_what_it_has_measured(short_path: Path) -> None:
    process = await start_bench("--rows", "starts,lives", "--output", "json")
    assert process.stderr is not None
    async with asyncio.timeout(60):
        while b", ours" not in await process.stderr.readline():
            pass
        process.send_signal(signal.SIGINT)
        out, err = await process.communicate()

    assert process.returncode == 130
    assert "stopped by Ctrl-C" in json.loads(out)["problem"]
    assert b"stopped by Ctrl-C" in err
    assert_nothing_is_left(short_path)
