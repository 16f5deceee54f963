"""State directories that are damaged, foreign, read-only or full, and emulators without root."""

import asyncio
import json
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, NamedTuple

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from hyperpod_ebs.emulator.disks import loop_devices
from hyperpod_ebs.emulator.state.store import StateRefused
from hyperpod_ebs.kit import command, files
from tests.support.emulator_clients import ZONE, Aws, clients, cloud
from tests.support.emulator_commands import EMULATOR, run_emulator
from tests.support.roles import ALLOW_ALL, TRUST_ACCOUNT, assume, connect, policy, put_role
from tests.support.waiting import wait_until_equal

pytestmark = pytest.mark.root

SMALL: Final = 96 << 20
"""Bytes of the filesystem that the test fills."""

# These capabilities allow reading the program, which root owns.
WITHOUT_ROOT: Final = (
    *("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"),
    *("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search", "--bounding-set=+all"),
)


@asynccontextmanager
async def start_emulator(state: Path, *, user: tuple[str, ...] = ()) -> AsyncGenerator[asyncio.subprocess.Process]:
    """Start an emulator process and wait until it is ready; stop it at the end.

    Args:
        state: Its state directory.
        user: A command that changes the user or a limit first.
    """
    words = ("run", "--state", str(state), "--port", "0")
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*user, *EMULATOR, *words, stdout=pipe, stderr=pipe)
    try:
        assert process.stdout is not None
        async with asyncio.timeout(30):
            assert b"emulator ready" in await process.stdout.readline()
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        async with asyncio.timeout(20):
            await process.communicate()


async def test_only_the_first_start_says_how_to_create_users_besides_the_administrator(short_path: Path) -> None:
    """docs/explanation/embedded-cloud.md, "Who may do what"."""
    async with start_emulator(short_path / "state") as process:
        assert process.stdout is not None
        first = await process.stdout.readline()
    async with start_emulator(short_path / "state") as process:
        assert process.stdout is not None
        process.terminate()
        second = await process.stdout.read()

    assert b"create others with `aws iam create-user`" in first
    assert second == b""


class Damage(NamedTuple):
    """Damage to a state directory, and the error message."""

    id: str
    apply: Callable[[Path], object]
    message: str


def overwrite(name: str, text: str) -> Callable[[Path], object]:
    """A function that replaces a file of the state."""
    return lambda state: (state / name).write_text(text)


def delete_pool(state: Path) -> None:
    """Delete the file that contains the volumes' data."""
    (state / "pool.xfs").unlink()


DAMAGES = [
    Damage("an invalid database", overwrite("state.db", "nonsense" * 1000), "state.db cannot be read"),
    Damage("truncated credentials", overwrite("credentials.json", '{"access_key_id": "A'), "credentials.json cannot"),
    Damage("credentials with other fields", overwrite("credentials.json", '{"key": "A"}'), "credentials.json cannot"),
    Damage("a missing pool", delete_pool, "lacks the data of vol-"),
    Damage("an invalid pool", overwrite("pool.xfs", "nonsense"), "mount exited with"),
]


@pytest.mark.parametrize("damage", DAMAGES, ids=[damage.id for damage in DAMAGES])
async def test_a_damaged_state_is_rejected_with_a_message_and_can_be_reset(short_path: Path, damage: Damage) -> None:
    """The emulator does not guess at damaged state or change it: the user may have a copy to restore."""
    state = short_path / "state"
    async with cloud(state) as (_, aws):
        await aws.create_volume()
    for journal in state.glob("state.db-*"):
        journal.unlink()
    damage.apply(state)

    refused = await run_emulator("run", "--state", str(state), "--port", "0", code=1)
    await run_emulator("reset", "--state", str(state))

    assert damage.message in refused.err
    assert "Traceback" not in refused.err
    assert not state.exists()


async def test_a_state_with_an_unknown_kind_of_record_is_rejected(short_path: Path) -> None:
    """The emulator must not run with a part of its state."""
    state = short_path / "state"
    async with cloud(state):
        pass
    await command.run([sys.executable, "-c", _ADD_MOON, str(state / "state.db")])

    with pytest.raises(StateRefused, match="'Moon'"):
        async with cloud(state):
            pass


_ADD_MOON: Final = """import sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("INSERT INTO record VALUES ('Moon', '1', '{}')")
"""


