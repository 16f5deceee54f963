"""`emulator run`, `env`, `status` and `reset`, as a user types them."""

import asyncio
import json
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from hyperpod_ebs.emulator import state_directory
from hyperpod_ebs.kit import command
from tests.support.emulator_clients import cloud

pytestmark = pytest.mark.root

OURS = (sys.executable, "-m", "hyperpod_ebs.emulator.commands")


async def typed(*words: str, code: int = 0) -> command.Finished:
    """What a command leaves."""
    return await command.run([*OURS, *words], ok=frozenset({code}))


async def test_env_prints_what_a_shell_or_a_program_needs(short_path: Path) -> None:
    """Ours: one line for eval, or JSON."""
    state = str(short_path / "state")
    async with cloud(short_path / "state") as (emulator, _):
        shell = await typed("env", "--state", state)
        document = await typed("env", "--state", state, "--output", "json")

    lines = dict(line.removeprefix("export ").split("=", 1) for line in shell.out.splitlines())
    assert lines == json.loads(document.out) == emulator.env
    assert emulator.env["AWS_REGION"] == "us-west-2"


async def test_status_shows_what_there_is(short_path: Path) -> None:
    """Ours: volumes, snapshots, attachments with their loop devices, instances, clusters."""
    state = str(short_path / "state")
    async with cloud(short_path / "state") as (_, aws):
        volume = await aws.create_volume()
        cluster, (node,) = await aws.create_cluster()
        await aws("sagemaker", "attach_cluster_node_volume", ClusterArn=cluster, NodeId=node, VolumeId=volume)

        table = await typed("status", "--state", state)
        document = json.loads((await typed("status", "--state", state, "--output", "json")).out)

    assert {"volumes (1)", "snapshots: none", "clusters (1)"} <= set(table.out.split("\n")) | {
        line.strip() for line in table.out.split("\n")
    }
    (attachment,) = document["attachments"]
    assert (attachment["volume"], attachment["instance"], attachment["state"]) == (volume, node, "attached")
    assert attachment["loop"].startswith("/dev/loop")


async def test_without_an_emulator_the_commands_say_how_to_start_one(short_path: Path) -> None:
    """Ours: an exit code that scripts can trust, and the next step."""
    state = str(short_path / "state")

    for words in (("env",), ("status",)):
        failed = await typed(*words, "--state", state, code=1)

        assert f"emulator run --state {state}" in failed.err
    assert "nothing to delete" in (await typed("reset", "--state", state)).out
    assert not (short_path / "state").exists()


async def test_while_an_emulator_starts_nobody_is_sent_to_where_the_one_before_it_was(short_path: Path) -> None:
    """Ours: clients that were started beside it would find nobody there, or somebody else."""
    state = short_path / "state"
    async with cloud(state):
        pass

    with ExitStack() as stack:
        await asyncio.to_thread(stack.enter_context, state_directory.lock(state))
        failed = await typed("env", "--state", str(state), code=1)

    assert f"no emulator runs on {state}" in failed.err


async def test_a_port_that_is_taken_is_said_and_nothing_is_left(short_path: Path) -> None:
    """Ours: no traceback for what a user can mend."""
    async with cloud(short_path / "one") as (emulator, _):
        port = emulator.url.rpartition(":")[2]

        failed = await typed("run", "--state", str(short_path / "other"), "--port", port, code=1)

    assert "address already in use" in failed.err
    assert "Traceback" not in failed.err
    assert not (short_path / "other" / "disks").is_mount()


async def test_another_address_than_loopback_is_warned_of(short_path: Path) -> None:
    """Ours: whoever opens it to a network is told what that means; what is no address is refused at once."""
    state = str(short_path / "state")

    elsewhere = await typed("run", "--state", state, "--host", "192.0.2.1", "--port", "0", code=1)
    name = await typed("run", "--state", state, "--host", "localhost", code=2)

    assert "every client that can connect to 192.0.2.1 and has the access key" in elsewhere.err
    assert "192.0.2.1" in elsewhere.err.splitlines()[-1]
    assert "is not an IP address" in name.out + name.err


async def test_reset_deletes_a_state_with_its_disks(short_path: Path) -> None:
    """Ours: nothing of it is left on the machine."""
    async with cloud(short_path / "state") as (_, aws):
        await aws.create_volume()

    said = await typed("reset", "--state", str(short_path / "state"))

    assert "is deleted" in said.out
    assert not (short_path / "state").exists()


async def test_a_life_under_chaos_ends_well(short_path: Path) -> None:
    """Ours: wide times and any order change when things happen, not what happens."""
    async with cloud(short_path / "state", profile="chaos", seed=11) as (emulator, aws):
        volume = await aws.create_volume()
        await aws.ec2("delete_volume", VolumeId=volume)

        moments = [one.state for one in emulator.world.store.moments.values() if one.subject == volume]

    assert moments == ["creating", "available", "deleting"]
