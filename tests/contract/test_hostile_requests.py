"""No client can keep the emulator from answering the others: half-open connections, slow bodies, hostile forms."""

import asyncio
import gzip
import logging
import random
import re
from collections import Counter
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from hyperpod_ebs.emulator.http import door
from hyperpod_ebs.emulator.http.faults import Faults
from hyperpod_ebs.emulator.http.server import Server
from hyperpod_ebs.emulator.wire.operations import Answer, Call, Operations, Parameters
from tests.support.open_access import OpenAccess

HEAD: Final = b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n"
WHOLE: Final = b"GET /_emulator/health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Volumes:
    """A service without volumes."""

    operations = Operations["Volumes"]()

    @operations("DescribeVolumes")
    async def describe(self, _: Parameters, __: Call) -> Answer:
        """Answer that there are none."""
        return {"Volumes": []}


@pytest.fixture
async def url() -> AsyncGenerator[str]:
    async with Server(services={"ec2": [Volumes()]}, access=OpenAccess(), faults=Faults(), local_routes=[]).serve(
        "127.0.0.1", 0
    ) as address:
        yield address


async def connect(url: str, sent: bytes) -> Connection:
    reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(url).port)
    writer.write(sent)
    await writer.drain()
    return reader, writer


async def wait_until_closed(reader: asyncio.StreamReader) -> None:
    async with asyncio.timeout(60):
        with suppress(ConnectionError):
            while await reader.read(4096):
                pass


async def post(url: str, body: bytes, headers: Mapping[str, str] = {}) -> tuple[int, str]:
    """Send a signed form; the status and the text of the answer."""
    headers = {"content-type": "application/x-www-form-urlencoded; charset=utf-8", **headers}
    request: Any = AWSRequest(method="POST", url=url, data=body, headers=headers)
    SigV4Auth(Credentials("AKIDEXAMPLE", "a secret"), "ec2", "us-west-2").add_auth(request)
    signed = dict(request.headers.items())
    async with aiohttp.ClientSession() as session, session.post(url, data=body, headers=signed) as answer:
        return answer.status, await answer.text()


@pytest.mark.requirement("emulator.answers-others")
@pytest.mark.parametrize(
    ("sent", "limit"),
    [(b"P", 256), (HEAD[:-2], 256), (HEAD + b"Action=", 256), (WHOLE, 512)],
    ids=["one byte", "half a head", "half a body", "an answered request"],
)
async def test_the_oldest_connection_that_waits_for_a_request_gives_way_to_a_new_one(
    url: str, sent: bytes, limit: int
) -> None:
    """CWE-400: a client that opens connections without end would take the descriptors of the process."""
    surplus = 20
    held: list[Connection] = []
    for _ in range(limit + surplus):
        held.append(await connect(url, sent))
        if sent is WHOLE:
            await held[-1][0].readuntil(b"\r\n\r\n")

    for reader, _ in held[:surplus]:
        await wait_until_closed(reader)
    answer = await post(url, b"Action=DescribeVolumes&Version=2016-11-15")
    is_open = [not reader.at_eof() for reader, _ in held]

    for _, writer in held:
        writer.close()
    assert answer[0] == 200
    assert not any(is_open[:surplus])
    assert all(is_open[surplus + 1 :]), "one more gives way to the client"


@pytest.mark.parametrize("sent", [b"P", HEAD + b"Action="], ids=["one byte", "half a body"])
async def test_a_connection_whose_request_does_not_arrive_in_time_is_closed(
    monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    """RFC 9112 §9.5: a server usually has a timeout after which it closes a connection."""
    monkeypatch.setattr(door, "ARRIVAL", 0.1)

    async with Server(services={}, access=OpenAccess(), faults=Faults(), local_routes=[]).serve("127.0.0.1", 0) as url:
        reader, writer = await connect(url, sent)
        await wait_until_closed(reader)

    writer.close()


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "x"])
async def test_a_compressed_body_is_not_decompressed(url: str, encoding: str) -> None:
    """CWE-409: a kilobyte can become a megabyte. The services define no compression of their requests' bodies."""
    body = gzip.compress(b"Action=DescribeVolumes&Version=2016-11-15")

    status, text = await post(url, body, {"content-encoding": encoding})

    assert (status, "<Code>MissingAction</Code>" in text) == (400, True)


