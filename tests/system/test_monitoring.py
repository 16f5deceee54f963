"""The HTTP pages of a process, for kubelet's probes and for Prometheus."""

import asyncio
import contextlib
import re
import socket
import ssl
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import NamedTuple

import aiohttp
import grpc
import pytest
import trustme
from structlog.testing import capture_logs

from hyperpod_ebs.driver.app.monitoring import HTTP, check_options, create_metrics, serve_pages
from hyperpod_ebs.driver.app.options import ServingOptions
from hyperpod_ebs.driver.csi.identity import NOT_READY_REASON
from hyperpod_ebs.driver.csi.server import Services, serve
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.observe import httpd
from hyperpod_ebs.driver.observe.condition import Condition
from hyperpod_ebs.driver.observe.httpd import MAX_CONNECTIONS_OF_PEER, MAX_HEAD
from hyperpod_ebs.driver.observe.metrics import Metrics
from hyperpod_ebs.pb import csi_pb2, csi_pb2_grpc
from tests.support.driver_process import DriverProcess, node_arguments, start_driver
from tests.support.waiting import wait_until


class Monitored(NamedTuple):
    """A running process and the addresses of its pages."""

    program: DriverProcess
    health: str
    http: str


async def wait_for_addresses(process: DriverProcess) -> tuple[str, str]:
    """Wait for the log lines of both servers and return their addresses."""
    ports = [(await process.wait_for_log(word)).partition("port=")[2].split()[0] for word in ("--health-", "--http-")]
    return f"http://127.0.0.1:{ports[0]}", f"127.0.0.1:{ports[1]}"


@pytest.fixture
async def node(short_path: Path) -> AsyncGenerator[Monitored]:
    """A node process with both servers."""
    flags = ("--health-endpoint=127.0.0.1:0", "--http-endpoint=127.0.0.1:0")
    async with start_driver(*node_arguments(short_path), *flags) as process:
        health, http = await wait_for_addresses(process)
        yield Monitored(process, health, f"http://{http}")


async def page(address: str, method: str = "GET", trust: ssl.SSLContext | None = None) -> tuple[int, str]:
    """The status and text of a page."""
    async with aiohttp.ClientSession() as http, http.request(method, address, ssl=trust or True) as answer:
        return answer.status, await answer.text()


async def test_a_healthy_process_answers_ok_at_both_addresses(node: Monitored) -> None:
    """Kubelet probes one address; the upstream chart exposes the other one for metrics."""
    for address in (node.health, node.http):
        assert await page(f"{address}/healthz") == (200, "ok\n")
        assert await page(f"{address}/livez?verbose") == (200, "ok\n")


async def test_calls_are_counted_by_method_and_code(node: Monitored, short_path: Path) -> None:
    """The upstream driver leaves these metrics to its sidecars; this driver's node pod has no sidecar."""
    async with grpc.aio.insecure_channel(f"unix://{short_path / 'csi.sock'}") as channel:
        await csi_pb2_grpc.NodeStub(channel).NodeGetInfo(csi_pb2.NodeGetInfoRequest())
        with pytest.raises(grpc.aio.AioRpcError):
            await csi_pb2_grpc.NodeStub(channel).NodeStageVolume(csi_pb2.NodeStageVolumeRequest())

    status, text = await page(f"{node.http}/metrics")

    assert status == 200
    assert 'aws_ebs_csi_rpc_duration_seconds_count{code="OK",method="NodeGetInfo"} 1.0' in text
    assert 'aws_ebs_csi_rpc_duration_seconds_count{code="INVALID_ARGUMENT",method="NodeStageVolume"} 1.0' in text
    assert re.search(r'^aws_ebs_csi_build_info\{python="3[.\d]+",version="[.\d]+"\} 1.0$', text, re.MULTILINE)
    assert "aws_ebs_csi_healthy 1.0" in text