async def test_sessions_and_trust_policies_of_schema_1_count_as_before(short_path: Path) -> None:
    """VERSIONING.md: a newer version opens an older version's state. Its sessions keep the policies that limit them.

    A policy that this version no longer accepts allows nothing.
    """
    state = short_path / "state"
    async with cloud(state) as (emulator, aws):
        role = put_role(emulator, "work", TRUST_ACCOUNT, allow=ALLOW_ALL)
        credentials = await assume(aws, role, Policy=policy(ALLOW_ALL))
    await command.run([sys.executable, "-c", _TURN_TO_SCHEMA_1, str(state / "state.db")])

    async with cloud(state) as (emulator, aws):
        limited = await connect(emulator, credentials, "ec2")
        await limited.ec2("describe_tags")
        denied, _ = await limited.expect_error("ec2", "describe_volumes")
        refused, _ = await aws.expect_error("sts", "assume_role", RoleArn=role, RoleSessionName="after")

    assert (denied, refused) == ("UnauthorizedOperation", "AccessDenied")


_TURN_TO_SCHEMA_1: Final = """import json, sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("PRAGMA user_version=1")
for kind, id_, body in database.execute("SELECT kind, id, body FROM record").fetchall():
    record = json.loads(body)
    if kind == "Session":
        del record["policy_arns"]
        allow = {"Effect": "Allow", "Action": "ec2:DescribeTags", "Resource": "*"}
        record["policies"] = [json.dumps({"Version": "2012-10-17", "Statement": allow})]
    if kind == "Role":
        record["trust"] = '{"Statement": {"Effect": "Allow", "Principal": "*", "Action": "sts:AssumeRole"}}'
    database.execute("UPDATE record SET body=? WHERE kind=? AND id=?", (json.dumps(record), kind, id_))
"""


@pytest.mark.parametrize("word", ["run", "reset"])
async def test_a_directory_with_other_files_is_rejected_and_not_changed(short_path: Path, word: str) -> None:
    """`reset --state ~` must not delete a home directory."""
    home = short_path / "home"
    home.mkdir(mode=0o755)
    (home / "thesis.tex").write_text("years of work")

    refused = await run_emulator(word, "--state", str(home), code=1)

    assert "thesis.tex" in refused.err
    assert [path.name for path in home.iterdir()] == ["thesis.tex"]
    assert home.stat().st_mode & 0o777 == 0o755


async def test_a_read_only_state_directory_is_an_error_without_a_traceback(short_path: Path) -> None:
    """A user can fix this, so the commands print no traceback."""
    state = short_path / "state"
    async with cloud(state):
        pass
    await command.run(["mount", "--bind", "-o", "ro", str(state), str(state)])
    try:
        refused = [await run_emulator(word, "--state", str(state), code=1) for word in ("run", "reset")]
    finally:
        await command.run(["umount", str(state)])

    for finished in refused:
        assert "Read-only file system" in finished.err
        assert "Traceback" not in finished.err


async def test_a_full_disk_ends_the_emulator_and_a_restart_has_every_acknowledged_change(short_path: Path) -> None:
    """A request whose changes cannot be written gets no answer."""
    disk, state = short_path / "disk", short_path / "disk" / "state"
    disk.mkdir()
    await command.run(["mount", "-t", "tmpfs", "-o", f"size={SMALL}", "none", str(disk)])
    try:
        async with start_emulator(state) as process:
            aws = await asyncio.to_thread(
                clients, json.loads((await run_emulator("env", *state_flag(state), "--output", "json")).out)
            )
            acknowledged = await aws.create_volume()
            await command.run(["dd", "if=/dev/zero", f"of={disk / 'filler'}", "bs=64k"], ok=frozenset({1}))
            with pytest.raises((ClientError, BotoCoreError)):
                await create_volumes_until_an_error(aws)
            async with asyncio.timeout(20):
                _, stderr = await process.communicate()
        (disk / "filler").unlink()
        async with start_emulator(state):
            aws = await asyncio.to_thread(
                clients, json.loads((await run_emulator("env", *state_flag(state), "--output", "json")).out)
            )
            after = await aws.volume_state(acknowledged)
    finally:
        await command.run(["umount", str(disk)])

    assert (process.returncode, after) == (1, "available")
    assert f"{state} cannot be written" in stderr.decode()


async def create_volumes_until_an_error(aws: Aws) -> None:
    """Create one volume after another until a call fails."""
    while True:
        await aws.ec2("create_volume", AvailabilityZone=ZONE, Size=1)


def state_flag(state: Path) -> tuple[str, str]:
    """The flag for a state directory."""
    return "--state", str(state)


