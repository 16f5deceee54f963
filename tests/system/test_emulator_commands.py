"""The commands `emulator run`, `env`, `status` and `reset`."""

import asyncio
import json
from contextlib import ExitStack
from pathlib import Path

import pytest

from hyperpod_ebs.emulator import state_directory
from tests.support.emulator_clients import cloud
from tests.support.emulator_commands import run_emulator

pytestmark = pytest.mark.root


async def test_env_prints_the_environment_for_a_shell_or_as_json(short_path: Path) -> None:
    state = str(short_path / "state")
    async with cloud(short_path / "state") as (emulator, _):
        shell = await run_emulator("env", "--state", state)
        document = await run_emulator("env", "--state", state, "--output", "json")

    lines = dict(line.removeprefix("export ").split("=", 1) for line in shell.out.splitlines())
    assert lines == json.loads(document.out) == emulator.env
    assert emulator.env["AWS_REGION"] == "us-west-2"


async def test_status_shows_all_resources_as_tables_or_json(short_path: Path) -> None:
    state = str(short_path / "state")
    async with cloud(short_path / "state") as (_, aws):
        volume = await aws.create_volume()
        cluster, (node,) = await aws.create_cluster()
        await aws("sagemaker", "attach_cluster_node_volume", ClusterArn=cluster, NodeId=node, VolumeId=volume)

        table = await run_emulator("status", "--state", state)
        document = json.loads((await run_emulator("status", "--state", state, "--output", "json")).out)

    assert {"volumes (1)", "snapshots: none", "clusters (1)"} <= set(table.out.split("\n")) | {
        line.strip() for line in table.out.split("\n")
    }
    (attachment,) = document["attachments"]
    assert (attachment["volume"], attachment["instance"], attachment["state"]) == (volume, node, "attached")
    assert attachment["loop"].startswith("/dev/loop")


async def test_without_an_emulator_the_commands_fail_and_say_how_to_start_one(short_path: Path) -> None:
    state = str(short_path / "state")

    for words in (("env",), ("status",)):
        failed = await run_emulator(*words, "--state", state, code=1)

        assert f"emulator run --state {state}" in failed.err
    assert "nothing to delete" in (await run_emulator("reset", "--state", state)).out
    assert not (short_path / "state").exists()


async def test_env_never_prints_the_url_of_an_emulator_that_has_ended(short_path: Path) -> None:
    """Until the next emulator is ready, the old port is closed or belongs to another process."""
    state = short_path / "state"
    async with cloud(state):
        pass

    with ExitStack() as stack:
        await asyncio.to_thread(stack.enter_context, state_directory.lock(state))
        failed = await run_emulator("env", "--state", str(state), code=1)

    assert f"no emulator runs on {state}" in failed.err


async def test_a_taken_port_is_an_error_and_leaves_no_mount(short_path: Path) -> None:
    """A user can fix this, so the command prints no traceback."""
    async with cloud(short_path / "one") as (emulator, _):
        port = emulator.url.rpartition(":")[2]

        failed = await run_emulator("run", "--state", str(short_path / "other"), "--port", port, code=1)

    assert "address already in use" in failed.err
    assert "Traceback" not in failed.err
    assert not (short_path / "other" / "disks").is_mount()


async def test_run_warns_about_an_address_other_than_loopback_and_rejects_a_host_name(short_path: Path) -> None:
    """Clients on the network can use the emulator; a host name can stand for several addresses."""
    state = str(short_path / "state")

    elsewhere = await run_emulator("run", "--state", state, "--host", "192.0.2.1", "--port", "0", code=1)
    name = await run_emulator("run", "--state", state, "--host", "localhost", code=2)

    assert "every client that can connect to 192.0.2.1 and has the access key" in elsewhere.err
    assert "192.0.2.1" in elsewhere.err.splitlines()[-1]
    assert "is not an IP address" in name.out + name.err


async def test_run_refuses_a_file_with_malformed_limits_before_anything_starts(short_path: Path) -> None:
    state, limits = short_path / "state", short_path / "limits.json"
    await asyncio.to_thread(limits.write_text, '{"ec2:AttachVolume": {"burst": 5}}')

    words = ("run", "--state", str(state), "--port", "0", "--throttle")
    malformed = await run_emulator(*words, str(limits), code=1)
    missing = await run_emulator(*words, "documentd", code=1)

    assert "limits.json are unusable: ec2:AttachVolume has an unknown value 'burst'" in malformed.err
    assert "give off, documented or a JSON file" in missing.err
    assert not state.exists()


async def test_reset_deletes_the_state_directory_with_its_disks(short_path: Path) -> None:
    async with cloud(short_path / "state") as (_, aws):
        await aws.create_volume()

    finished = await run_emulator("reset", "--state", str(short_path / "state"))

    assert "is deleted" in finished.out
    assert not (short_path / "state").exists()


async def test_the_profile_chaos_changes_durations_but_not_the_sequence_of_states(short_path: Path) -> None:
    """A volume is creating, available and deleting, for any durations."""
    async with cloud(short_path / "state", profile="chaos", seed=11) as (emulator, aws):
        volume = await aws.create_volume()
        await aws.ec2("delete_volume", VolumeId=volume)

        moments = [moment.state for moment in emulator.world.store.moments.values() if moment.subject == volume]

    assert moments == ["creating", "available", "deleting"]