async def test_an_unknown_page_is_refused_with_the_list_of_pages(node: Monitored) -> None:
    assert await page(f"{node.health}/metrics") == (404, "not found; the pages are /livez, /healthz\n")
    assert (await page(f"{node.http}/metrics", "POST"))[0] == 405
    assert await page(f"{node.http}/healthz", "HEAD") == (200, "")


@pytest.mark.parametrize(
    "request_head", [b"", b"\r\n\r\n", b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * MAX_HEAD, b"\x16\x03\x01\r\n\r\n"]
)
async def test_malformed_requests_do_not_keep_others_from_being_answered(node: Monitored, request_head: bytes) -> None:
    """The port is open to the whole cluster."""
    host, port = node.health.removeprefix("http://").split(":")

    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(request_head)
    response = b""
    with contextlib.suppress(OSError):  # the server may close the connection before it has read everything
        writer.write_eof()
        response = await reader.read()
    writer.close()

    assert b"200 OK" not in response
    assert await page(f"{node.health}/healthz") == (200, "ok\n")


async def test_metrics_are_served_over_tls_if_a_certificate_is_given(short_path: Path) -> None:
    """The upstream flags --metrics-cert-file and --metrics-key-file; probes stay plain HTTP."""
    authority = trustme.CA()
    files = short_path / "tls.crt", short_path / "tls.key"
    issued = authority.issue_cert("127.0.0.1")
    files[0].write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(str(files[1]))
    flags = ("--health-endpoint=127.0.0.1:0", "--http-endpoint=127.0.0.1:0")
    tls = (f"--metrics-cert-file={files[0]}", f"--metrics-key-file={files[1]}")
    trust = ssl.create_default_context()
    authority.configure_trust(trust)

    async with start_driver(*node_arguments(short_path), *flags, *tls) as process:
        health, http = await wait_for_addresses(process)

        assert (await page(f"https://{http}/metrics", trust=trust))[0] == 200
        assert (await page(f"{health}/healthz"))[0] == 200


def create_certificate() -> ssl.SSLContext:
    """A server's TLS context."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(tls)
    return tls


async def wait_until_closed(reader: asyncio.StreamReader) -> bytes:
    """Read until the server closes the connection; what arrived."""
    received = b""
    async with asyncio.timeout(60):
        with contextlib.suppress(ConnectionError):
            while more := await reader.read(4096):
                received += more
    return received


class HalfOpen(NamedTuple):
    """A client that connects and brings no request."""

    id: str
    sent: bytes
    tls: bool = False


HALF_OPEN = [
    HalfOpen("nothing", b""),
    HalfOpen("one byte", b"G"),
    HalfOpen("half a head", b"GET /livez HTTP/1.1\r\nHost: a"),
    HalfOpen("no TLS", b"", tls=True),
    HalfOpen("half a TLS handshake", b"\x16\x03\x01\x02\x00\x01", tls=True),
]


@pytest.mark.requirement("process.answers-others")
@pytest.mark.parametrize("case", HALF_OPEN, ids=[case.id for case in HALF_OPEN])
async def test_the_oldest_connection_of_a_peer_gives_way_to_a_new_one(
    monkeypatch: pytest.MonkeyPatch, case: HalfOpen
) -> None:
    """CWE-400: any pod of a cluster can connect, and as many times as it likes."""
    monkeypatch.setattr(httpd, "HEAD_TIMEOUT", 600.0)  # only a new connection closes an old one
    surplus = 5

    async with httpd.serve("127.0.0.1", 0, {}, create_certificate() if case.tls else None) as port:
        held = []
        for _ in range(MAX_CONNECTIONS_OF_PEER + surplus):
            held.append(await asyncio.open_connection("127.0.0.1", port))
            held[-1][1].write(case.sent)
        for reader, _ in held[:surplus]:
            await wait_until_closed(reader)
        is_open = [not reader.at_eof() and reader.exception() is None for reader, _ in held]
        for _, writer in held:
            writer.close()

    assert is_open == [False] * surplus + [True] * MAX_CONNECTIONS_OF_PEER


@pytest.mark.parametrize("case", HALF_OPEN, ids=[case.id for case in HALF_OPEN])
async def test_a_connection_that_brings_no_request_is_closed(monkeypatch: pytest.MonkeyPatch, case: HalfOpen) -> None:
    """RFC 9112 §9.5: a server usually has a timeout after which it closes a connection."""
    assert httpd.HEAD_TIMEOUT <= 1
    monkeypatch.setattr(httpd, "HEAD_TIMEOUT", 0.1)

    async with httpd.serve("127.0.0.1", 0, {}, create_certificate() if case.tls else None) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(case.sent)
        received = await wait_until_closed(reader)
        writer.close()

    assert not received


async def test_a_connection_whose_client_does_not_read_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that does not fit into the kernel's buffers waits for its client."""
    monkeypatch.setattr(httpd, "ANSWER_TIMEOUT", 0.1)
    size = 64 * 2**20

    async with httpd.serve("127.0.0.1", 0, {"/": lambda: httpd.Page("x" * size)}) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        await reader.readexactly(1)
        await wait_until(_has_no_tasks, seconds=60)
        received = await wait_until_closed(reader)
        writer.close()

    assert len(received) < size


