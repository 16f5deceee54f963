"""Growing a claim from inside a pod: how much, through the API, and while a log is written on a disk that is full."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import claim
import pytest
from aiohttp import web

from hyperpod_ebs.kit import command
from tests.support.example_programs import run, running

GIB = 2**30


class Case(NamedTuple):
    """A claim's size as Kubernetes writes it, and its bytes."""

    id: str
    text: str
    bytes: int


CASES = [
    Case("binary", "1Gi", GIB),
    Case("binary and broken", "1.5Gi", GIB * 3 // 2),
    Case("decimal", "500M", 500_000_000),
    Case("plain", "1073741824", GIB),
]


@pytest.mark.parametrize("case", CASES, ids=[case.id for case in CASES])
def test_a_quantity_is_read_as_kubernetes_means_it(case: Case) -> None:
    """Kubernetes: resource.Quantity."""
    assert claim.quantity(case.text) == case.bytes


def test_a_claim_asks_for_whole_gib() -> None:
    """EBS: sizes are GiB, and a claim that says otherwise is rounded up anyway."""
    assert claim.wanted_gib(GIB, 1) == 2
    assert claim.wanted_gib(GIB, GIB) == 2
    assert claim.wanted_gib(3 * GIB, GIB + 1) == 5


@dataclass
class Api:
    """As much of the Kubernetes API as the program asks, and a volume that grows as its claim does."""

    volume: Path
    size: str = "1Gi"
    refusal: str = ""
    stuck: bool = False
    """Whether the claim has 1 GiB whatever it asks for."""

    lost: bool = False
    """Whether the answer to the next growth is lost, which comes to the volume only when the claim is asked about."""

    patches: list[object] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)
    looks: int = 0
    _looked: asyncio.Condition = field(default_factory=asyncio.Condition)

    @asynccontextmanager
    async def serving(self) -> AsyncGenerator[str]:
        """Its address."""
        application = web.Application()
        path = "/api/v1/namespaces/example/persistentvolumeclaims/log"
        application.add_routes([web.get(path, self.get), web.patch(path, self.patch)])
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()

    async def get(self, request: web.Request) -> web.Response:
        """The claim."""
        self.seen.add(request.headers["Authorization"])
        async with self._looked:
            self.looks += 1
            self._looked.notify_all()
        has = "1Gi" if self.stuck or self.lost else self.size
        if self.lost and self.patches:
            self.lost = False
            await self._grow()
        spec = {"resources": {"requests": {"storage": self.size}}}
        return web.json_response({"spec": spec, "status": {"capacity": {"storage": has}}})

    async def looked_at_again(self, times: int) -> None:
        """Come back when the claim was asked for so many times more."""
        until = self.looks + times
        async with asyncio.timeout(20), self._looked:
            await self._looked.wait_for(lambda: self.looks >= until)

    async def patch(self, request: web.Request) -> web.Response:
        """Grow it: each GiB of the claim is 16 MiB here."""
        if self.refusal:
            return web.json_response({"message": self.refusal}, status=403)
        assert request.content_type == "application/merge-patch+json"
        asked = await request.json()
        self.patches.append(asked)
        self.size = asked["spec"]["resources"]["requests"]["storage"]
        if self.lost:
            assert request.transport
            request.transport.abort()
        else:
            await self._grow()
        return web.json_response({})

    async def _grow(self) -> None:
        mib = 16 * int(self.size.removesuffix("Gi"))
        await command.run(["mount", "-o", f"remount,size={mib}m", str(self.volume)])


@pytest.fixture
async def volume(short_path: Path) -> AsyncGenerator[Path]:
    """A file system of 16 MiB."""
    point = short_path / "volume"
    point.mkdir()
    await command.run(["mount", "-t", "tmpfs", "-o", "size=16m", "none", str(point)])
    yield point
    await command.run(["umount", str(point)])


@pytest.fixture
def account(short_path: Path) -> Path:
    """A service account's files; without a certificate the address is plain HTTP."""
    directory = short_path / "account"
    directory.mkdir()
    (directory / "namespace").write_text("example")
    (directory / "token").write_text("a token")
    return directory


@pytest.mark.requirement("examples.lose-nothing")
@pytest.mark.root
async def test_a_log_on_a_full_disk_waits_and_goes_on_when_its_claim_has_grown(volume: Path, account: Path) -> None:
    """The guide: a resize without interruption; ours: not one event is lost, and nobody restarts anything."""
    words = ("--directory", volume, "--event-bytes", "16384", "--segment-mib", "4", "--events", "2500")
    api = Api(volume)
    async with api.serving() as url, running("event_log.py", "write", *words) as writer:
        await writer.says("full")

        looks = ("--claim", "log", "--api", url, "--account", account, "--every", "0.1", "--most-gib", "4")
        async with running("claim.py", "watch", "--directory", volume, *looks) as watch:
            done = await writer.says("done")
            await watch.told_to_end()
    verified = (await run("event_log.py", "verify", "--directory", volume))[0]

    assert (verified["events"], verified["chain"]) == (2500, done["chain"])
    sizes = [patch["spec"]["resources"]["requests"]["storage"] for patch in api.patches]  # type: ignore[index] # JSON
    # 41 MiB are written: at 3 GiB, which are 48 MiB here, the log may be done before the next look.
    assert sizes in (["2Gi", "3Gi"], ["2Gi", "3Gi", "4Gi"])
    assert api.seen == {"Bearer a token"}


