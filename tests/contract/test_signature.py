"""Each request's signature is verified, and a bad signature gets the error of the service that it is for."""

import asyncio
import re
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

from hyperpod_ebs.emulator.http.auth import Caller, authenticate, read_claim
from hyperpod_ebs.emulator.http.faults import Faults
from hyperpod_ebs.emulator.http.server import Server
from hyperpod_ebs.emulator.http.signature import Claim, expected_signature
from hyperpod_ebs.emulator.identity.identities import SigningKey
from hyperpod_ebs.emulator.wire.messages import Request
from hyperpod_ebs.emulator.wire.operations import Answer, AwsFault, Call, Operations, Parameters
from tests.support.open_access import OpenAccess

SECRET: Final = "a/secret+"
ARN: Final = "arn:aws:iam::123456789012:user/me"
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


def keys(region: str | None = None) -> OpenAccess:
    return OpenAccess("AKIDEXAMPLE", SECRET, region)


def sign(  # noqa: PLR0913 - a request has that many parts
    *,
    service: str = "ec2",
    method: str = "POST",
    path: str = "/",
    query: str = "",
    body: bytes = b"Action=DescribeVolumes",
    headers: dict[str, str] | None = None,
    key_id: str = "AKIDEXAMPLE",
    secret: str = SECRET,
    presigned: bool = False,
) -> Request:
    """Sign a request with botocore, now."""
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
    return authenticate(request, read_claim(request), service=service, keys=keys(), now=datetime.now(UTC) + later)


def replace_parts(request: Request, **parts: Any) -> Request:
    fields = {name: getattr(request, name) for name in ("method", "path", "query", "headers", "body")}
    return Request(**{**fields, **parts})


def test_the_caller_has_the_key_service_and_region_of_the_signature() -> None:
    """One endpoint serves all services, so it learns the service and region from the signature."""
    caller = verify(sign(service="sagemaker"))

    assert caller == Caller(key_id="AKIDEXAMPLE", service="sagemaker", region="us-west-2")


@pytest.mark.requirement("secrets.not-logged")
def test_the_secret_is_not_shown() -> None:
    """The repr of a key can get into a log."""
    assert SECRET not in repr(SigningKey(secret=SECRET, token=SECRET))


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
def test_every_request_that_botocore_signs_is_accepted(  # noqa: PLR0913 - a request has that many parts
    *, path: list[str], pairs: list[tuple[str, str]], body: bytes, method: str, header: str, presigned: bool
) -> None:
    """IAM User Guide, "Create a signed AWS API request": the signature covers the canonical form of the request."""
    request = sign(
        method=method,
        path="/" + "/".join(quote(part, safe="~") for part in path),
        query="&".join(f"{quote(name, safe='~')}={quote(value, safe='~')}" for name, value in pairs),
        body=b"" if presigned else body,
        headers={} if presigned else {"x-more": header},
        presigned=presigned,
    )

    assert verify(request).key_id == "AKIDEXAMPLE"


class Change(NamedTuple):
    """A change of a request after it was signed."""

    id: str
    change: Callable[[Request], Request]


