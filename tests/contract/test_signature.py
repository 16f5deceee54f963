"""Every request's signature is verified, and refused in its service's own words."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple
from urllib.parse import quote, urlsplit

import aiohttp
import boto3  # type: ignore[import-untyped] # it has no types of its own
import pytest
from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperpod_ebs.emulator.http.auth import Caller, Key, Keys, authenticate
from hyperpod_ebs.emulator.http.faults import Faults
from hyperpod_ebs.emulator.http.server import Server
from hyperpod_ebs.emulator.wire.messages import Request
from hyperpod_ebs.emulator.wire.operations import Answer, Asked, AwsFault, Call, Operations

KEY: Final = Key(secret="a/secret+", account="123456789012", arn="arn:aws:iam::123456789012:user/me", user_id="AIDME")
FORM: Final = "application/x-www-form-urlencoded; charset=utf-8"
MISMATCH: Final = (
    "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key "
    "and signing method. Consult the service documentation for details."
)
INVALID_TOKEN: Final = "The security token included in the request is invalid."
VALIDATE: Final = "AWS was not able to validate the provided access credentials"
METHODS: Final = {
    "ec2": "describe_volumes",
    "sagemaker": "list_clusters",
    "eks": "list_clusters",
    "sts": "get_caller_identity",
}


def keys() -> Keys:
    known = Keys()
    known.add("AKIDEXAMPLE", KEY)
    return known


def signed(  # noqa: PLR0913 - a request is that much
    *,
    service: str = "ec2",
    method: str = "POST",
    path: str = "/",
    query: str = "",
    body: bytes = b"Action=DescribeVolumes",
    headers: dict[str, str] | None = None,
    key_id: str = "AKIDEXAMPLE",
    secret: str = KEY.secret,
    presigned: bool = False,
) -> Request:
    """A request as botocore signs it, now."""
    url = f"http://127.0.0.1:4566{path}" + (f"?{query}" if query else "")
    request = AWSRequest(method=method, url=url, data=body, headers=headers or {})
    signer = SigV4QueryAuth if presigned else SigV4Auth
    signer(Credentials(key_id, secret), service, "us-west-2").add_auth(request)
    parts = urlsplit(str(request.url))
    sent = {name.lower(): value for name, value in request.headers.items()}
    return Request(
        method=method, path=parts.path, query=parts.query, headers={**sent, "host": "127.0.0.1:4566"}, body=body
    )


def verify(request: Request, *, service: str = "ec2", later: timedelta = timedelta()) -> Caller:
    return authenticate(request, service=service, keys=keys(), now=datetime.now(UTC) + later)


def changed(request: Request, **parts: Any) -> Request:
    fields = {name: getattr(request, name) for name in ("method", "path", "query", "headers", "body")}
    return Request(**{**fields, **parts})


def test_the_caller_is_the_owner_of_the_key_in_the_scope_of_the_signature() -> None:
    """Ours: one endpoint serves all, so the signature says for which service and region."""
    caller = verify(signed(service="sagemaker"))

    assert caller == Caller(key=KEY, service="sagemaker", region="us-west-2")


@pytest.mark.requirement("secrets.not-logged")
def test_the_secret_is_not_shown() -> None:
    """INVARIANTS: no secret in a log."""
    assert KEY.secret not in repr(KEY)


PATHS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="?#"), max_size=8)
PAIRS = st.lists(
    st.tuples(st.text("abAB&=+ /~é%", min_size=1, max_size=4), st.text("abAB&=+ /~é%", max_size=4)), max_size=4
)


@settings(deadline=None)
@given(
    path=st.lists(PATHS, max_size=3),
    pairs=PAIRS,
    body=st.binary(max_size=20),
    method=st.sampled_from(["GET", "POST", "DELETE"]),
    header=st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E) | st.just(" "), max_size=8),
    presigned=st.booleans(),
)
def test_whatever_botocore_signs_is_accepted(  # noqa: PLR0913 - a request is that much
    *, path: list[str], pairs: list[tuple[str, str]], body: bytes, method: str, header: str, presigned: bool
) -> None:
    """AWS General Reference: what is signed is what was sent, in its canonical form."""
    request = signed(
        method=method,
        path="/" + "/".join(quote(part, safe="~") for part in path),
        query="&".join(f"{quote(name, safe='~')}={quote(value, safe='~')}" for name, value in pairs),
        body=b"" if presigned else body,
        headers={} if presigned else {"x-more": header},
        presigned=presigned,
    )

    assert verify(request).key == KEY


class Change(NamedTuple):
    """Something that is not as it was when it was signed."""

    id: str
    change: Callable[[Request], Request]


CHANGES = [
    Change("method", lambda request: changed(request, method="PUT")),
    Change("path", lambda request: changed(request, path="/other")),
    Change("query", lambda request: changed(request, query="a=c")),
    Change("body", lambda request: changed(request, body=b"Action=DeleteVolume")),
    Change("host", lambda request: changed(request, headers={**request.headers, "host": "elsewhere"})),
    Change("a signed header", lambda request: changed(request, headers={**request.headers, "x-amz-target": "Other"})),
    Change(
        "the digest of the body", lambda request: with_authorization(request, "host;", "x-amz-content-sha256;host;")
    ),
    Change("the region", lambda request: with_authorization(request, "us-west-2", "us-east-1")),
    Change("the headers that are signed", lambda request: with_authorization(request, "host;", "")),
    Change("the day of the key", lambda request: with_authorization(request, "AKIDEXAMPLE/20", "AKIDEXAMPLE/21")),
    Change("the signature", lambda request: with_authorization(request, "Signature=" + "", "Signature=0", cut=1)),
]


def with_authorization(request: Request, old: str, new: str, *, cut: int = 0) -> Request:
    value = request.headers["authorization"].replace(old, new)
    return changed(request, headers={**request.headers, "authorization": value[: len(value) - cut]})


@pytest.mark.parametrize("case", CHANGES, ids=[case.id for case in CHANGES])
def test_what_was_changed_on_the_way_is_refused(case: Change) -> None:
    """AWS General Reference: that is what signatures are for."""
    request = signed(path="/here", query="a=b", headers={"x-amz-target": "One"})

    with pytest.raises(AwsFault) as refused:
        verify(case.change(request))

    assert (refused.value.code, refused.value.message, refused.value.status) == ("SignatureDoesNotMatch", MISMATCH, 403)


def test_a_body_other_than_the_digest_in_the_header_is_refused() -> None:
    """Ours: a digest that is signed proves nothing about another body."""
    request = signed(headers={"x-amz-content-sha256": "0" * 64})

    with pytest.raises(AwsFault, match="SignatureDoesNotMatch"):
        verify(request)


class Trouble(NamedTuple):
    """What is wrong with a request, and how a service says it."""

    service: str
    code: str
    message: str
    status: int


UNKNOWN = [
    Trouble("ec2", "AuthFailure", VALIDATE, 401),
    Trouble("sagemaker", "UnrecognizedClientException", INVALID_TOKEN, 400),
    Trouble("eks", "UnrecognizedClientException", INVALID_TOKEN, 403),
    Trouble("sts", "InvalidClientTokenId", INVALID_TOKEN, 403),
]
WRONG = [
    Trouble("ec2", "SignatureDoesNotMatch", MISMATCH, 403),
    Trouble("sagemaker", "InvalidSignatureException", MISMATCH, 400),
    Trouble("eks", "InvalidSignatureException", MISMATCH, 403),
    Trouble("sts", "SignatureDoesNotMatch", MISMATCH, 403),
]
UNSIGNED = [
    Trouble("ec2", "MissingParameter", "The request must contain the parameter AWSAccessKeyId", 400),
    Trouble("sagemaker", "MissingAuthenticationTokenException", "Missing Authentication Token", 400),
    Trouble("eks", "MissingAuthenticationTokenException", "Missing Authentication Token", 403),
    Trouble("sts", "MissingAuthenticationToken", "Request is missing Authentication Token", 403),
]
SKEWED = [
    Trouble("ec2", "RequestExpired", "Request has expired.", 400),
    Trouble("sagemaker", "InvalidSignatureException", "Signature expired: ", 400),
    Trouble("eks", "InvalidSignatureException", "Signature expired: ", 403),
    Trouble("sts", "SignatureDoesNotMatch", "Signature expired: ", 403),
]


def services(cases: list[Trouble]) -> list[str]:
    return [case.service for case in cases]


@pytest.mark.parametrize("case", SKEWED, ids=services(SKEWED))
@pytest.mark.parametrize("minutes", [6, -6])
def test_a_clock_that_is_more_than_five_minutes_off_is_refused(case: Trouble, minutes: int) -> None:
    """AWS: the signature is good for five minutes either way."""
    request = signed(service=case.service)

    with pytest.raises(AwsFault) as refused:
        verify(request, later=timedelta(minutes=minutes))

    said = case.message if minutes > 0 else case.message.replace("Signature expired", "Signature not yet current")
    assert (refused.value.code, refused.value.status) == (case.code, case.status)
    assert refused.value.message.startswith(said)


def test_a_late_request_is_told_by_how_much() -> None:
    """AWS: the two times and the border between them stand in the message."""
    request = signed(service="sagemaker")
    sent = request.headers["x-amz-date"]
    now = datetime.strptime(sent, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC) + timedelta(minutes=6)

    with pytest.raises(AwsFault) as refused:
        authenticate(request, service="sagemaker", keys=keys(), now=now)

    border, present = (f"{time:%Y%m%dT%H%M%SZ}" for time in (now - timedelta(minutes=5), now))
    assert refused.value.message == f"Signature expired: {sent} is now earlier than {border} ({present} - 5 min.)"


@pytest.mark.parametrize("minutes", [4, -4])
def test_a_clock_that_is_less_off_is_accepted(minutes: int) -> None:
    """AWS: clocks are never quite right."""
    assert verify(signed(), later=timedelta(minutes=minutes)).key == KEY


def test_a_presigned_url_is_good_for_fifteen_minutes() -> None:
    """AWS: STS takes no longer one, and EKS's tokens are made of them."""
    request = signed(service="sts", method="GET", query="Action=GetCallerIdentity", body=b"", presigned=True)

    verify(request, later=timedelta(minutes=14))

    with pytest.raises(AwsFault, match="Signature expired"):
        verify(request, later=timedelta(minutes=16))


