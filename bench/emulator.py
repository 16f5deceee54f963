"""Measure the emulator with 10,000 volumes and 1,000 roles, and moto's server with the same beside it.

Each server is a process of its own and gets signed requests over HTTP. The caller has a session of a role with AWS's
policy for the driver, so the emulator decides about each call; moto's server allows everything. CPU times are those
that the kernel counts for the process: they depend little on what else the machine does, unlike the other times. moto's
server keeps nothing on disk and has no devices, so some measures are the emulator's alone.

    scripts/setup.sh python moto
    sudo .venv/bin/python -m bench.emulator
"""

import argparse
import asyncio
import functools
import json
import random
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeVar

import aiohttp
from botocore.credentials import Credentials

from bench.form_client import FormClient, element
from bench.process_usage import cpu_seconds, memory_mib
from bench.server_process import Call, ServerProcess
from bench.snapshots_under_writes import SIZE_GIB, SNAPSHOTS, measure_snapshots
from hyperpod_ebs.demo.emulator_client import wait_for_environment
from hyperpod_ebs.emulator.disks import loop_devices
from hyperpod_ebs.emulator.identity import aws_managed
from hyperpod_ebs.sandbox.processes import COMMAND
from hyperpod_ebs.sandbox.sandbox import Sandbox

MOTO: Final = Path(__file__).resolve().parent.parent / ".tools" / "moto" / "bin" / "moto_server"

MANY: Final = 500
"""Volumes in one call."""

_AT_ONCE: Final = 16
"""Calls at the same time while volumes are created."""

_ACCOUNT: Final = "123456789012"
_DRIVER_POLICY: Final = "arn:aws:iam::aws:policy/AmazonEBSCSIDriverPolicyV2"
_TRUST: Final = {"Effect": "Allow", "Principal": {"AWS": _ACCOUNT}, "Action": "sts:AssumeRole"}
_TAGS: Final = {"ebs.csi.aws.com/cluster": "true", "CSIVolumeName": "pvc-0f5b1d2c-9c1b-4f5e-8a41-2f4f1b9f3a77"}
_VOLUME: Final = {
    "AvailabilityZone": "us-west-2a",
    "Size": 10,
    "VolumeType": "gp3",
    "TagSpecification__1__ResourceType": "volume",
    **{f"TagSpecification__1__Tag__{number}__Key": key for number, key in enumerate(_TAGS, 1)},
    **{f"TagSpecification__1__Tag__{number}__Value": value for number, value in enumerate(_TAGS.values(), 1)},
}
"""A volume as the driver creates it."""


@dataclass(frozen=True, slots=True)
class Measure:
    """A row of the table."""

    title: str
    unit: str
    limit: float | None = None


START: Final = Measure("start without state, to the first answer", "s")
CREATE: Final = Measure("CPU of CreateVolume", "ms")
DESCRIBE: Final = Measure("CPU of DescribeVolumes of 1", "ms", 0.5)
DESCRIBE_MANY: Final = Measure(f"CPU of DescribeVolumes of {MANY}", "ms", 20)
MEMORY: Final = Measure("resident memory", "MiB", 160)
RESTART: Final = Measure("start with this state, to the first answer", "s", 2)
RESTART_CPU: Final = Measure("CPU of this start", "s")
RESTART_MEMORY: Final = Measure("resident memory after this start", "MiB", 160)
SNAPSHOT: Final = Measure(f"CreateSnapshot of {SIZE_GIB} GiB under writes, slowest of {SNAPSHOTS}", "ms", 50)
WRITE: Final = Measure("slowest write during these snapshots", "ms")
MEASURES: Final = (
    *(START, CREATE, DESCRIBE, DESCRIBE_MANY, MEMORY),
    *(RESTART, RESTART_CPU, RESTART_MEMORY, SNAPSHOT, WRITE),
)

Results = Mapping[Measure, float]
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """The resources that each server has."""

    volumes: int
    roles: int


async def measure_server(server: ServerProcess, administrator: FormClient, load: Load) -> tuple[Results, Call]:
    """Create the volumes and the roles, and measure calls; also return the call that describes one volume."""
    begin = cpu_seconds(server.pid)
    ids = await create_volumes(administrator, load.volumes)
    create = 1000 * (cpu_seconds(server.pid) - begin) / load.volumes
    session = await create_roles(administrator, load.roles)
    chosen = random.Random(1)  # noqa: S311 - must be repeatable

    async def describe(count: int) -> None:
        named = {f"VolumeId__{number}": id_ for number, id_ in enumerate(chosen.sample(ids, count), 1)}
        await session.call("ec2", "DescribeVolumes", **named)

    describe_one = functools.partial(describe, 1)
    results = {
        CREATE: create,
        DESCRIBE: await server.cpu_milliseconds(describe_one),
        DESCRIBE_MANY: await server.cpu_milliseconds(functools.partial(describe, MANY)),
        MEMORY: memory_mib(server.pid, "VmRSS"),
    }
    return results, describe_one


async def create_volumes(client: FormClient, count: int) -> list[str]:
    """Create volumes as the driver does; their ids."""

    async def create(_: int) -> str:
        return element(await client.call("ec2", "CreateVolume", **_VOLUME), "volumeId")

    return await run_in_parallel(create, count)


