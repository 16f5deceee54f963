"""AssumeRoleWithWebIdentity: which tokens prove an identity, and what the trust policy says about it."""

import asyncio
import base64
import hashlib
import hmac
import json
import ssl
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple

import jwt
import pytest
import trustme
from aiohttp import web
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from hyperpod_ebs.emulator.emulator import Emulator
from hyperpod_ebs.emulator.sts import provider_keys
from tests.support.emulator_clients import Aws, cloud
from tests.support.pod_tokens import pod_token
from tests.support.roles import ACCOUNT, connect, policy, put_provider, put_role
from tests.support.token_issuer import AUDIENCE, SUBJECT, TokenIssuer, rsa_key, serve_issuer

HOUR = 3600
NO_KEY = "Couldn't retrieve verification key from your identity provider"


def trust(provider: str, **condition: Any) -> dict[str, Any]:
    """The trust in the bearers of a provider's tokens; conditions are keys of StringEquals after the issuer's URL."""
    url = provider.partition("oidc-provider/")[2]
    statement = {
        "Effect": "Allow",
        "Principal": {"Federated": provider},
        "Action": "sts:AssumeRoleWithWebIdentity",
        "Condition": {"StringEquals": {f"{url}:{name}": value for name, value in condition.items()}},
    }
    return statement if condition else {name: statement[name] for name in ("Effect", "Principal", "Action")}


@pytest.fixture
async def issuer() -> AsyncGenerator[TokenIssuer]:
    async with serve_issuer() as served:
        yield served


@pytest.fixture
def provider(emulator: Emulator, issuer: TokenIssuer) -> str:
    """The ARN of the issuer as a provider of the account."""
    return put_provider(emulator, issuer.url, AUDIENCE, "another")


@pytest.fixture
def role(emulator: Emulator, provider: str) -> str:
    """A role that trusts the provider's subject and audience, as IRSA's roles do."""
    describe = {"Effect": "Allow", "Action": "ec2:DescribeVolumes", "Resource": "*"}
    return put_role(emulator, "pod", trust(provider, sub=SUBJECT, aud=AUDIENCE), allow=describe)


async def assume(aws: Aws, role: str, token: str, **members: Any) -> Any:
    """Assume the role with the token."""
    members = {"RoleSessionName": "me", **members}
    return await aws("sts", "assume_role_with_web_identity", RoleArn=role, WebIdentityToken=token, **members)


async def refuse(aws: Aws, role: str, token: str, **members: Any) -> tuple[str, str]:
    """Assume the role with the token, which must fail; return the error."""
    members = {"RoleSessionName": "me", **members}
    return await aws.expect_error(
        "sts", "assume_role_with_web_identity", RoleArn=role, WebIdentityToken=token, **members
    )


async def test_a_token_gives_a_session_of_the_role(
    emulator: Emulator, issuer: TokenIssuer, provider: str, role: str
) -> None:
    """EKS User Guide, "IAM roles for service accounts"; the caller has no other credentials."""
    stranger = await connect(emulator, {"AccessKeyId": "AKIA0", "SecretAccessKey": "none"})

    answer = await assume(stranger, role, issuer.token())
    session = await connect(emulator, answer["Credentials"], "sts", "ec2")
    identity = await session("sts", "get_caller_identity")
    volumes = await session.ec2("describe_volumes")

    assert identity["Arn"] == answer["AssumedRoleUser"]["Arn"] == f"arn:aws:sts::{ACCOUNT}:assumed-role/pod/me"
    assert volumes["Volumes"] == []
    assert (answer["SubjectFromWebIdentityToken"], answer["Audience"]) == (SUBJECT, AUDIENCE)
    assert answer["Provider"] == provider