CHANGES = [
    Change("method", lambda request: replace_parts(request, method="PUT")),
    Change("path", lambda request: replace_parts(request, path="/other")),
    Change("query", lambda request: replace_parts(request, query="a=c")),
    Change("body", lambda request: replace_parts(request, body=b"Action=DeleteVolume")),
    Change("host", lambda request: replace_parts(request, headers={**request.headers, "host": "elsewhere"})),
    Change(
        "a signed header", lambda request: replace_parts(request, headers={**request.headers, "x-amz-target": "Other"})
    ),
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
    return replace_parts(request, headers={**request.headers, "authorization": value[: len(value) - cut]})


@pytest.mark.parametrize("case", CHANGES, ids=[case.id for case in CHANGES])
def test_a_request_that_was_changed_after_signing_is_rejected(case: Change) -> None:
    """IAM User Guide, "AWS Signature Version 4 for API requests"."""
    request = sign(path="/here", query="a=b", headers={"x-amz-target": "One"})

    with pytest.raises(AwsFault) as refused:
        verify(case.change(request))

    assert (refused.value.code, refused.value.message, refused.value.status) == ("SignatureDoesNotMatch", MISMATCH, 403)


def test_a_body_that_differs_from_the_signed_digest_is_rejected() -> None:
    """A signature over the header x-amz-content-sha256 proves nothing about the body that was received."""
    request = sign(headers={"x-amz-content-sha256": "0" * 64})

    with pytest.raises(AwsFault, match="SignatureDoesNotMatch"):
        verify(request)


def sign_headers(request: Request, names: tuple[str, ...]) -> Request:
    """Sign the request again, correctly, but cover only these headers."""
    claim = Claim.parse(request)
    assert claim is not None
    shortened = replace(claim, headers=names)
    if claim.presigned:
        query = re.sub("X-Amz-SignedHeaders=[^&]*", f"X-Amz-SignedHeaders={quote(';'.join(names))}", request.query)
        request = replace_parts(request, query=query)
        return replace_parts(
            request,
            query=re.sub("Signature=[^&]*", f"Signature={expected_signature(shortened, SECRET, request)}", query),
        )
    value = re.sub("SignedHeaders=[^,]*", f"SignedHeaders={';'.join(names)}", request.headers["authorization"])
    value = re.sub("Signature=.*", f"Signature={expected_signature(shortened, SECRET, request)}", value)
    return replace_parts(request, headers={**request.headers, "authorization": value})


def sign_for(url: str, body: bytes, headers: dict[str, str]) -> dict[str, str]:
    """The headers of a request to EC2 at `url`, with its signature."""
    request = AWSRequest(method="POST", url=url, data=body, headers=headers)
    SigV4Auth(Credentials("AKIDEXAMPLE", SECRET), "ec2", "us-west-2").add_auth(request)
    return dict(request.headers.items())


@pytest.mark.parametrize("name", ["x-amz-target", "X-Amz-Security-Token", "x-amz-new"])
async def test_an_amz_header_that_was_added_after_signing_is_rejected(url: str, name: str) -> None:
    """IAM User Guide, "Create a signed AWS API request": all x-amz-* headers of a request must be signed."""
    body = b"Action=DescribeVolumes&Version=2016-11-15"
    request = sign_for(url, body, {"content-type": FORM})

    async with aiohttp.ClientSession() as session:
        async with session.post(url, data=body, headers=request) as answer:
            unchanged = answer.status
        async with session.post(url, data=body, headers={**request, name: "added"}) as answer:
            changed, text = answer.status, await answer.text()

    assert unchanged == 200
    assert (changed >= 400, "AuthFailure" in text or "SignatureDoesNotMatch" in text) == (True, True), text


@pytest.mark.parametrize(
    ("required", "presigned"),
    [(("host", "x-amz-date", "x-amz-target"), False), (("host", "x-amz-target"), True)],
    ids=["a header", "a presigned URL, whose time is in the query"],
)
def test_a_correct_signature_that_does_not_cover_the_host_and_amz_headers_is_rejected(
    required: tuple[str, ...],
    presigned: bool,  # noqa: FBT001 - a case
) -> None:
    """IAM User Guide, "Create a signed AWS API request": SignedHeaders must include host and the x-amz-* headers."""
    headers = {"x-note": "signed too", "x-amz-target": "One"}
    request = sign(method="GET", query="a=b", body=b"", headers=headers, presigned=presigned)

    verify(sign_headers(request, (*required, "x-note")))
    for name in required:
        fewer = (*(other for other in required if other != name), "x-note")
        with pytest.raises(AwsFault, match="SignatureDoesNotMatch"):
            verify(sign_headers(request, fewer))


class ErrorCase(NamedTuple):
    """A service's error for a request with a bad signature."""

    service: str
    code: str
    message: str
    status: int


UNKNOWN = [
    ErrorCase("ec2", "AuthFailure", VALIDATE, 401),
    ErrorCase("sagemaker", "UnrecognizedClientException", INVALID_TOKEN, 400),
    ErrorCase("eks", "UnrecognizedClientException", INVALID_TOKEN, 403),
    ErrorCase("sts", "InvalidClientTokenId", INVALID_TOKEN, 403),
]
WRONG = [
    ErrorCase("ec2", "SignatureDoesNotMatch", MISMATCH, 403),
    ErrorCase("sagemaker", "InvalidSignatureException", MISMATCH, 400),
    ErrorCase("eks", "InvalidSignatureException", MISMATCH, 403),
    ErrorCase("sts", "SignatureDoesNotMatch", MISMATCH, 403),
]
UNSIGNED = [
    ErrorCase("ec2", "MissingParameter", "The request must contain the parameter AWSAccessKeyId", 400),
    ErrorCase("sagemaker", "MissingAuthenticationTokenException", "Missing Authentication Token", 400),
    ErrorCase("eks", "MissingAuthenticationTokenException", "Missing Authentication Token", 403),
    ErrorCase("sts", "MissingAuthenticationToken", "Request is missing Authentication Token", 403),
]
SKEWED = [
    ErrorCase("ec2", "RequestExpired", "Request has expired.", 400),
    ErrorCase("sagemaker", "InvalidSignatureException", "Signature expired: ", 400),
    ErrorCase("eks", "InvalidSignatureException", "Signature expired: ", 403),
    ErrorCase("sts", "SignatureDoesNotMatch", "Signature expired: ", 403),
]


def services(cases: list[ErrorCase]) -> list[str]:
    return [case.service for case in cases]


@pytest.mark.parametrize("case", SKEWED, ids=services(SKEWED))
@pytest.mark.parametrize("minutes", [6, -6])
def test_a_request_from_a_clock_more_than_five_minutes_off_is_rejected(case: ErrorCase, minutes: int) -> None:
    """IAM User Guide, "AWS Signature Version 4": a request must arrive within five minutes of its timestamp."""
    request = sign(service=case.service)

    with pytest.raises(AwsFault) as refused:
        verify(request, later=timedelta(minutes=minutes))

    message = case.message if minutes > 0 else case.message.replace("Signature expired", "Signature not yet current")
    assert (refused.value.code, refused.value.status) == (case.code, case.status)
    assert refused.value.message.startswith(message)


def test_the_error_for_a_late_request_contains_both_times_and_the_limit() -> None:
    """AWS's message has the request's time, the limit, the server's time and the allowed difference."""
    request = sign(service="sagemaker")
    sent = request.headers["x-amz-date"]
    now = datetime.strptime(sent, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC) + timedelta(minutes=6)

    with pytest.raises(AwsFault) as refused:
        authenticate(request, read_claim(request), service="sagemaker", keys=keys(), now=now)

    limit, present = (f"{time:%Y%m%dT%H%M%SZ}" for time in (now - timedelta(minutes=5), now))
    assert refused.value.message == f"Signature expired: {sent} is now earlier than {limit} ({present} - 5 min.)"


@pytest.mark.parametrize("minutes", [4, -4])
def test_a_request_from_a_clock_less_than_five_minutes_off_is_accepted(minutes: int) -> None:
    assert verify(sign(), later=timedelta(minutes=minutes)).key_id == "AKIDEXAMPLE"


def test_a_presigned_url_is_valid_for_fifteen_minutes() -> None:
    """aws-iam-authenticator, pkg/token/token.go: STS accepts the presigned URL in an EKS token for fifteen minutes."""
    request = sign(service="sts", method="GET", query="Action=GetCallerIdentity", body=b"", presigned=True)

    verify(request, later=timedelta(minutes=14))

    with pytest.raises(AwsFault, match="Signature expired"):
        verify(request, later=timedelta(minutes=16))


@pytest.mark.parametrize("case", UNKNOWN, ids=services(UNKNOWN))
def test_an_unknown_key_is_rejected(case: ErrorCase) -> None:
    """Each service has its own error."""
    with pytest.raises(AwsFault) as refused:
        verify(sign(service=case.service, key_id="AKIDOTHER"))

    fault = refused.value
    assert (fault.code, fault.message, fault.status) == (case.code, case.message, case.status)


ELSEWHERE = [
    ErrorCase("ec2", "AuthFailure", "Credential should be scoped to a valid region, not 'us-west-2'.", 401),
    ErrorCase("sts", "SignatureDoesNotMatch", "Credential should be scoped to a valid region, not 'us-west-2'.", 403),
    ErrorCase(
        "eks", "InvalidSignatureException", "Credential should be scoped to a valid region, not 'us-west-2'.", 403
    ),
    ErrorCase(
        "sagemaker", "InvalidSignatureException", "Credential should be scoped to a valid region, not 'us-west-2'.", 400
    ),
]


@pytest.mark.parametrize("case", ELSEWHERE, ids=[case.service for case in ELSEWHERE])
def test_a_signature_for_another_region_is_rejected(case: ErrorCase) -> None:
    """An endpoint of AWS belongs to one region, and the emulator is one region's endpoint."""
    request = sign(service=case.service)

    with pytest.raises(AwsFault) as refused:
        authenticate(request, read_claim(request), service=case.service, keys=keys("us-east-1"), now=datetime.now(UTC))

    fault = refused.value
    assert (fault.code, fault.message, fault.status) == (case.code, case.message, case.status)


@pytest.mark.parametrize("presigned", [False, True])
def test_a_session_token_that_is_not_utf_8_is_rejected_without_a_crash(*, presigned: bool) -> None:
    """It is compared with the key's own token before the signature is verified."""
    original = sign(method="GET", body=b"", presigned=presigned)
    headers = {**original.headers, "x-amz-security-token": "\udcff"}
    query = f"{original.query}&X-Amz-Security-Token=\udcff" if presigned else original.query

    with pytest.raises(AwsFault, match="AuthFailure"):
        verify(replace_parts(original, headers=headers, query=query))


@pytest.mark.parametrize("presigned", [False, True])
def test_a_long_credential_is_rejected(*, presigned: bool) -> None:
    """A caller without the secret must not fill the memory with the signing keys of long scopes."""
    request = sign(method="GET", body=b"", key_id="A" * 300, presigned=presigned)

    with pytest.raises(AwsFault) as refused:
        verify(request, service="sts")

    assert refused.value.code == "IncompleteSignature"


@pytest.mark.parametrize("part", ["path", "query", "header"])
def test_a_request_with_bytes_that_are_not_utf_8_is_rejected_without_a_crash(part: str) -> None:
    """Aiohttp represents bytes that are not UTF-8 as lone surrogates, which cannot be encoded again."""
    original = sign(headers={"x-note": "plain"})
    parts = {"path": "/\udcff", "query": "a=\udcff", "headers": {**original.headers, "x-note": "\udcff"}}
    name = "headers" if part == "header" else part

    with pytest.raises(AwsFault, match="SignatureDoesNotMatch"):
        verify(replace_parts(original, **{name: parts[name]}))


@settings(deadline=None)
@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=60))
def test_any_authorization_header_is_rejected_without_a_crash(text: str) -> None:
    """A bad request must never look like a bug of the emulator."""
    for value in (text, f"AWS4-HMAC-SHA256 {text}", f"AWS4-HMAC-SHA256 Credential={text}"):
        request = replace_parts(sign(), headers={"host": "h", "authorization": value})

        with pytest.raises(AwsFault):
            verify(request)


