"""A hundred thousand damaged requests, to every operation: each is answered as AWS does, and no error changes anything.

The requests of a seed are the same in each run. `make fuzz-requests` sends a million.
"""

import asyncio
import functools
import logging
import random
import signal
from collections import Counter
from collections.abc import AsyncGenerator, Generator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
from botocore.awsrequest import HeadersDict
from botocore.credentials import Credentials
from botocore.parsers import ResponseParserError, create_parser

from hyperpod_ebs.emulator.emulator import Emulator
from hyperpod_ebs.emulator.state.store import Store, Table
from hyperpod_ebs.emulator.wire import models
from hyperpod_ebs.emulator.wire.messages import Request
from hyperpod_ebs.emulator.wire.operations import AwsFault
from hyperpod_ebs.emulator.wire.protocols import Wire, wire_of
from tests.support.emulator_clients import cloud
from tests.support.error_codes import CODES, SIGNATURE_CODES
from tests.support.every_operation import OPERATIONS
from tests.support.http_connection import HttpAnswer, HttpConnection
from tests.support.populated_account import populate
from tests.support.request_mutations import Case, Draft, HttpRequest, Values, forge, mutate_route, sign
from tests.support.token_issuer import serve_issuer

REQUESTS: Final = 4_000
"""Requests of a seed."""

SEEDS: Final = 25
MILLION: Final = 250
"""Seeds of `make fuzz-requests`."""

ROUTE_REQUESTS: Final = 3_000
ROUTES: Final = ("/keys", "/.well-known/openid-configuration", "")

CPU: Final = 20
"""Seconds of CPU time after which a request is one that hangs; the slowest takes a tenth of a second."""

UNSIGNED: Final = "AssumeRoleWithWebIdentity"
OF_TARGETS: Final = {"SageMaker.": ("sagemaker", "ListClusters"), "TrentService.": ("kms", "ListKeys")}
"""A service and an operation of it, by the prefix of `x-amz-target`."""

NO_SERVICE: Final = "UnknownOperationException"
THIS: Final = "tests/contract/test_mutated_requests.py"


class Hangs(BaseException):
    """A request takes more than `CPU` seconds of CPU time."""


def cases(seed: int) -> Iterator[Case]:
    """The cases of a seed."""
    operations = [(service, name) for service, names in sorted(OPERATIONS.items()) for name in sorted(names)]
    chance = random.Random(seed)  # noqa: S311 - must be repeatable
    for number in range(REQUESTS):
        service, operation = chance.choice(operations)
        forges = chance.random() < 0.1 and operation != UNSIGNED
        mutations = 0 if forges else chance.choice([0, 1, 1, 1, 1, 2, 2, 3])
        name = f"seed-{seed}/{number}"
        yield Case(seed=name, service=service, operation=operation, mutations=range(mutations), forges=forges)


@dataclass
class Changes:
    """The records that were changed since the last `clear`."""

    tables: Mapping[str, Table[Any]]
    before: dict[tuple[str, str], Any] = field(default_factory=dict)
    """The changed records as they were; None for those that are new."""

    @classmethod
    def observe(cls, store: Store) -> "Changes":
        """Observe all tables of a store."""
        tables = {name: table for name, table in vars(store).items() if isinstance(table, Table)}
        changes = cls(tables)
        for name, table in tables.items():
            table.observe(functools.partial(changes.note, name))
        return changes

    def note(self, name: str, id_: str, old: Any) -> None:
        """Remember a record before its first change."""
        self.before.setdefault((name, id_), old)

    def clear(self) -> None:
        """Forget what was changed."""
        self.before.clear()

    def records(self) -> Mapping[str, Mapping[str, Any]]:
        """All records."""
        return {name: dict(table) for name, table in self.tables.items()}

    def names(self) -> Sequence[str]:
        """The records that differ from what they were."""
        return [f"{name} {id_!r}" for (name, id_), old in self.before.items() if self.tables[name].get(id_) != old]