@pytest.mark.parametrize("algorithm", ["RS256", "RS384", "RS512", "ES256"])
async def test_every_algorithm_of_aws_is_accepted(aws: Aws, issuer: TokenIssuer, role: str, algorithm: str) -> None:
    """IAM User Guide, "Create an OpenID Connect (OIDC) identity provider in IAM"."""
    key = "curve" if algorithm == "ES256" else "one"

    await assume(aws, role, issuer.token(key=key, algorithm=algorithm))


async def test_the_token_of_a_service_account_of_an_eks_cluster_is_verified_without_a_connection(
    emulator: Emulator, aws: Aws
) -> None:
    """The emulator is the issuer itself."""
    await aws.create_eks_cluster()
    cluster = (await aws("eks", "describe_cluster", name="eks"))["cluster"]
    url = cluster["identity"]["oidc"]["issuer"]
    role = put_role(emulator, "irsa", trust(put_provider(emulator, url, AUDIENCE), aud=AUDIENCE))
    token = pod_token(emulator, "eks", aud=[AUDIENCE])

    answer = await assume(aws, role, token)
    code, text = await refuse(aws, role, pod_token(emulator, "eks"))

    assert answer["SubjectFromWebIdentityToken"] == "system:serviceaccount:kube-system:ebs"
    assert (code, text) == ("InvalidIdentityToken", "Incorrect token audience")


async def test_irsa_works_as_the_eks_user_guide_sets_it_up(emulator: Emulator, aws: Aws) -> None:
    """EKS User Guide, "Create an IAM OIDC provider for your cluster" and "Assign IAM roles to service accounts"."""
    await aws.create_eks_cluster()
    url = (await aws("eks", "describe_cluster", name="eks"))["cluster"]["identity"]["oidc"]["issuer"]
    created = await aws("iam", "create_open_id_connect_provider", Url=url, ClientIDList=[AUDIENCE])
    document = policy(
        trust(created["OpenIDConnectProviderArn"], aud=AUDIENCE, sub="system:serviceaccount:kube-system:ebs-csi")
    )
    role = (await aws("iam", "create_role", RoleName="irsa", AssumeRolePolicyDocument=document))["Role"]["Arn"]
    driver = "arn:aws:iam::aws:policy/AmazonEBSCSIDriverPolicyV2"
    await aws("iam", "attach_role_policy", RoleName="irsa", PolicyArn=driver)

    claims = {"aud": [AUDIENCE], "sub": "system:serviceaccount:kube-system:ebs-csi"}
    answer = await assume(aws, role, pod_token(emulator, "eks", **claims))
    session = await connect(emulator, answer["Credentials"], "ec2")
    volumes = await session.ec2("describe_volumes")
    other = await refuse(aws, role, pod_token(emulator, "eks", aud=[AUDIENCE]))

    assert (volumes["Volumes"], other[0]) == ([], "AccessDenied")


async def test_only_an_issuer_on_this_machine_may_use_http(emulator: Emulator, aws: Aws, issuer: TokenIssuer) -> None:
    """OpenID Connect Core 1.0, section 2: the issuer's URL has the scheme https."""
    url = "http://192.0.2.1/id"
    role = put_role(emulator, "pod", trust(put_provider(emulator, url, AUDIENCE)))

    created = await aws.expect_error("iam", "create_open_id_connect_provider", Url=f"{url}/2")
    code, text = await refuse(aws, role, issuer.token(iss=url))

    assert created[0] == "ValidationError"
    assert (code, text) == ("InvalidIdentityToken", f"No OpenIDConnect provider found in your account for {url}")


async def test_without_enforcement_the_token_is_still_verified(issuer: TokenIssuer) -> None:
    """`--iam off` is about policies; a caller without a valid token gets no credentials."""
    async with cloud(iam="off") as (emulator, aws):
        provider = put_provider(emulator, issuer.url, AUDIENCE)
        role = put_role(emulator, "pod", trust(provider, sub="system:anonymous"))

        await assume(aws, role, issuer.token())
        forgery = await refuse(aws, role, forged_token(issuer))
        nowhere = await refuse(aws, f"{role}s", issuer.token())

    assert (forgery[0], nowhere[0]) == ("InvalidIdentityToken", "AccessDenied")


