"""The public keys of the account's identity providers: fetched from the issuer, and kept for a while.

Source: OpenID Connect Discovery 1.0.

A provider is a stranger: its documents are bounded in time and size, no redirect is followed,
and nothing is fetched from another host than the one that is registered.
"""

import asyncio
import logging
import ssl
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from enum import Enum, auto
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

import aiohttp

from hyperpod_ebs.emulator.identity.issuer_keys import IssuerKeys, PublicKeys
from hyperpod_ebs.emulator.sts import jwk_sets
from hyperpod_ebs.emulator.sts.jwk_sets import json_object
from hyperpod_ebs.kit.files import off_loop

log: Final = logging.getLogger(__name__)

TIMEOUT: Final = 5.0
"""Seconds to fetch both documents of an issuer."""

MAX_DOCUMENT: Final = 65_536
"""Bytes of an issuer's document."""

FRESH: Final = 600.0
"""Seconds until the keys of an issuer are fetched again."""

PAUSE: Final = 5.0
"""Seconds after a fetch until an unknown key or an error leads to the next one."""

MAX_ISSUERS: Final = 256
"""Issuers whose keys are kept."""


class Failure(Enum):
    """Why an issuer has no keys."""

    UNREACHABLE = auto()
    """The issuer did not answer in time."""

    UNUSABLE = auto()
    """The issuer's answer is not what OpenID Connect demands, or beyond the bounds."""


@dataclass(slots=True)
class _Issuer:
    """What is known about an issuer."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    fetched: float = float("-inf")
    """The monotonic clock's seconds."""

    outcome: PublicKeys | Failure = Failure.UNREACHABLE

    def is_current(self, key_id: str) -> bool:
        """Whether the last fetch answers for the key."""
        usable = not isinstance(self.outcome, Failure) and key_id in self.outcome
        return time.monotonic() < self.fetched + (FRESH if usable else PAUSE)


class ProviderKeys:
    """Knows the keys of issuers: the emulator's own, and those that answer on the network."""

    def __init__(self, own: IssuerKeys) -> None:
        """Know the keys; `own` are the issuers that the emulator serves, which are not asked over the network."""
        self._own = own
        self._issuers: OrderedDict[str, _Issuer] = OrderedDict()

    async def find(self, issuer: str, key_id: str) -> PublicKeys | Failure:
        """The public keys of the issuer with this URL, of which a registered provider has host and path.

        Args:
            issuer: The issuer's URL; https, or http on this machine.
            key_id: The key that is wanted; without it, the keys are fetched again.
        """
        if (own := self._own.find(issuer)) is not None:
            return own
        known = self._issuers.setdefault(issuer, _Issuer())
        self._issuers.move_to_end(issuer)
        if len(self._issuers) > MAX_ISSUERS:
            self._issuers.popitem(last=False)
        async with known.lock:
            if not known.is_current(key_id):
                known.outcome = await _fetch(issuer)
                known.fetched = time.monotonic()
        return known.outcome


async def _fetch(issuer: str) -> PublicKeys | Failure:
    context = await off_loop(ssl.create_default_context)  # reads the certificates of the machine
    connector = aiohttp.TCPConnector(ssl=context)
    plain = {"accept-encoding": "identity"}  # a compressed document could be larger than what was received
    try:
        async with (
            asyncio.timeout(TIMEOUT),
            aiohttp.ClientSession(connector=connector, headers=plain, auto_decompress=False) as session,
        ):
            discovery = await _read(session, f"{issuer.rstrip('/')}/.well-known/openid-configuration")
            return jwk_sets.parse(await _read(session, _keys_url(issuer, discovery)))
    except (TimeoutError, aiohttp.ClientError, OSError) as error:
        log.warning("issuer is unreachable", extra={"issuer": issuer, "error": str(error)})
        return Failure.UNREACHABLE
    except ValueError as error:
        log.warning("issuer has no usable keys", extra={"issuer": issuer, "error": str(error)})
        return Failure.UNUSABLE


def _keys_url(issuer: str, discovery: bytes) -> str:
    """The URL of the keys in a discovery document.

    Raises:
        ValueError: The document is about another issuer, or the keys are on another host.
    """
    document = json_object(discovery)
    if document.get("issuer") != issuer:
        raise ValueError("the discovery document is about another issuer")
    url = document.get("jwks_uri")
    if not isinstance(url, str) or _origin(url) != _origin(issuer):
        raise ValueError("the keys are on another host than the issuer")
    return url


async def _read(session: aiohttp.ClientSession, url: str) -> bytes:
    """Read a document of the issuer.

    Raises:
        ValueError: The issuer answers another status than 200, or too much.
    """
    async with session.get(url, allow_redirects=False) as answer:
        if answer.status != HTTPStatus.OK:
            raise ValueError(f"the issuer answered status {answer.status}")
        body = bytearray()
        async for chunk in answer.content.iter_chunked(MAX_DOCUMENT):
            body += chunk
            if len(body) > MAX_DOCUMENT:
                raise ValueError(f"the issuer's document has more than {MAX_DOCUMENT} bytes")
    return bytes(body)


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port