async def _has_no_tasks() -> bool:
    """Whether no task handles a connection."""
    return not [task for task in asyncio.all_tasks() if "_handle_connection" in repr(task.get_coro())]


@pytest.mark.requirement("process.answers-others")
@pytest.mark.parametrize("service", ["node", "controller"])
async def test_a_process_answers_while_strangers_hold_half_open_connections(short_path: Path, service: str) -> None:
    """CWE-400: 32 such connections once made kubelet restart the process. The controller has another event loop."""
    endpoint = f"--endpoint=unix://{short_path / 'csi.sock'}"
    words = node_arguments(short_path) if service == "node" else ("controller", endpoint, "--region=us-west-2")
    flags = ("--health-endpoint=127.0.0.1:0", "--http-endpoint=127.0.0.1:0")
    strangers = []

    async with start_driver(*words, *flags, AWS_EC2_METADATA_DISABLED="true") as process:
        health, http = await wait_for_addresses(process)
        addresses = (health, f"http://{http}")
        for address in addresses:
            port = int(address.rpartition(":")[2])
            for number in range(200):
                source = (f"127.0.1.{number % 8}", 0)
                strangers.append(await asyncio.open_connection("127.0.0.1", port, local_addr=source))
                strangers[-1][1].write(b"G")
        answers = [await page(f"{address}/livez") for address in addresses for _ in range(3)]
        async with grpc.aio.insecure_channel(f"unix://{short_path / 'csi.sock'}") as channel:
            await csi_pb2_grpc.IdentityStub(channel).Probe(csi_pb2.ProbeRequest())

    for _, writer in strangers:
        writer.close()
    assert answers == [(200, "ok\n")] * 6


async def test_a_bug_in_one_page_leaves_the_others() -> None:
    def fail() -> httpd.Page:
        raise KeyError("inner detail")

    with capture_logs() as logged:
        async with httpd.serve("127.0.0.1", 0, {"/bad": fail, "/good": lambda: httpd.Page("ok\n")}) as port:
            answers = [await page(f"http://127.0.0.1:{port}/{name}") for name in ("bad", "good")]

    assert answers == [(500, "the page failed; the log says why\n"), (200, "ok\n")]
    assert [(line["event"], line["path"]) for line in logged] == [
        ("page failed because of a bug in the driver", "/bad")
    ]


async def test_an_address_in_use_stops_the_start_with_one_sentence(node: Monitored, short_path: Path) -> None:
    port = node.health.rpartition(":")[2]
    words = (*node_arguments(short_path / "second"), f"--health-endpoint=127.0.0.1:{port}")

    async with start_driver(*words) as second:
        code = await second.wait()

    assert code == 1
    assert second.log[-1].startswith(f"hyperpod-ebs: cannot serve on --health-endpoint 127.0.0.1:{port}: ")