@pytest.mark.parametrize("case", UNKNOWN, ids=services(UNKNOWN))
def test_an_unknown_key_is_refused(case: Trouble) -> None:
    """AWS: each service has its own words for it."""
    with pytest.raises(AwsFault) as refused:
        verify(signed(service=case.service, key_id="AKIDOTHER"))

    fault = refused.value
    assert (fault.code, fault.message, fault.status) == (case.code, case.message, case.status)


ELSEWHERE = [
    Trouble("ec2", "AuthFailure", "Credential should be scoped to a valid region, not 'us-west-2'.", 401),
    Trouble("sts", "SignatureDoesNotMatch", "Credential should be scoped to a valid region, not 'us-west-2'.", 403),
    Trouble("eks", "InvalidSignatureException", "Credential should be scoped to a valid region, not 'us-west-2'.", 403),
    Trouble(
        "sagemaker", "InvalidSignatureException", "Credential should be scoped to a valid region, not 'us-west-2'.", 400
    ),
]


@pytest.mark.parametrize("case", ELSEWHERE, ids=[case.service for case in ELSEWHERE])
def test_a_signature_for_another_region_is_refused(case: Trouble) -> None:
    """AWS: an endpoint is of one region; ours has nothing of any other."""
    known = Keys()
    known.add("AKIDEXAMPLE", replace(KEY, region="us-east-1"))

    with pytest.raises(AwsFault) as refused:
        authenticate(signed(service=case.service), service=case.service, keys=known, now=datetime.now(UTC))

    fault = refused.value
    assert (fault.code, fault.message, fault.status) == (case.code, case.message, case.status)


