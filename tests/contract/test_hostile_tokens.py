"""Ten thousand damaged web identity tokens: each gets an error of AWS's, and none leaves a trace."""

import asyncio
import base64
import json
import random
import re
import string
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import suppress
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlencode

import aiohttp
import pytest
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256

from hyperpod_ebs.emulator.emulator import Emulator
from hyperpod_ebs.emulator.sts import jwk_sets
from tests.support.roles import put_provider, put_role
from tests.support.token_issuer import AUDIENCE, TokenIssuer, rsa_key, serve_issuer

DAMAGED: Final = 10_000
SIGNED: Final = 2_000
AT_ONCE: Final = 8
DOCUMENTS: Final = {"/id/ONE/.well-known/openid-configuration", "/id/ONE/keys"}
CODES: Final = {"InvalidIdentityToken", "ExpiredTokenException", "ValidationError", "AccessDenied"}
VALUES: Final[list[Any]] = [
    *(None, True, 0, -1, 1e400, -1e400, 10**400, "", "\x00", "\ud800", "ü" * 40, "0" * 400, [], {}, [[]], {"a": {}}),
    *([None], "nan", "https://", "http://[", "http://127.0.0.1:1/", "//x", "..", "sts:AssumeRole", ["x"] * 90),
]
HEADERS: Final = ("alg", "kid", "typ", "crit", "b64", "jwk", "jku", "x5u", "x5c", "zip", "enc")
CLAIMS: Final = ("iss", "sub", "aud", "azp", "exp", "nbf", "iat", "jti", "amr", "https://aws.amazon.com/tags")

Mutation = Callable[[random.Random, list[str]], list[str]]


def decode(part: str) -> Any:
    return json.loads(base64.urlsafe_b64decode(part + "=="))


def encode(value: object) -> str:
    text = json.dumps(value).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def change_member(generator: random.Random, parts: list[str]) -> list[str]:
    """Change, add or delete a member of the header or of the claims."""
    position = generator.randrange(2)
    document = decode(parts[position])
    name = generator.choice((HEADERS, CLAIMS)[position])
    if generator.random() < 0.2:
        document.pop(name, None)
    algorithms = ["none", "None", "HS256", "RS256", "PS256", "ES256", "EdDSA", "A128KW"]
    document[name] = generator.choice(algorithms if name == "alg" else VALUES)
    return [encode(document) if index == position else part for index, part in enumerate(parts)]


def replace_characters(generator: random.Random, parts: list[str]) -> list[str]:
    """Put other characters in the place of some."""
    text = list(".".join(parts))
    for _ in range(generator.randint(1, 5)):
        text[generator.randrange(len(text))] = generator.choice(string.printable + "é\u2028")
    return "".join(text).split(".")


def cut(generator: random.Random, parts: list[str]) -> list[str]:
    """Cut the token, or one of its parts."""
    position = generator.randrange(len(parts))
    length = generator.randint(0, max(0, len(parts[position]) - 1))
    return [part[:length] if index == position else part for index, part in enumerate(parts)]


def rearrange(generator: random.Random, parts: list[str]) -> list[str]:
    """Repeat, drop or exchange parts."""
    return generator.choices([*parts, ""], k=generator.randint(1, 6))


def nest(generator: random.Random, parts: list[str]) -> list[str]:
    """Claims or a header of many brackets."""
    text = generator.choice(["[", '{"a":']) * generator.randint(100, 3000)
    part = base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()
    return generator.choice([[part, *parts[1:]], [parts[0], part, parts[2]]])


MUTATIONS: Final[list[Mutation]] = [change_member, change_member, replace_characters, cut, rearrange, nest]


def damaged_tokens(issuer: TokenIssuer, generator: random.Random) -> Iterator[str]:
    """Tokens that differ from one that is valid."""
    valid = issuer.token(exp=2**33)
    while True:
        parts = valid.split(".")
        for _ in range(generator.choice([1, 1, 2, 3])):
            with suppress(ValueError, AttributeError, TypeError, IndexError, RecursionError):  # nothing to change
                parts = generator.choice(MUTATIONS)(generator, parts)
        if (token := ".".join(parts)) != valid:
            yield token


