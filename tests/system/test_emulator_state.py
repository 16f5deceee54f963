"""State directories that are not as they should be: said in a sentence, and nothing of somebody else's touched."""

import asyncio
import json
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, NamedTuple

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from hyperpod_ebs.emulator.state.store import StateRefused
from hyperpod_ebs.kit import command
from tests.support.emulator_clients import ZONE, Aws, clients, cloud
from tests.support.waiting import wait_until_equal

pytestmark = pytest.mark.root

OURS: Final = (sys.executable, "-m", "hyperpod_ebs.emulator.commands")
SMALL: Final = 96 << 20
"""Bytes of the file system that is filled."""

# Root, by its capabilities, may still read where the program is.
NOBODY: Final = (
    *("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"),
    *("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search", "--bounding-set=+all"),
)


async def typed(*words: str, code: int = 0, as_: tuple[str, ...] = ()) -> command.Finished:
    """What a command leaves."""
    return await command.run([*as_, *OURS, *words], ok=frozenset({code}))


@asynccontextmanager
async def serving(state: Path, *, as_: tuple[str, ...] = ()) -> AsyncGenerator[asyncio.subprocess.Process]:
    """An emulator as a process, once it answers."""
    words = ("run", "--state", str(state), "--port", "0")
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*as_, *OURS, *words, stdout=pipe, stderr=pipe)
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


class Damage(NamedTuple):
    """Something done to a state directory, and what is said of it."""

    id: str
    to: Callable[[Path], object]
    said: str


def overwritten(name: str, text: str) -> Callable[[Path], object]:
    """What replaces a file of the state."""
    return lambda state: (state / name).write_text(text)


def without_disks(state: Path) -> None:
    """Lose the pool."""
    (state / "pool.xfs").unlink()


DAMAGES = [
    Damage("a database that is none", overwritten("state.db", "nonsense" * 1000), "state.db cannot be read"),
    Damage("credentials cut short", overwritten("credentials.json", '{"access_key_id": "A'), "credentials.json cannot"),
    Damage("credentials of other fields", overwritten("credentials.json", '{"key": "A"}'), "credentials.json cannot"),
    Damage("a pool that is gone", without_disks, "lacks the data of vol-"),
    Damage("a pool that is none", overwritten("pool.xfs", "nonsense"), "mount exited with"),
]


@pytest.mark.parametrize("damage", DAMAGES, ids=[damage.id for damage in DAMAGES])
async def test_a_damaged_state_is_refused_in_a_sentence_and_can_be_reset(short_path: Path, damage: Damage) -> None:
    """Ours: nothing is guessed, nothing is lost that a copy could mend, and the next step is said."""
    state = short_path / "state"
    async with cloud(state) as (_, aws):
        await aws.create_volume()
    for journal in state.glob("state.db-*"):
        journal.unlink()
    damage.to(state)

    refused = await typed("run", "--state", str(state), "--port", "0", code=1)
    await typed("reset", "--state", str(state))

    assert damage.said in refused.err
    assert "Traceback" not in refused.err
    assert not state.exists()


async def test_a_row_of_a_kind_that_nobody_knows_is_refused(short_path: Path) -> None:
    """Ours: a program that does not understand all of a state does not go on with a part."""
    state = short_path / "state"
    async with cloud(state):
        pass
    await command.run([sys.executable, "-c", _MOON, str(state / "state.db")])

    with pytest.raises(StateRefused, match="'Moon'"):
        async with cloud(state):
            pass


_MOON: Final = """import sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("INSERT INTO record VALUES ('Moon', '1', '{}')")
"""


@pytest.mark.parametrize("word", ["run", "reset"])
async def test_a_directory_of_another_use_is_left_alone(short_path: Path, word: str) -> None:
    """Ours: `reset --state ~` must not delete a home."""
    home = short_path / "home"
    home.mkdir(mode=0o755)
    (home / "thesis.tex").write_text("years of work")

    refused = await typed(word, "--state", str(home), code=1)

    assert "thesis.tex" in refused.err
    assert [path.name for path in home.iterdir()] == ["thesis.tex"]
    assert home.stat().st_mode & 0o777 == 0o755


async def test_a_state_that_cannot_be_written_to_is_said(short_path: Path) -> None:
    """Ours: no traceback for what a user can mend."""
    state = short_path / "state"
    async with cloud(state):
        pass
    await command.run(["mount", "--bind", "-o", "ro", str(state), str(state)])
    try:
        refused = [await typed(word, "--state", str(state), code=1) for word in ("run", "reset")]
    finally:
        await command.run(["umount", str(state)])

    for one in refused:
        assert "Read-only file system" in one.err
        assert "Traceback" not in one.err