@dataclass
class Attack:
    """An emulator, and what is sent to it."""

    emulator: Emulator
    values: Values
    connection: HttpConnection
    changes: Changes
    codes: Counter[str] = field(default_factory=Counter)

    async def send(self, case: Case) -> None:
        """Send the request of a case, and check the answer.

        Raises:
            AssertionError: The answer is not one of AWS's, or an error changed something.
        """
        await self.emulator.world.clock.run_due_steps()
        draft, request = self.prepare(case)
        self.changes.clear()
        answer = await self.ask(request)
        code = check_answer(case, draft, request, answer)
        self.codes[code] += 1
        if code:
            assert self.changes.names() == [], f"{code} has changed records"

    def prepare(self, case: Case) -> tuple[Draft, HttpRequest]:
        """The request of a case, before and after its signature."""
        draft = replace(case.draft(self.values), is_signed=case.operation != UNSIGNED)
        env = self.emulator.env
        credentials = Credentials(env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"])
        request = sign(draft, self.emulator.url, credentials)
        return draft, forge(request, case.generator("forgery")) if case.forges else request

    async def ask(self, request: HttpRequest) -> HttpAnswer:
        """Send a request."""
        try:
            with cpu_limit():
                async with asyncio.timeout(60):
                    return await self.connection.ask(request.encode())
        except (EOFError, OSError, Hangs) as error:
            await self.connection.close()
            raise AssertionError(f"no answer: {error!r}") from error

    async def shrink(self, case: Case, error: AssertionError) -> str:
        """What failed, without the mutations that the failure does not need."""
        for number in case.mutations:
            fewer = replace(case, mutations=[other for other in case.mutations if other != number])
            try:
                await self.send(fewer)
            except AssertionError as again:
                case, error = fewer, again
        return f"{case}\n{self.prepare(case)[1].encode()[:3000]!r}\n{error}"


@contextmanager
def cpu_limit() -> Generator[None]:
    """Raise `Hangs` in the main thread after `CPU` seconds of CPU time of this process."""

    def interrupt(_: int, __: FrameType | None) -> None:
        raise Hangs(f"took more than {CPU} s of CPU time")

    before = signal.signal(signal.SIGPROF, interrupt)
    signal.setitimer(signal.ITIMER_PROF, CPU)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def check_answer(case: Case, draft: Draft, request: HttpRequest, answer: HttpAnswer) -> str:
    """The code of an answer in AWS's form; empty for an answer without an error.

    Raises:
        AssertionError: The answer is not in the form of the service's protocol, or the service has no such code.
    """
    assert answer.status == 200 or 400 <= answer.status < 500, answer
    target = request.headers.get("x-amz-target", "")
    other = OF_TARGETS.get(target[: target.find(".") + 1])
    if case.operation == UNSIGNED and other:  # without a signature, the target says whose request it is
        code = parse(*other, answer)
        assert code in SIGNATURE_CODES[other[0]] | {NO_SERVICE}, answer
        return code
    code = parse(draft.service, requested_operation(draft, request), answer)
    allowed = SIGNATURE_CODES[draft.service] | {NO_SERVICE} if case.forges else {*CODES[draft.service], ""}
    if case.operation == UNSIGNED:
        allowed |= {NO_SERVICE}  # without a signature, a damaged form can be one of no service
    assert code in allowed, f"{draft.service} has no code {code!r} for this: {answer}"
    return code


def requested_operation(draft: Draft, request: HttpRequest) -> str:
    """The operation that a damaged request asks for; that of the draft if there is no such operation."""
    path, _, query = request.target.partition("?")
    received = Request(method=request.method, path=path, query=query, headers=request.headers, body=request.body)
    try:
        return wire(draft.service).operation(received)
    except AwsFault:
        return draft.operation


@functools.cache
def wire(service: str) -> Wire:
    """The protocol of a service."""
    return wire_of(models.load(service))


def parse(service: str, operation: str, answer: HttpAnswer) -> str:
    """The code of the error as botocore reads it; empty for an answer without one."""
    if answer.headers.get("x-amzn-errortype") == NO_SERVICE:  # not always in the protocol of `service`
        return NO_SERVICE
    model = models.load(service)
    headers = HeadersDict(answer.headers)
    response = {"status_code": answer.status, "headers": headers, "body": answer.body, "context": {}}
    shape: Any = model.operation_model(operation).output_shape  # the stubs do not allow None
    try:
        parsed = create_parser(model.protocol).parse(response, shape)
    except (ResponseParserError, LookupError, ValueError) as error:
        raise AssertionError(f"botocore cannot parse the answer: {error!r}: {answer}") from error
    code = str(parsed.get("Error", {}).get("Code", ""))
    assert (answer.status >= 400) is bool(code), answer
    return code


@asynccontextmanager
async def attack(directory: Path) -> AsyncGenerator[Attack]:
    """Start an emulator with some resources; at the end, all its records must be on disk."""
    async with serve_issuer() as issuer, cloud(directory / "state") as (emulator, aws):
        values = Values(await populate(emulator, aws, issuer))
        async with HttpConnection(*authority(emulator.url)) as connection:
            target = Attack(emulator, values, connection, Changes.observe(emulator.world.store))
            yield target
        await emulator.world.clock.run_due_steps()
        records = target.changes.records()

    store = await asyncio.to_thread(Store.open, directory / "state" / "state.db")
    read = Changes.observe(store).records()
    await asyncio.to_thread(store.close)
    assert read == records


@pytest.mark.timeout(900)
@pytest.mark.requirement("emulator.refuses-as-aws", "emulator.answers-others")
@pytest.mark.parametrize(
    "seed",
    [
        pytest.param(seed, id=f"seed-{seed}.", marks=[pytest.mark.fuzz_requests] if seed >= SEEDS else [])
        for seed in range(MILLION)
    ],
)
async def test_damaged_requests_get_answers_of_aws(tmp_path: Path, seed: int, caplog: pytest.LogCaptureFixture) -> None:
    """CWE-20. IAM, STS, KMS and EKS API references, "Common Errors"; EC2 API Reference, "Error codes"."""
    failures: list[str] = []
    async with attack(tmp_path) as target:
        for case in cases(seed):
            caplog.clear()
            try:
                await target.send(case)
                assert errors(caplog) == []
            except AssertionError as error:
                failures.append(await target.shrink(case, error))

    assert not failures, "\n\n".join([f"{len(failures)} failures; run again with {THIS} -k seed-{seed}.", *failures])
    assert target.codes[""] > REQUESTS / 20


def errors(caplog: pytest.LogCaptureFixture) -> Sequence[str]:
    """The errors in the log; there are warnings about a cluster with more machines than the process has descriptors."""
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


async def test_damaged_requests_for_metadata_and_issuer_documents_change_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """These routes have no signatures, so that any program on the machine can send them anything."""
    chance = random.Random(1)  # noqa: S311 - must be repeatable
    async with attack(tmp_path) as target:
        emulator, store = target.emulator, target.emulator.world.store
        (issuer,) = store.oidc_issuers.values()
        token = {"x-aws-ec2-metadata-token-ttl-seconds": "60"}
        metadata = [emulator.metadata_url(id_) for id_ in store.instances]
        drafts = [
            *((url, "PUT", "/latest/api/token", token) for url in metadata),
            *((url, "GET", "/latest/meta-data/", {"x-aws-ec2-metadata-token": "x"}) for url in metadata),
            *((emulator.url, "GET", urlsplit(issuer.id).path + end, {}) for end in ROUTES),
        ]
        connections = {url: HttpConnection(*authority(url)) for url, *_ in drafts}
        statuses = Counter[int]()
        for _ in range(ROUTE_REQUESTS):
            url, method, path, headers = chance.choice(drafts)
            draft = Draft(service="", operation="", method=method, path=path, headers=headers, is_signed=False)
            for _ in range(chance.choice([0, 1, 1, 2])):
                draft = mutate_route(draft, chance)
            request = sign(draft, url, Credentials("", "")).encode()
            target.changes.clear()
            answer = await connections[url].ask(request)
            statuses[answer.status] += 1
            assert (answer.status < 500, target.changes.names()) == (True, []), (request, answer)
        for connection in connections.values():
            await connection.close()

    assert errors(caplog) == []
    assert statuses[200] > ROUTE_REQUESTS / 20


def authority(url: str) -> tuple[str, int]:
    """The host and the port of a URL."""
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or 0