VALID: Final = (
    b"POST /path?query=1 HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-amz-json-1.1\r\n"
    b"X-Amz-Target: SageMaker.ListClusters\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
)
BAD_BYTES: Final = (
    *(b"\x00", b"\xff", b"\r", b"\n", b"\r\n", b" ", b"\t", b":", b"/", b"?", b"%", b"HTTP/9.9", b"GET ", b"\r\n\r\n"),
    *(b"Content-Length: 2\r\n", b"Content-Length: -1\r\n", b"Content-Length: " + b"9" * 30 + b"\r\n", b"a" * 20_000),
    *(b"Transfer-Encoding: chunked\r\n", b"Content-Encoding: gzip\r\n", b"Content-Encoding: br\r\n", b" folded\r\n"),
    *(b"Upgrade: websocket\r\nConnection: upgrade\r\n", b"Expect: 100-continue\r\n", b"Expect: x\r\n", b"Host: x\r\n"),
)


def broken_request(chance: random.Random) -> bytes:
    """The bytes of a request with changes in a few places, most of them at the beginning of a line."""
    request = bytearray(VALID)
    lines = [0, *(match.end() for match in re.finditer(b"\r\n", VALID))]
    for _ in range(chance.choice([1, 1, 2, 3])):
        at = chance.choice(lines) if chance.random() < 0.5 else chance.randrange(len(request) + 1)
        request[at : at + chance.choice([0, 0, 1, 5])] = chance.choice(BAD_BYTES)
    return bytes(request)


@pytest.mark.requirement("emulator.answers-others")
async def test_bytes_that_are_not_a_request_get_an_error_or_no_answer_and_are_not_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """RFC 9112 section 2.2: a server should answer 400, and close the connection. A client must not fill the log."""
    for wait in ("ARRIVAL", "IDLE"):
        monkeypatch.setattr(door, wait, 1.0)
    chance = random.Random(1)  # noqa: S311 - must be repeatable
    statuses = Counter[bytes]()

    async def send(url: str) -> None:
        reader, writer = await connect(url, broken_request(chance))
        async with asyncio.timeout(60):
            with suppress(ConnectionError):
                statuses[(await reader.read())[9:12]] += 1
        writer.close()

    async with Server(services={}, access=OpenAccess(), faults=Faults(), local_routes=[]).serve("127.0.0.1", 0) as url:
        for _ in range(10):
            async with asyncio.TaskGroup() as group:
                for _ in range(200):
                    group.create_task(send(url))

    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert set(statuses) <= {b"", b"100", b"400", b"404", b"413", b"417"}
    assert statuses[b"400"] > 100


@pytest.mark.requirement("emulator.answers-others")
@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"Action=DescribeVolumes&Version=2016-11-15&" + b"." * (2**20 - 100), "UnknownParameter"),
        (b"Action=DescribeVolumes&Version=2016-11-15&Filter" + b".1" * (2**20 // 3), "UnknownParameter"),
        (b"Action=DescribeVolumes&Version=2016-11-15" + b"&a" * (2**20 // 3), "MalformedQueryString"),
    ],
    ids=["dots", "levels", "parameters"],
)
async def test_a_signed_form_made_to_be_slow_is_refused_in_a_few_words(url: str, body: bytes, error: str) -> None:
    """CWE-400: a form of 4 MiB of dots took seconds in which no other client was answered."""
    status, text = await post(url, body)

    assert (status, f"<Code>{error}</Code>" in text) == (400, True)
    assert len(text) < 1000
