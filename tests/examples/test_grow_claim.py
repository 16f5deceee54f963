"""The program that grows a claim from inside a pod, with a stand-in for the Kubernetes API."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import grow_claim
import pytest
from aiohttp import web

from hyperpod_ebs.kit import command
from tests.support.example_programs import run, start

GIB = 2**30


class Case(NamedTuple):
    """A claim's size as Kubernetes writes it, and its bytes."""

    id: str
    text: str
    bytes: int


CASES = [
    Case("binary", "1Gi", GIB),
    Case("binary with a fraction", "1.5Gi", GIB * 3 // 2),
    Case("decimal", "500M", 500_000_000),
    Case("plain", "1073741824", GIB),
]


@pytest.mark.parametrize("case", CASES, ids=[case.id for case in CASES])
def test_a_quantity_is_parsed_as_kubernetes_defines_it(case: Case) -> None:
    """Kubernetes API reference, Quantity."""
    assert grow_claim.parse_quantity(case.text) == case.bytes


def test_a_claim_grows_to_whole_gib() -> None:
    """EC2 API reference, CreateVolume: sizes are whole GiB."""
    assert grow_claim.grown_gib(GIB, 1) == 2
    assert grow_claim.grown_gib(GIB, GIB) == 2
    assert grow_claim.grown_gib(3 * GIB, GIB + 1) == 5


@dataclass
class Api:
    """The part of the Kubernetes API that the program calls, with a volume that grows with its claim."""

    volume: Path
    size: str = "1Gi"
    refusal: str = ""
    stuck: bool = False
    """Whether the claim keeps its size of 1 GiB when it is patched."""

    lost: bool = False
    """Whether the response to the next patch is lost; the volume then grows at the next GET."""

    patches: list[object] = field(default_factory=list)
    authorizations: set[str] = field(default_factory=set)
    gets: int = 0
    _got: asyncio.Condition = field(default_factory=asyncio.Condition)

    @asynccontextmanager
    async def serve(self) -> AsyncGenerator[str]:
        """Serve the API; its address."""
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
        """Return the claim."""
        self.authorizations.add(request.headers["Authorization"])
        async with self._got:
            self.gets += 1
            self._got.notify_all()
        capacity = "1Gi" if self.stuck or self.lost else self.size
        if self.lost and self.patches:
            self.lost = False
            await self._grow()
        spec = {"resources": {"requests": {"storage": self.size}}}
        return web.json_response({"spec": spec, "status": {"capacity": {"storage": capacity}}})

    async def wait_for_gets(self, times: int) -> None:
        """Wait for this number of further GET requests."""
        until = self.gets + times
        async with asyncio.timeout(20), self._got:
            await self._got.wait_for(lambda: self.gets >= until)

    async def patch(self, request: web.Request) -> web.Response:
        """Grow the claim; each GiB is 16 MiB of the volume."""
        if self.refusal:
            return web.json_response({"message": self.refusal}, status=403)
        assert request.content_type == "application/merge-patch+json"
        patch = await request.json()
        self.patches.append(patch)
        self.size = patch["spec"]["resources"]["requests"]["storage"]
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
    """A filesystem of 16 MiB."""
    point = short_path / "volume"
    point.mkdir()
    await command.run(["mount", "-t", "tmpfs", "-o", "size=16m", "none", str(point)])
    yield point
    await command.run(["umount", str(point)])


@pytest.fixture
def account(short_path: Path) -> Path:
    """A service account's files, without a certificate because the stand-in uses plain HTTP."""
    directory = short_path / "account"
    directory.mkdir()
    (directory / "namespace").write_text("example")
    (directory / "token").write_text("a token")
    return directory


@pytest.mark.requirement("examples.lose-nothing")
@pytest.mark.root
async def test_a_log_on_a_full_disk_waits_and_continues_when_its_claim_has_grown(volume: Path, account: Path) -> None:
    """examples/inference/event-log: no event is lost and no process is restarted."""
    words = ("--directory", volume, "--event-bytes", "16384", "--segment-mib", "4", "--events", "2500")
    api = Api(volume)
    async with api.serve() as url, start("event_log.py", "write", *words) as writer:
        await writer.wait_for("full")

        grower = ("--claim", "log", "--api", url, "--account", account, "--every", "0.1", "--most-gib", "4")
        async with start("grow_claim.py", "watch", "--directory", volume, *grower) as watch:
            done = await writer.wait_for("done")
            await watch.terminate()
    verified = (await run("event_log.py", "verify", "--directory", volume))[0]

    assert (verified["events"], verified["chain"]) == (2500, done["chain"])
    sizes = [patch["spec"]["resources"]["requests"]["storage"] for patch in api.patches]  # type: ignore[index] # JSON
    # 41 MiB are written. At 3 GiB (48 MiB of the volume), the log can be done before the next check.
    assert sizes in (["2Gi", "3Gi"], ["2Gi", "3Gi", "4Gi"])
    assert api.authorizations == {"Bearer a token"}


@pytest.mark.root
async def test_a_claim_grows_before_a_model_is_fetched_only_if_it_has_no_room(volume: Path, account: Path) -> None:
    """examples/inference/model-store: the claim grows to the size of the model."""
    api = Api(volume)
    async with api.serve() as url:
        words = ("fit", "--claim", "log", "--directory", volume, "--api", url, "--account", account)
        # 1 MiB and a reserve of 32 MiB are needed; the volume has 16 MiB, and each GiB of the claim adds 16 MiB.
        grown = await run("grow_claim.py", *words, "--mib", "1")
        enough = await run("grow_claim.py", *words, "--mib", "1")

    assert [event["event"] for event in grown] == ["growing", "grown", "growing", "grown", "fits"]
    assert [event["event"] for event in enough] == ["fits"]


@pytest.mark.root
async def test_existing_files_of_a_model_need_no_room_again(volume: Path, account: Path) -> None:
    """AWS allows four modifications of a volume in 24 hours, so a restarted container must not need one."""
    api = Api(volume)
    (volume / "small").mkdir()
    (volume / "small" / "part-00000.bin").write_bytes(bytes(8 * 2**20))
    async with api.serve() as url:
        words = ("fit", "--claim", "log", "--directory", volume, "--api", url, "--account", account)

        complete = await run("grow_claim.py", *words, "--into", volume / "small", "--mib", "8")
        half = await run("grow_claim.py", *words, "--into", volume / "small", "--mib", "17")
        absent = await run("grow_claim.py", *words, "--into", volume / "other", "--mib", "38")

    assert [event["event"] for event in complete] == ["fits"]
    assert [event["gib"] for event in half if event["event"] == "grown"] == [2, 3, 4]
    assert [event["gib"] for event in absent if event["event"] == "grown"] == [5]


@pytest.mark.root
async def test_a_growth_whose_response_was_lost_is_not_requested_twice(volume: Path, account: Path) -> None:
    """AWS allows four modifications of a volume in 24 hours."""
    api = Api(volume, lost=True)
    (volume / "data").write_bytes(bytes(14 * 2**20))
    words = ("watch", "--claim", "log", "--directory", volume, "--account", account, "--every", "0.1")
    async with api.serve() as url, start("grow_claim.py", *words, "--api", url, "--most-gib", "4") as watch:
        await watch.wait_for("refused")
        await api.wait_for_gets(2)
        await watch.terminate()

    assert [patch["spec"]["resources"]["requests"]["storage"] for patch in api.patches] == ["2Gi"]  # type: ignore[index] # JSON


@pytest.mark.root
async def test_a_refused_growth_is_reported_once_and_tried_again(volume: Path, account: Path) -> None:
    """If the grower ended, its pod would not be ready, and the server in the pod would get no requests."""
    refusing = Api(volume, refusal='persistentvolumeclaims "log" is forbidden')
    full, stuck = Api(volume, size="4Gi"), Api(volume, size="2Gi", stuck=True)
    (volume / "data").write_bytes(bytes(14 * 2**20))
    words = ("watch", "--claim", "log", "--directory", volume, "--account", account, "--every", "0.1")
    async with refusing.serve() as refusing_url, full.serve() as full_url, stuck.serve() as stuck_url:
        async with start("grow_claim.py", *words, "--api", full_url, "--most-gib", "4") as watch:
            at_most = await watch.wait_for("refused")
            await full.wait_for_gets(3)
            _, repeated = await watch.terminate()
        async with start("grow_claim.py", *words, "--api", stuck_url, "--patience", "0.2") as watch:
            late = await watch.wait_for("refused")
        async with start("grow_claim.py", *words, "--api", "http://127.0.0.1:1") as watch:
            unreachable = await watch.wait_for("refused")
        async with start("grow_claim.py", *words, "--api", refusing_url) as watch:
            forbidden = await watch.wait_for("refused")
            refusing.refusal = ""
            grown = await watch.wait_for("grown")
            code, _ = await watch.terminate()

    assert forbidden["reason"] == 'PATCH of claim log: 403: persistentvolumeclaims "log" is forbidden'
    assert (grown["gib"], code) == (2, 0)
    assert at_most["reason"] == "claim log has 4 GiB and may not grow to 5 GiB; raise --most-gib=4"
    assert repeated == []
    assert late["reason"] == "claim log did not grow in 0.2 s; see its events"
    assert "GET of claim log" in unreachable["reason"]


@pytest.mark.root
async def test_a_refused_growth_before_a_fetch_fails_the_container(volume: Path, account: Path) -> None:
    """Kubernetes documentation, "Init Containers": a failed init container is restarted."""
    api = Api(volume, refusal='persistentvolumeclaims "log" is forbidden')
    async with api.serve() as url:
        words = ("fit", "--claim", "log", "--directory", volume, "--api", url, "--account", account, "--mib", "20")

        refused = await run("grow_claim.py", *words, code=1)

    assert refused[-1]["event"] == "refused"