@pytest.mark.parametrize("part", ["path", "query", "header"])
def test_bytes_that_are_no_text_are_no_match_and_never_fall_over(part: str) -> None:
    """Ours: aiohttp hands on what is no UTF-8 as lone surrogates."""
    honest = signed(headers={"x-note": "plain"})
    parts = {"path": "/\udcff", "query": "a=\udcff", "headers": {**honest.headers, "x-note": "\udcff"}}
    name = "headers" if part == "header" else part

    with pytest.raises(AwsFault, match="SignatureDoesNotMatch"):
        verify(changed(honest, **{name: parts[name]}))


def test_a_key_that_was_removed_is_unknown() -> None:
    """Ours: keys come and go while the emulator runs."""
    known = keys()
    known.remove("AKIDEXAMPLE")

    with pytest.raises(AwsFault, match="AuthFailure"):
        authenticate(signed(), service="ec2", keys=known, now=datetime.now(UTC))


@settings(deadline=None)
@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=60))
def test_any_authorization_at_all_is_refused_and_never_falls_over(text: str) -> None:
    """Ours: what a client sends never looks like a bug of the emulator."""
    for value in (text, f"AWS4-HMAC-SHA256 {text}", f"AWS4-HMAC-SHA256 Credential={text}"):
        request = changed(signed(), headers={"host": "h", "authorization": value})

        with pytest.raises(AwsFault):
            verify(request)