@pytest.mark.root
async def test_room_is_made_for_a_model_before_it_is_fetched_and_only_where_there_is_none(
    volume: Path, account: Path
) -> None:
    """The guide: volumes sized dynamically for the model."""
    api = Api(volume)
    async with api.serving() as url:
        words = ("fit", "--claim", "log", "--directory", volume, "--api", url, "--account", account)
        # 32 MiB are spare beside: 16 are there, and a GiB of the claim brings 16 here.
        grown = await run("claim.py", *words, "--mib", "1")
        enough = await run("claim.py", *words, "--mib", "1")

    assert [one["event"] for one in grown] == ["growing", "grown", "growing", "grown", "fits"]
    assert [one["event"] for one in enough] == ["fits"]


@pytest.mark.root
async def test_what_is_there_of_a_model_needs_no_room_a_second_time(volume: Path, account: Path) -> None:
    """AWS: four modifications in 24 hours; a container that starts again must not cost one of them."""
    api = Api(volume)
    (volume / "small").mkdir()
    (volume / "small" / "part-00000.bin").write_bytes(bytes(8 * 2**20))
    async with api.serving() as url:
        words = ("fit", "--claim", "log", "--directory", volume, "--api", url, "--account", account)

        there = await run("claim.py", *words, "--into", volume / "small", "--mib", "8")
        half = await run("claim.py", *words, "--into", volume / "small", "--mib", "17")
        absent = await run("claim.py", *words, "--into", volume / "other", "--mib", "38")

    assert [one["event"] for one in there] == ["fits"]
    assert [one["gib"] for one in half if one["event"] == "grown"] == [2, 3, 4]
    assert [one["gib"] for one in absent if one["event"] == "grown"] == [5]


@pytest.mark.root
async def test_a_growth_whose_answer_was_lost_is_not_asked_for_twice(volume: Path, account: Path) -> None:
    """AWS: four modifications in 24 hours."""
    api = Api(volume, lost=True)
    (volume / "most").write_bytes(bytes(14 * 2**20))
    words = ("watch", "--claim", "log", "--directory", volume, "--account", account, "--every", "0.1")
    async with api.serving() as url, running("claim.py", *words, "--api", url, "--most-gib", "4") as watch:
        await watch.says("refused")
        await api.looked_at_again(2)
        await watch.told_to_end()

    assert [patch["spec"]["resources"]["requests"]["storage"] for patch in api.patches] == ["2Gi"]  # type: ignore[index] # JSON


@pytest.mark.root
async def test_who_may_not_grow_a_claim_says_so_once_and_goes_on_looking(volume: Path, account: Path) -> None:
    """Kubernetes: the API's own words; ours: the grower's end would take the server beside it out of service."""
    refusing = Api(volume, refusal='persistentvolumeclaims "log" is forbidden')
    full, stuck = Api(volume, size="4Gi"), Api(volume, size="2Gi", stuck=True)
    (volume / "most").write_bytes(bytes(14 * 2**20))
    words = ("watch", "--claim", "log", "--directory", volume, "--account", account, "--every", "0.1")
    async with refusing.serving() as no, full.serving() as yes, stuck.serving() as never:
        async with running("claim.py", *words, "--api", yes, "--most-gib", "4") as watch:
            most = await watch.says("refused")
            await full.looked_at_again(3)
            _, more = await watch.told_to_end()
        async with running("claim.py", *words, "--api", never, "--patience", "0.2") as watch:
            late = await watch.says("refused")
        async with running("claim.py", *words, "--api", "http://127.0.0.1:1") as watch:
            nobody = await watch.says("refused")
        async with running("claim.py", *words, "--api", no) as watch:
            forbidden = await watch.says("refused")
            refusing.refusal = ""
            grown = await watch.says("grown")
            code, _ = await watch.told_to_end()

    assert forbidden["reason"] == 'PATCH of claim log: 403: persistentvolumeclaims "log" is forbidden'
    assert (grown["gib"], code) == (2, 0)
    assert most["reason"] == "claim log is 4 GiB and may have 4: raise --most-gib"
    assert more == []
    assert late["reason"] == "claim log did not grow in 0.2 s: see its events"
    assert "GET of claim log" in nobody["reason"]


@pytest.mark.root
async def test_room_that_is_refused_before_a_fetch_ends_the_container(volume: Path, account: Path) -> None:
    """Kubernetes: an init container that fails is tried again, and the pod shows why."""
    api = Api(volume, refusal='persistentvolumeclaims "log" is forbidden')
    async with api.serving() as url:
        words = ("fit", "--claim", "log", "--directory", volume, "--api", url, "--account", account, "--mib", "20")

        refused = await run("claim.py", *words, code=1)

    assert refused[-1]["event"] == "refused"