async def create_roles(client: FormClient, count: int) -> FormClient:
    """Create roles with the driver's policy and one of their own, and make a call with a session of each.

    Returns:
        A client with the session of one of the roles.

    Raises:
        LookupError: The emulator does not have the driver's policy.
    """
    if (driver := aws_managed.find(_DRIVER_POLICY, "aws")) is None:
        raise LookupError(f"{_DRIVER_POLICY} is unknown")

    async def create(number: int) -> FormClient:
        name = f"role-{number}"
        own = policy({"Sid": f"Role{number}", "Effect": "Allow", "Action": "ec2:ModifyVolume", "Resource": "*"})
        await client.call("iam", "CreateRole", RoleName=name, AssumeRolePolicyDocument=policy(_TRUST))
        for title, document in (("driver", driver.document), ("own", own)):
            await client.call("iam", "PutRolePolicy", RoleName=name, PolicyName=title, PolicyDocument=document)
        arn = f"arn:aws:iam::{_ACCOUNT}:role/{name}"
        answer = await client.call("sts", "AssumeRole", RoleArn=arn, RoleSessionName="bench")
        keys = Credentials(*(element(answer, name) for name in ("AccessKeyId", "SecretAccessKey", "SessionToken")))
        session = replace(client, credentials=keys)
        await session.call("sts", "GetCallerIdentity")
        return session

    sessions = [await create(number) for number in range(count)]  # moto's server fails if some are created at once
    return sessions[-1]


async def run_in_parallel(make: Callable[[int], Awaitable[T]], count: int) -> list[T]:
    """Call `make` with each number below `count`, some at the same time; the results in order."""
    limit = asyncio.Semaphore(_AT_ONCE)

    async def make_one(number: int) -> T:
        async with limit:
            return await make(number)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(make_one(number)) for number in range(count)]
    return [task.result() for task in tasks]


def policy(statement: Mapping[str, object]) -> str:
    """A policy document."""
    return json.dumps({"Version": "2012-10-17", "Statement": statement})


async def measure_emulator(sandbox: Sandbox, http: aiohttp.ClientSession, load: Load) -> Results:
    """Measure the emulator; the snapshots only where it can give nodes devices."""
    state, port = sandbox.path / "cloud", free_port()
    words = ("emulator", "run", f"--state={state}", f"--port={port}", "--snapshot-rate=off")
    server = ServerProcess(sandbox=sandbox, name="emulator", argv=(*COMMAND, *words))
    url = f"http://127.0.0.1:{port}"
    start = await server.start(lambda: open_page(http, url))
    env = await wait_for_environment(sandbox, state)
    keys = Credentials(env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"])
    administrator = FormClient(http, url, keys)
    results, describe_one = await measure_server(server, administrator, load)
    await server.stop()
    restart = await server.start(describe_one)
    results = {
        START: start,
        **results,
        RESTART: restart,
        RESTART_CPU: cpu_seconds(server.pid),
        RESTART_MEMORY: memory_mib(server.pid, "VmRSS"),
    }
    if loop_devices.usable():
        slowest = await measure_snapshots(administrator, state)
        results |= {SNAPSHOT: slowest.answer, WRITE: slowest.write}
    await server.stop()
    return results


async def measure_moto(sandbox: Sandbox, http: aiohttp.ClientSession, load: Load) -> Results:
    """Measure moto's server."""
    port = free_port()
    argv = (str(MOTO), "--host=127.0.0.1", f"--port={port}")
    server = ServerProcess(sandbox=sandbox, name="moto", argv=argv)
    url = f"http://127.0.0.1:{port}"
    start = await server.start(lambda: open_page(http, url))
    administrator = FormClient(http, url, Credentials("testing", "testing"))
    results, _ = await measure_server(server, administrator, load)
    await server.stop()
    return {START: start, **results}


async def open_page(http: aiohttp.ClientSession, url: str) -> None:
    """Make a request that every server answers somehow."""
    async with http.get(url):
        pass


def free_port() -> int:
    """A port on which nothing listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


async def main() -> int:
    """Measure both servers, print the results, and exit with 1 if the emulator exceeds a limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--volumes", type=int, default=10_000, help=f"volumes that each server has, at least {MANY}")
    parser.add_argument("--roles", type=int, default=1_000, help="roles that each server has")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    load = Load(volumes=options.volumes, roles=options.roles)
    async with Sandbox.open("hp-bench") as sandbox, aiohttp.ClientSession() as http:
        emulator = await measure_emulator(sandbox, http, load)
        moto = await measure_moto(sandbox, http, load) if MOTO.exists() else {}
    rows = [row(measure, emulator.get(measure), moto.get(measure)) for measure in MEASURES]
    sys.stdout.write(json.dumps(rows, indent=2) + "\n" if options.json else table(rows))
    return int(any(value > each.limit for each, value in emulator.items() if each.limit is not None))


Row = Mapping[str, str | float | None]


def row(measure: Measure, emulator: float | None, moto: float | None) -> Row:
    """The results of one measure, and how many times the emulator's moto's is."""
    ratio = moto / emulator if emulator and moto else None
    return {
        "measure": measure.title,
        "unit": measure.unit,
        "limit": measure.limit,
        "emulator": emulator,
        "moto": moto,
        "ratio": ratio,
    }


def table(rows: Sequence[Row]) -> str:
    """The rows as a table; a dash stands for a measure that was not made."""
    columns = ("limit", "emulator", "moto", "ratio")
    width = max(len(each.title) + len(each.unit) for each in MEASURES) + len(", ")
    lines = [" " * width + "".join(f"{name:>10}" for name in columns)]
    for each in rows:
        numbers = ["-" if each[name] is None else f"{each[name]:.3g}" for name in columns]
        title = f"{each['measure']}, {each['unit']}"
        lines.append(f"{title:{width}}" + "".join(f"{number:>10}" for number in numbers))
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