class Everything:
    """One operation of each service, so that there is something to be turned away from."""

    ec2 = Operations["Everything"]()
    sagemaker = Operations["Everything"]()
    eks = Operations["Everything"]()
    sts = Operations["Everything"]()

    def __init__(self, operations: Operations["Everything"]) -> None:
        self.operations = operations

    @ec2("DescribeVolumes")
    @sagemaker("ListClusters")
    @eks("ListClusters")
    @sts("GetCallerIdentity")
    async def answer(self, _: Asked, call: Call) -> Answer:
        """What says who asked, where the operation has room for it."""
        match call.service:
            case "ec2":
                return {"NextToken": call.arn}
            case "sagemaker":
                return {"ClusterSummaries": [], "NextToken": call.arn}
            case "eks":
                return {"nextToken": call.arn}
        return {"Arn": call.arn}


@pytest.fixture
async def url() -> AsyncGenerator[str]:
    together = {name: [Everything(getattr(Everything, name))] for name in METHODS}
    async with Server(services=together, keys=keys(), faults=Faults(), local_routes=[]).serve(
        "127.0.0.1", 0
    ) as address:
        yield address


async def ask(url: str, service: str, *, key_id: str = "AKIDEXAMPLE", secret: str = KEY.secret) -> Any:
    def call() -> Any:
        client: Any = boto3.client(
            service,
            endpoint_url=url,
            region_name="us-west-2",
            aws_access_key_id=key_id,
            aws_secret_access_key=secret,
            config=Config(retries={"total_max_attempts": 1}),
        )
        try:
            return getattr(client, METHODS[service])()
        finally:
            client.close()

    return await asyncio.to_thread(call)


@pytest.mark.parametrize("service", METHODS)
async def test_boto3_with_the_right_secret_is_let_in(url: str, service: str) -> None:
    """Ours: the emulator is for every SDK."""
    answer = await ask(url, service)

    assert KEY.arn in answer.values()


def refusal_of(error: ClientError) -> tuple[object, ...]:
    response: Any = error.response
    said, metadata = response["Error"], response["ResponseMetadata"]
    return said["Code"], said["Message"], metadata["HTTPStatusCode"]


@pytest.mark.parametrize("case", WRONG, ids=services(WRONG))
async def test_boto3_with_a_wrong_secret_is_turned_away(url: str, case: Trouble) -> None:
    """AWS: each service has its own words for it."""
    with pytest.raises(ClientError) as refused:
        await ask(url, case.service, secret="another")

    assert refusal_of(refused.value) == (case.code, case.message, case.status)


@pytest.mark.parametrize("case", UNKNOWN, ids=services(UNKNOWN))
async def test_boto3_with_an_unknown_key_is_turned_away(url: str, case: Trouble) -> None:
    """AWS: each service has its own words for it."""
    with pytest.raises(ClientError) as refused:
        await ask(url, case.service, key_id="AKIDOTHER")

    assert refusal_of(refused.value) == (case.code, case.message, case.status)


BARE: Final[dict[str, dict[str, Any]]] = {
    "ec2": {"data": "Action=DescribeVolumes&Version=2016-11-15", "headers": {"content-type": FORM}},
    "sts": {"data": "Action=GetCallerIdentity&Version=2011-06-15", "headers": {"content-type": FORM}},
    "sagemaker": {"data": "{}", "headers": {"x-amz-target": "SageMaker.ListClusters"}},
    "eks": {},
}


@pytest.mark.parametrize("case", UNSIGNED, ids=services(UNSIGNED))
async def test_a_request_without_a_signature_is_refused_in_the_words_of_the_service_it_looks_like(
    url: str, case: Trouble
) -> None:
    """AWS: each service has its own words for it; here there is only one endpoint for all."""
    method, path = ("GET", "/clusters") if case.service == "eks" else ("POST", "/")

    async with aiohttp.ClientSession() as session, session.request(method, url + path, **BARE[case.service]) as answer:
        status, said = answer.status, await answer.text()
        code_in_header = answer.headers.get("x-amzn-errortype", "")

    assert status == case.status
    assert case.code in said + code_in_header
    assert case.message in said


async def test_a_presigned_url_says_who_signed_it(url: str) -> None:
    """AWS: EKS's tokens are presigned calls of GetCallerIdentity."""

    def presigned() -> str:
        client: Any = boto3.client(
            "sts",
            endpoint_url=url,
            region_name="us-west-2",
            aws_access_key_id="AKIDEXAMPLE",
            aws_secret_access_key=KEY.secret,
        )
        try:
            made: str = client.generate_presigned_url("get_caller_identity", HttpMethod="GET")
            return made
        finally:
            client.close()

    address = await asyncio.to_thread(presigned)

    async with aiohttp.ClientSession() as session, session.get(address) as answer:
        status, said = answer.status, await answer.text()

    assert status == 200
    assert f"<Arn>{KEY.arn}</Arn>" in said