def signed_tokens(issuer: TokenIssuer, generator: random.Random) -> Iterator[str]:
    """Tokens with strange headers and claims, which the issuer has signed."""
    valid = [encode({"alg": "RS256", "kid": "one"}), encode(issuer.claims(exp=2**33))]
    while True:
        parts = valid
        for _ in range(generator.choice([1, 1, 2, 3])):
            parts = change_member(generator, parts)
        signature = rsa_key("one").sign(".".join(parts).encode(), PKCS1v15(), SHA256())
        yield ".".join([*parts, base64.urlsafe_b64encode(signature).rstrip(b"=").decode()])


async def answers_of(emulator: Emulator, issuer: TokenIssuer, tokens: Iterator[str], count: int) -> Counter[str]:
    """Send tokens, and count the codes of the answers; an answer without an error has an empty one."""
    provider = put_provider(emulator, issuer.url, AUDIENCE)
    trust = {"Effect": "Allow", "Principal": {"Federated": provider}, "Action": "sts:AssumeRoleWithWebIdentity"}
    usual = {"Action": "AssumeRoleWithWebIdentity", "Version": "2011-06-15", "RoleSessionName": "me"}
    request = {**usual, "RoleArn": put_role(emulator, "pod", trust)}
    headers = {"content-type": "application/x-www-form-urlencoded"}
    codes: Counter[str] = Counter()

    async def send_tokens(session: aiohttp.ClientSession) -> None:
        for _ in range(count // AT_ONCE):
            body = urlencode({**request, "WebIdentityToken": next(tokens)}, errors="replace")
            async with session.post(emulator.url, data=body, headers=headers) as answer:
                code = re.search("<Code>(.*)</Code>", await answer.text())
                assert (answer.status == HTTPStatus.OK) is (code is None)
                codes[code[1] if code else ""] += 1

    async with aiohttp.ClientSession() as session, asyncio.timeout(100), asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(send_tokens(session))
    return codes


@pytest.fixture
async def issuer() -> AsyncGenerator[TokenIssuer]:
    async with serve_issuer() as served:
        yield served


async def test_no_damaged_token_is_accepted(emulator: Emulator, issuer: TokenIssuer) -> None:
    """RFC 8725, "JSON Web Token Best Current Practices"; the mutations are the same in each run."""
    tokens = damaged_tokens(issuer, random.Random(10))  # noqa: S311 - must be repeatable

    codes = await answers_of(emulator, issuer, tokens, DAMAGED)

    assert codes.total() == DAMAGED
    assert set(codes) <= CODES
    assert not emulator.world.store.sessions
    assert set(issuer.requests) <= DOCUMENTS


async def test_strange_claims_that_the_issuer_has_signed_get_a_session_or_an_error(
    emulator: Emulator, issuer: TokenIssuer
) -> None:
    """An issuer is a stranger too; what is strange may also be without meaning, so that the token is valid."""
    tokens = signed_tokens(issuer, random.Random(11))  # noqa: S311 - must be repeatable

    codes = await answers_of(emulator, issuer, tokens, SIGNED)

    assert codes.total() == SIGNED
    assert set(codes) <= {*CODES, ""}
    assert len(emulator.world.store.sessions) == codes[""] > 0
    assert set(issuer.requests) <= DOCUMENTS


def test_a_private_key_in_a_set_takes_no_time() -> None:
    """CWE-400: an RSA key with its private exponent alone has to be factored, which takes 10 s for this one."""
    number = encode_number(2**16_383 + 1)
    entry = {"kty": "RSA", "kid": "one", "n": number, "e": "AQAB", "d": number}

    began = time.process_time()
    keys = jwk_sets.parse(json.dumps({"keys": [entry]}).encode())

    assert not keys
    assert time.process_time() - began < 1


def encode_number(value: int) -> str:
    """An integer as a JSON Web Key has it (RFC 7518, section 2)."""
    return base64.urlsafe_b64encode(value.to_bytes((value.bit_length() + 7) // 8)).rstrip(b"=").decode()