async def test_the_slash_at_the_end_of_an_issuer_is_part_of_its_name(
    emulator: Emulator, aws: Aws, issuer: TokenIssuer
) -> None:
    """OpenID Connect Core 1.0, section 2: `iss` is compared exactly; issuers of Auth0 end with a slash."""
    url = f"{issuer.url}/"
    issuer.discovery["issuer"] = url
    created = await aws("iam", "create_open_id_connect_provider", Url=url, ClientIDList=[AUDIENCE])
    arn = created["OpenIDConnectProviderArn"]
    role = put_role(emulator, "app", trust(arn, sub=SUBJECT, aud=AUDIENCE))

    answer = await assume(aws, role, issuer.token(iss=url))
    without_slash = await refuse(aws, role, issuer.token())

    assert (answer["Provider"], arn[-1]) == (arn, "/")
    assert without_slash[0] == "InvalidIdentityToken"


class Bad(NamedTuple):
    """A token that proves nothing, and the error."""

    id: str
    token: Callable[[TokenIssuer], str]
    code: str
    text: str


def unsigned_token(issuer: TokenIssuer) -> str:
    return jwt.encode(issuer.claims(), None, algorithm="none", headers={"kid": "one"})  # type: ignore[arg-type] # alg none has no key


def hmac_token(issuer: TokenIssuer) -> str:
    """A token with an HMAC whose secret is the public key, as PyJWT does not encode it."""
    secret = rsa_key("one").public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    parts = [encode({"alg": "HS256", "typ": "JWT", "kid": "one"}), encode(issuer.claims())]
    mac = hmac.new(secret, ".".join(parts).encode(), hashlib.sha256).digest()
    return ".".join([*parts, base64.urlsafe_b64encode(mac).rstrip(b"=").decode()])