class Everything:
    """One operation of each service."""

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
    async def answer(self, _: Parameters, call: Call) -> Answer:
        """Answer the caller's ARN in a member that the operation's output has."""
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
    async with Server(services=together, access=keys(), faults=Faults(), local_routes=[]).serve(
        "127.0.0.1", 0
    ) as address:
        yield address


async def ask(url: str, service: str, *, key_id: str = "AKIDEXAMPLE", secret: str = SECRET) -> Any:
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
async def test_boto3_with_the_right_secret_gets_an_answer(url: str, service: str) -> None:
    answer = await ask(url, service)

    assert ARN in answer.values()


def error_of(raised: ClientError) -> tuple[object, ...]:
    response: Any = raised.response
    error, metadata = response["Error"], response["ResponseMetadata"]
    return error["Code"], error["Message"], metadata["HTTPStatusCode"]


@pytest.mark.parametrize("case", WRONG, ids=services(WRONG))
async def test_boto3_with_a_wrong_secret_gets_the_service_s_error(url: str, case: ErrorCase) -> None:
    """Each service has its own error."""
    with pytest.raises(ClientError) as refused:
        await ask(url, case.service, secret="another")

    assert error_of(refused.value) == (case.code, case.message, case.status)


@pytest.mark.parametrize("case", UNKNOWN, ids=services(UNKNOWN))
async def test_boto3_with_an_unknown_key_gets_the_service_s_error(url: str, case: ErrorCase) -> None:
    """Each service has its own error."""
    with pytest.raises(ClientError) as refused:
        await ask(url, case.service, key_id="AKIDOTHER")

    assert error_of(refused.value) == (case.code, case.message, case.status)