@pytest.mark.requirement("process.condition-reported", "csi.probe")
async def test_the_page_the_probe_and_the_metrics_report_the_same_condition(short_path: Path) -> None:
    """A bad condition does not make the liveness probe fail: see docs/decisions/0014."""
    condition = Condition()
    options = ServingOptions(endpoint=str(short_path / "csi.sock"), http_endpoint="127.0.0.1:0")
    metrics = create_metrics(options, condition, deprecated=False)
    assert isinstance(metrics, Metrics)
    async with (
        serve(options.endpoint, Services(), condition=condition),
        serve_pages(options, condition, metrics) as ports,
        grpc.aio.insecure_channel(f"unix:{options.endpoint}") as channel,
    ):
        address = f"http://127.0.0.1:{ports[HTTP]}"

        async def reports() -> tuple[object, ...]:
            call = csi_pb2_grpc.IdentityStub(channel).Probe(csi_pb2.ProbeRequest())
            ready = (await call).ready.value
            reason = b"".join(bytes(value) for key, value in await call.trailing_metadata() if key == NOT_READY_REASON)  # type: ignore[arg-type] # binary, by the key's ending
            gauge = "aws_ebs_csi_healthy 1.0" in (await page(f"{address}/metrics"))[1]
            pages = [await page(f"{address}/{name}") for name in ("healthz", "livez")]
            return ready, reason.decode(), gauge, *pages

        condition.report("AWS", "ec2:DescribeVolumes is denied")
        wrong = await reports()
        condition.report("AWS", None)
        healthy = await reports()

    sentence = "ec2:DescribeVolumes is denied"
    assert wrong == (False, sentence, False, (503, f"{sentence}\n"), (200, "ok\n"))
    assert healthy == (True, "", True, (200, "ok\n"), (200, "ok\n"))


@pytest.mark.requirement("socket.comes-back")
async def test_the_process_is_not_alive_while_no_client_can_connect_to_its_csi_socket(
    node: Monitored, short_path: Path
) -> None:
    """A restart helps then, so kubelet has to learn of it: see docs/decisions/0039."""
    path = short_path / "csi.sock"

    async def is_alive() -> bool:
        return (await page(f"{node.health}/livez"))[0] == 200

    async def is_dead() -> bool:
        return not await is_alive()

    with socket.socket(socket.AF_UNIX) as another:
        path.unlink()
        another.bind(str(path))
        another.listen()
        await wait_until(is_dead)
        status, text = await page(f"{node.health}/livez")
    await wait_until(is_alive)

    assert status == 503
    assert "no client can connect" in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (ServingOptions(health_endpoint="9808"), "not host:port"),
        (ServingOptions(health_endpoint=":99999"), "not host:port"),
        (ServingOptions(health_endpoint=":9808", http_endpoint="127.0.0.1:9808"), "the same port"),
        (ServingOptions(metrics_cert_file=Path("/c"), http_endpoint=":1"), "require each other"),
        (ServingOptions(metrics_cert_file=Path("/c"), metrics_key_file=Path("/k")), "require each other"),
    ],
    ids=["no colon", "no port", "one port for two", "a certificate without its key", "nothing to secure"],
)
def test_flags_that_contradict_each_other_are_refused(options: ServingOptions, message: str) -> None:
    """The upstream driver has the same rule for its pair of certificate files."""
    with pytest.raises(errors.InvalidRequest, match=message):
        check_options(options)


def test_both_servers_may_ask_for_any_free_port() -> None:
    """Port zero means any free port, so two zeros do not collide."""
    check_options(ServingOptions(health_endpoint="127.0.0.1:0", http_endpoint="[::1]:0"))