async def test_when_the_disk_is_full_it_ends_and_goes_on_from_its_last_answer(short_path: Path) -> None:
    """Ours: an answer that cannot be made durable is not given."""
    disk, state = short_path / "disk", short_path / "disk" / "state"
    disk.mkdir()
    await command.run(["mount", "-t", "tmpfs", "-o", f"size={SMALL}", "none", str(disk)])
    try:
        async with serving(state) as process:
            aws = await asyncio.to_thread(clients, json.loads((await typed("env", *at(state), "--output", "json")).out))
            kept = await aws.create_volume()
            await command.run(["dd", "if=/dev/zero", f"of={disk / 'filler'}", "bs=64k"], ok=frozenset({1}))
            with pytest.raises((ClientError, BotoCoreError)):
                await volumes_without_end(aws)
            async with asyncio.timeout(20):
                _, said = await process.communicate()
        (disk / "filler").unlink()
        async with serving(state):
            aws = await asyncio.to_thread(clients, json.loads((await typed("env", *at(state), "--output", "json")).out))
            after = await aws.volume_state(kept)
    finally:
        await command.run(["umount", str(disk)])

    assert (process.returncode, after) == (1, "available")
    assert f"{state} cannot be written" in said.decode()


async def volumes_without_end(aws: Aws) -> None:
    """Ask for one volume after another."""
    while True:
        await aws.ec2("create_volume", AvailabilityZone=ZONE, Size=1)


def at(state: Path) -> tuple[str, str]:
    """The flag that names a state directory."""
    return "--state", str(state)


async def test_without_root_everything_has_its_states_but_no_devices(short_path: Path) -> None:
    """Ours: an emulator for who only wants the API; what is missing is said."""
    short_path.chmod(0o777)
    state = short_path / "state"
    async with serving(state, as_=NOBODY) as process:
        env = json.loads((await typed("env", *at(state), "--output", "json", as_=NOBODY)).out)
        aws = await asyncio.to_thread(clients, env)
        volume = await aws.create_volume()
        cluster, (node,) = await aws.create_cluster()
        on_node = {"ClusterArn": cluster, "NodeId": node, "VolumeId": volume}
        made = await aws("sagemaker", "attach_cluster_node_volume", **on_node)
        snapshot = (await aws.ec2("create_snapshot", VolumeId=volume))["SnapshotId"]
        restored = await aws.create_volume(SnapshotId=snapshot)
        await aws("sagemaker", "detach_cluster_node_volume", **on_node)
        await wait_until_equal(lambda: aws.volume_state(restored), "available")
        assert process.stderr is not None
        said = (await process.stderr.readline()) + (await process.stderr.readline())
    gone = await typed("reset", *at(state), as_=NOBODY)

    assert made["Status"] == "attached"
    assert b"nodes get no devices" in said
    assert "is deleted" in gone.out


async def test_a_path_of_blanks_and_accents_is_a_path_like_any_other(short_path: Path) -> None:
    """Ours: what the kernel escapes is read back, so that what is mounted is seen and kept."""
    state = short_path / "café au lait\\1"
    async with cloud(state) as (emulator, aws):
        volume, instance = await aws.create_volume(), await aws.run_instance()
        await aws.ec2("attach_volume", VolumeId=volume, InstanceId=instance, Device="/dev/xvdba")
        await wait_until_equal(lambda: aws.volume_state(volume), "in-use attached")
        devices = sorted(path.name for path in emulator.device_directory(instance).iterdir())
    inside = state / "nodes" / "mnt"
    inside.mkdir(parents=True)
    await command.run(["mount", "-t", "tmpfs", "none", str(inside)])
    try:
        kept = await typed("reset", *at(state), code=1)
    finally:
        await command.run(["umount", str(inside)])
    gone = await typed("reset", *at(state))

    assert devices == ["disk", "nvme1n1", "xvdba"]
    assert f"{inside} is mounted" in kept.err
    assert "is deleted" in gone.out


async def test_env_and_help_answer_without_the_server_s_weight(short_path: Path) -> None:
    """Ours: what is typed in every shell is quick; neither aiohttp nor the SDK is loaded for it."""
    program = (
        "import sys\n"
        "from hyperpod_ebs.emulator.commands import app\n"
        "code = app(sys.argv[1:], result_action='return_value')\n"
        "print(*sorted({'aiohttp', 'botocore', 'uvloop'} & set(sys.modules)))"
    )
    async with cloud(short_path / "state"):
        loaded = [
            (await command.run([sys.executable, "-c", program, *words])).out.splitlines()[-1]
            for words in (["--help"], ["env", *at(short_path / "state")], ["status", *at(short_path / "state")])
        ]

    assert loaded == ["", "", ""]