async def test_without_root_resources_change_their_states_but_nodes_get_no_devices(short_path: Path) -> None:
    """Some users need only the AWS API; a warning says what is missing."""
    short_path.chmod(0o777)
    state = short_path / "state"
    async with start_emulator(state, user=WITHOUT_ROOT) as process:
        env = json.loads((await run_emulator("env", *state_flag(state), "--output", "json", user=WITHOUT_ROOT)).out)
        aws = await asyncio.to_thread(clients, env)
        volume = await aws.create_volume()
        cluster, (node,) = await aws.create_cluster()
        on_node = {"ClusterArn": cluster, "NodeId": node, "VolumeId": volume}
        attachment = await aws("sagemaker", "attach_cluster_node_volume", **on_node)
        snapshot = (await aws.ec2("create_snapshot", VolumeId=volume))["SnapshotId"]
        restored = await aws.create_volume(SnapshotId=snapshot)
        await aws("sagemaker", "detach_cluster_node_volume", **on_node)
        await wait_until_equal(lambda: aws.volume_state(restored), "available")
        assert process.stderr is not None
        warnings = (await process.stderr.readline()) + (await process.stderr.readline())
    reset = await run_emulator("reset", *state_flag(state), user=WITHOUT_ROOT)

    assert attachment["Status"] == "attached"
    assert b"nodes get no devices" in warnings
    assert "is deleted" in reset.out


class StateDirectoryLife(NamedTuple):
    """What a state directory showed during an attachment, and how its resets ended."""

    mount: Path
    """A mount inside the directory, present at the first reset only."""
    devices: list[str]
    """The names in the instance's device directory."""
    backing_files: list[str]
    volume: str
    refused: str
    """The first reset's stderr."""
    reset: str
    """The second reset's output."""


async def attach_and_reset(state: Path) -> StateDirectoryLife:
    """Attach a volume of an emulator with this state directory, then reset it with and without a mount inside."""
    async with cloud(state) as (emulator, aws):
        volume, instance = await aws.create_volume(), await aws.run_instance()
        await aws.ec2("attach_volume", VolumeId=volume, InstanceId=instance, Device="/dev/xvdba")
        await wait_until_equal(lambda: aws.volume_state(volume), "in-use attached")
        devices = sorted(path.name for path in emulator.device_directory(instance).iterdir())
        bound = sorted(file.name for _, file in await files.off_loop(lambda: list(loop_devices.find_in(state))))
    inside = state / "nodes" / "mnt"
    inside.mkdir(parents=True)
    await command.run(["mount", "-t", "tmpfs", "none", str(inside)])
    try:
        refused = await run_emulator("reset", *state_flag(state), code=1)
    finally:
        await command.run(["umount", str(inside)])
    reset = await run_emulator("reset", *state_flag(state))
    return StateDirectoryLife(inside, devices, bound, volume, refused.err, reset.out)


async def test_a_state_path_may_contain_spaces_backslashes_and_accents(short_path: Path) -> None:
    """proc(5): mountinfo escapes such characters; an emulator that missed a mount would delete its files."""
    life = await attach_and_reset(short_path / "café au lait\\1")

    assert life.devices == ["disk", "nvme1n1", "xvdba"]
    assert f"{life.mount} is mounted" in life.refused
    assert "is deleted" in life.reset


async def test_a_state_path_with_a_carriage_return_leaves_no_loop_device(short_path: Path) -> None:
    """The kernel writes a carriage return as it is, in the mount table and in sysfs."""
    state = short_path / "a\rb\x85c"

    life = await attach_and_reset(state)

    assert life.devices == ["disk", "nvme1n1", "xvdba"]
    assert life.backing_files == ["pool.xfs", f"{life.volume}.img"]
    assert "is mounted" in life.refused
    assert "is deleted" in life.reset
    assert not await files.off_loop(lambda: list(loop_devices.find_in(state)))


async def test_help_env_and_status_do_not_import_the_server_or_the_sdk(short_path: Path) -> None:
    """Users run `env` in every shell, so it must be quick."""
    program = (
        "import sys\n"
        "from hyperpod_ebs.emulator.commands import app\n"
        "code = app(sys.argv[1:], result_action='return_value')\n"
        "print(*sorted({'aiohttp', 'botocore', 'uvloop'} & set(sys.modules)))"
    )
    async with cloud(short_path / "state"):
        loaded = [
            (await command.run([sys.executable, "-c", program, *words])).out.splitlines()[-1]
            for words in (
                ["--help"],
                ["env", *state_flag(short_path / "state")],
                ["status", *state_flag(short_path / "state")],
            )
        ]

    assert loaded == ["", "", ""]


async def test_more_machines_have_metadata_than_the_usual_limit_of_descriptors_allows(short_path: Path) -> None:
    """getrlimit(2): a process may raise its soft limit up to the hard limit."""
    state = short_path / "state"
    async with start_emulator(state, user=("prlimit", "--nofile=100:4096")):
        shown = await run_emulator("env", "--state", str(state), "--output", "json")
        aws = await asyncio.to_thread(clients, json.loads(shown.out))
        await aws.ec2("run_instances", MinCount=150, MaxCount=150, ImageId="ami-1")
        status = json.loads((await run_emulator("status", "--state", str(state), "--output", "json")).out)

    assert status["problems"] == []
    assert len({row["metadata"] for row in status["instances"]} - {None}) == 150