def encode(value: Mapping[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def forged_token(issuer: TokenIssuer) -> str:
    return jwt.encode(issuer.claims(), rsa_key("thief"), algorithm="RS256", headers={"kid": "one"})


def with_payload(issuer: TokenIssuer, **claims: Any) -> str:
    """A token whose claims were changed after it was signed."""
    header, _, signature = issuer.token().split(".")
    return f"{header}.{encode(issuer.claims(**claims))}.{signature}"


def after(**claims: int) -> dict[str, Any]:
    """Claims with times so many seconds from now."""
    return {name: int(time.time()) + seconds for name, seconds in claims.items()}


INVALID = "is not a valid JWT"
BAD = [
    Bad("not a token", lambda _: "abcd", "InvalidIdentityToken", INVALID),
    Bad("algorithm none", unsigned_token, "InvalidIdentityToken", "signature"),
    Bad("HMAC with the public key", hmac_token, "InvalidIdentityToken", "signature"),
    Bad("another subject", lambda each: with_payload(each, sub="root"), "InvalidIdentityToken", "signature"),
    Bad("another key", forged_token, "InvalidIdentityToken", "signature"),
    Bad("unknown key", lambda each: each.token(key="two"), "InvalidIdentityToken", NO_KEY),
    Bad(
        "unknown issuer",
        lambda each: each.token(iss="https://elsewhere.example"),
        "InvalidIdentityToken",
        "No OpenIDConnect provider found in your account for https://elsewhere.example",
    ),
    Bad("no issuer", lambda each: each.token(iss=None), "InvalidIdentityToken", INVALID),
    Bad("path of another issuer", lambda each: each.token(iss=f"{each.url}/x"), "InvalidIdentityToken", "No OpenID"),
    Bad(
        "another scheme",
        lambda each: each.token(iss=each.url.replace("http:", "ftp:")),
        "InvalidIdentityToken",
        "No OpenIDConnect provider",
    ),
    Bad("expired", lambda each: each.token(**after(exp=-1)), "ExpiredTokenException", "Token expired: current"),
    Bad("not yet valid", lambda each: each.token(**after(nbf=HOUR)), "InvalidIdentityToken", "not valid yet"),
    Bad("no expiry", lambda each: each.token(exp=None), "InvalidIdentityToken", "Missing a required claim: exp"),
    Bad("no subject", lambda each: each.token(sub=None), "InvalidIdentityToken", "Missing a required claim: sub"),
    Bad("a number as subject", lambda each: each.token(sub=5), "InvalidIdentityToken", INVALID),
    Bad("no audience", lambda each: each.token(aud=None), "InvalidIdentityToken", "Missing a required claim: aud"),
    Bad("another audience", lambda each: each.token(aud="x"), "InvalidIdentityToken", "Incorrect token audience"),
    Bad(
        "another authorized party",
        lambda each: each.token(azp="x"),
        "InvalidIdentityToken",
        "Incorrect token audience",
    ),
    Bad("padding", lambda each: each.token() + "==", "InvalidIdentityToken", INVALID),
    Bad("foreign characters", lambda each: each.token() + "$", "InvalidIdentityToken", INVALID),
]


@pytest.mark.parametrize("case", BAD, ids=[case.id for case in BAD])
async def test_a_token_that_proves_nothing_is_refused(
    emulator: Emulator, aws: Aws, issuer: TokenIssuer, role: str, case: Bad
) -> None:
    """STS API Reference, AssumeRoleWithWebIdentity, "Errors"; RFC 8725, "JSON Web Token Best Current Practices"."""
    token = case.token(issuer)

    code, text = await refuse(aws, role, token)

    assert code == case.code
    assert case.text in text
    assert token not in text
    assert not emulator.world.store.sessions


@pytest.mark.parametrize(
    ("claims", "allowed"),
    [
        ({}, True),
        ({"sub": "system:serviceaccount:default:other"}, False),
        ({"aud": "another"}, False),
        ({"aud": ["another", AUDIENCE], "azp": AUDIENCE}, True),
        ({"aud": [AUDIENCE], "azp": "another"}, False),
    ],
    ids=["the subject", "another subject", "another audience", "authorized party", "another party"],
)
async def test_the_trust_policy_decides_by_subject_and_audience(
    aws: Aws, issuer: TokenIssuer, role: str, claims: dict[str, Any], *, allowed: bool
) -> None:
    """IAM User Guide, "Available keys for AWS OIDC federation"."""
    token = issuer.token(**claims)

    if allowed:
        await assume(aws, role, token)
    else:
        refused = await refuse(aws, role, token)
        assert refused == ("AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity")


async def test_a_role_that_trusts_no_provider_or_does_not_exist_cannot_be_assumed(
    emulator: Emulator, aws: Aws, issuer: TokenIssuer, role: str
) -> None:
    """STS does not reveal which roles exist."""
    for arn in (put_role(emulator, "work"), f"{role}s"):
        code, _ = await refuse(aws, arn, issuer.token())
        assert code == "AccessDenied"


async def test_session_tags_of_a_token_need_sts_tag_session(
    emulator: Emulator, aws: Aws, issuer: TokenIssuer, provider: str, role: str
) -> None:
    """IAM User Guide, "Passing session tags using AssumeRoleWithWebIdentity"."""
    tags = {"principal_tags": {"Team": ["blue"]}, "transitive_tag_keys": ["Team"]}
    claims: dict[str, Any] = {"https://aws.amazon.com/tags": tags, "https://aws.amazon.com/source_identity": "Ann"}
    token = issuer.token(**claims)
    actions = ["sts:AssumeRoleWithWebIdentity", "sts:TagSession", "sts:SetSourceIdentity"]
    is_blue = {"StringEquals": {"aws:RequestTag/Team": "blue", "aws:FederatedProvider": provider}}
    tagged = put_role(emulator, "tagged", {**trust(provider), "Action": actions, "Condition": is_blue})

    denied = await refuse(aws, role, token)
    answer = await assume(aws, tagged, token)

    session = emulator.world.store.sessions[answer["Credentials"]["AccessKeyId"]]
    assert denied[0] == "AccessDenied"
    assert (session.tags, session.transitive, session.source_identity) == ({"Team": "blue"}, ("Team",), "Ann")
    assert (answer["SourceIdentity"], session.provider) == ("Ann", provider)


@pytest.mark.parametrize(
    "claims",
    [
        {"https://aws.amazon.com/tags": "blue"},
        {"https://aws.amazon.com/tags": {"principal_tags": [["Team", "blue"]]}},
        {"https://aws.amazon.com/tags": {"principal_tags": {"Team": ["blue", "red"]}}},
        {"https://aws.amazon.com/tags": {"principal_tags": {"": ["blue"]}}},
        {"https://aws.amazon.com/tags": {"principal_tags": {str(n): ["x"] for n in range(51)}}},
        {"https://aws.amazon.com/tags": {"transitive_tag_keys": [{}]}},
        {"https://aws.amazon.com/source_identity": ["Ann"]},
        {"https://aws.amazon.com/source_identity": "a b"},
    ],
    ids=["text", "list", "two values", "empty key", "51 tags", "transitive object", "list of identities", "space"],
)
async def test_malformed_tags_of_a_token_are_refused(
    emulator: Emulator, aws: Aws, issuer: TokenIssuer, role: str, claims: dict[str, Any]
) -> None:
    """IAM User Guide, "Passing session tags using AssumeRoleWithWebIdentity"."""
    code, _ = await refuse(aws, role, issuer.token(**claims))

    assert code == "InvalidIdentityToken"
    assert not emulator.world.store.sessions


async def test_an_oauth_access_token_is_refused(aws: Aws, issuer: TokenIssuer, role: str) -> None:
    """STS API Reference: ProviderId is for OAuth 2.0 access tokens only."""
    code, text = await refuse(aws, role, issuer.token(), ProviderId="www.amazon.com")

    assert (code, "access tokens" in text) == ("InvalidIdentityToken", True)


async def test_duration_and_session_policies_work_as_for_assume_role(
    emulator: Emulator, aws: Aws, issuer: TokenIssuer, role: str
) -> None:
    """STS API Reference, AssumeRoleWithWebIdentity."""
    nothing = '{"Version": "2012-10-17", "Statement": {"Effect": "Deny", "Action": "*", "Resource": "*"}}'

    too_long = await refuse(aws, role, issuer.token(), DurationSeconds=3601)
    answer = await assume(aws, role, issuer.token(), DurationSeconds=900, Policy=nothing)
    session = await connect(emulator, answer["Credentials"], "ec2")
    code, text = await session.expect_error("ec2", "describe_volumes")

    record = emulator.world.store.sessions[answer["Credentials"]["AccessKeyId"]]
    assert too_long[0] == "ValidationError"
    assert record.expires == int(record.issued) + 900
    assert (code, "explicit deny in a session policy" in text) == ("UnauthorizedOperation", True)


async def test_the_keys_of_an_issuer_are_fetched_once_and_again_for_a_new_key(
    aws: Aws, issuer: TokenIssuer, role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenID Connect Core 1.0, section 10.1.1: a verifier fetches the keys again when it does not know one."""
    async with asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(assume(aws, role, issuer.token()))
    first = len(issuer.requests)
    issuer.publish("one", "two")
    too_soon = await refuse(aws, role, issuer.token(key="two"))
    monkeypatch.setattr(provider_keys, "PAUSE", 0.0)
    await assume(aws, role, issuer.token(key="two"))

    assert too_soon[0] == "InvalidIdentityToken"
    assert (first, len(issuer.requests)) == (2, 4)


class Document(NamedTuple):
    """An answer of an issuer for one of its documents; %s stands for the issuer's URL."""

    id: str
    path: str
    body: str
    status: int = 200


DISCOVERY, KEYS = "/id/ONE/.well-known/openid-configuration", "/id/ONE/keys"
ELSEWHERE = '{"issuer": "%s", "jwks_uri": "http://169.254.169.254/keys"}'
SHORT = {"kty": "RSA", "kid": "one", "n": "AQAB", "e": "AQAB"}
DOCUMENTS = [
    Document("missing", DISCOVERY, "", 404),
    Document("redirect", DISCOVERY, "", 302),
    Document("not JSON", DISCOVERY, "<html>"),
    Document("nested", KEYS, "[" * 60_000),
    Document("not an object", DISCOVERY, "[]"),
    Document("another issuer", DISCOVERY, '{"issuer": "https://x"}'),
    Document("keys on another host", DISCOVERY, ELSEWHERE),
    Document("too large", KEYS, '{"keys": [' + " " * 65_536 + "]}"),
    Document("without keys", KEYS, "{}"),
    Document("a secret", KEYS, '{"keys": [{"kty": "oct", "kid": "one", "k": "AA"}]}'),
    Document("a short key", KEYS, json.dumps({"keys": [SHORT]})),
    Document(
        "malformed keys", KEYS, json.dumps({"keys": [1, None, {"kid": 5}, {**SHORT, "n": 5}, {**SHORT, "e": ""}]})
    ),
]


@pytest.mark.parametrize("case", DOCUMENTS, ids=[case.id for case in DOCUMENTS])
async def test_an_issuer_whose_documents_cannot_be_used_is_refused(
    aws: Aws, issuer: TokenIssuer, role: str, case: Document
) -> None:
    """OpenID Connect Discovery 1.0, section 4; CWE-918: a provider cannot send the emulator to another host."""
    headers = {"location": KEYS} if case.status == HTTPStatus.FOUND else {}
    text = case.body.replace("%s", issuer.url)
    issuer.answers[case.path] = web.Response(status=case.status, headers=headers, text=text)

    code, message = await refuse(aws, role, issuer.token())

    assert (code, NO_KEY in message) == ("InvalidIdentityToken", True)
    assert set(issuer.requests) <= {DISCOVERY, KEYS}


async def test_an_issuer_that_does_not_answer_is_a_communication_error(
    emulator: Emulator, aws: Aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    """STS API Reference, IDPCommunicationError: the identity provider could not be reached."""
    monkeypatch.setattr(provider_keys, "TIMEOUT", 0.2)
    connected = asyncio.Event()

    async def keep_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.set()
        await reader.read(-1)  # until the emulator gives up
        writer.close()

    server = await asyncio.start_server(keep_silent, "127.0.0.1", 0)
    silent = TokenIssuer(url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    role = put_role(emulator, "pod", trust(put_provider(emulator, silent.url, AUDIENCE)))
    async with server:
        code, text = await refuse(aws, role, silent.token())
    closed, _ = await refuse(aws, role, silent.token())

    assert connected.is_set()
    assert (code, "could not be reached" in text, closed) == ("IDPCommunicationError", True, "IDPCommunicationError")


async def test_an_issuer_with_https_needs_a_certificate_that_the_machine_trusts(
    emulator: Emulator, aws: Aws, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """OpenID Connect Discovery 1.0, section 7.1: TLS with a check of the server's certificate."""
    monkeypatch.setattr(provider_keys, "PAUSE", 0.0)
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    async with serve_issuer(tls=context) as issuer:
        role = put_role(emulator, "pod", trust(put_provider(emulator, issuer.url, AUDIENCE)))

        code, _ = await refuse(aws, role, issuer.token())
        authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        await assume(aws, role, issuer.token())

    assert issuer.url.startswith("https://")
    assert code == "IDPCommunicationError"