BARE: Final[dict[str, dict[str, Any]]] = {
    "ec2": {"data": "Action=DescribeVolumes&Version=2016-11-15", "headers": {"content-type": FORM}},
    "sts": {"data": "Action=GetCallerIdentity&Version=2011-06-15", "headers": {"content-type": FORM}},
    "sagemaker": {"data": "{}", "headers": {"x-amz-target": "SageMaker.ListClusters"}},
    "eks": {},
}


@pytest.mark.parametrize("case", UNSIGNED, ids=services(UNSIGNED))
async def test_an_unsigned_request_gets_the_error_of_the_service_that_it_resembles(url: str, case: ErrorCase) -> None:
    """Each service has its own error, but all services have one endpoint here."""
    method, path = ("GET", "/clusters") if case.service == "eks" else ("POST", "/")

    async with aiohttp.ClientSession() as session, session.request(method, url + path, **BARE[case.service]) as answer:
        status, text = answer.status, await answer.text()
        code_in_header = answer.headers.get("x-amzn-errortype", "")

    assert status == case.status
    assert case.code in text + code_in_header
    assert case.message in text


async def test_sts_answers_the_signer_of_a_presigned_url(url: str) -> None:
    """aws-iam-authenticator: an EKS token is a presigned call of GetCallerIdentity."""

    def create_presigned_url() -> str:
        client: Any = boto3.client(
            "sts",
            endpoint_url=url,
            region_name="us-west-2",
            aws_access_key_id="AKIDEXAMPLE",
            aws_secret_access_key=SECRET,
        )
        try:
            address: str = client.generate_presigned_url("get_caller_identity", HttpMethod="GET")
            return address
        finally:
            client.close()

    address = await asyncio.to_thread(create_presigned_url)

    async with aiohttp.ClientSession() as session, session.get(address) as answer:
        status, text = answer.status, await answer.text()

    assert status == 200
    assert f"<Arn>{ARN}</Arn>" in text
