"""Requests to any operation, drawn from the service models and then damaged; the same ones for the same seed.

A `Case` is a valid-looking request and the mutations to apply. Most mutations come before the signature, so that the
damaged request reaches the parser and the service. The others come after it, so that the signature must be refused.
"""

import functools
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote, urlencode

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.model import ListShape, MapShape, Shape, StructureShape
from botocore.serialize import create_serializer

from hyperpod_ebs.emulator.wire import models

FORM: Final = "application/x-www-form-urlencoded; charset=utf-8"

TEXTS: Final[Sequence[str]] = (
    *(
        "",
        "x",
        " ",
        "\x00",
        "\x0b",
        "\x1b[31m",
        "\r\n",
        "\ufffe",
        "é",
        "\U0001f600",
        "%",
        "%2F",
        "../a",
        "..",
        "/",
        "//",
    ),
    *("*", "?", "${", "${aws:username}", "<a>&lt;]]>", "'\"`;--", "null", "true", "NaN", "1e400", "-1", "9" * 400),
    *("arn:aws:::", "arn:aws:iam::123456789012:role/", "arn:" * 300, "a" * 9000, "aws:x", "alias/", "====", "AQ" * 40),
    *("2026-01-01T00:00:00Z", "99999-01-01", "0001-01-01T00:00:00Z", "a.b.c", "https://[", "*" * 200, "a*" * 500),
)
"""Texts that are wrong for most members."""

DEEP: Final = (
    *("[" * 900, '{"a":' * 900, "[" * 100_000, "(" * 5000, "<!DOCTYPE a [<!ENTITY b '&a;&a;'>]><a>&b;</a>"),
    "x" * 2**20,
)
"""Bombs: nested brackets, an XML document whose entities multiply, and more bytes than the emulator accepts."""

LONGEST: Final = 2**17
"""Characters of what a mutation repeats."""

LONGEST_HEADER: Final = 8_000
"""Characters of a header; aiohttp's limit is a little higher."""

MOVED: Final = 30_000
"""Bytes of the parameters that are moved to the query; the connection ends at a first line of more than 32 KiB."""

SCALARS: Final[Sequence[Any]] = (
    *(None, True, False, 0, -1, 1.5, 2**31, 2**63, 10**30, 10**400, 1e308, float("nan"), float("inf"), "\ud800"),
    *([], [[]], {}, {"a": {}}, {"": ""}, [None], ["x"] * 60, {str(number): "x" for number in range(60)}),
)
"""JSON values of every kind."""


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A request before it is written as bytes; it has a form, a document or raw bytes as its body."""

    service: str
    operation: str
    method: str
    path: str
    """Escaped."""

    query: Sequence[tuple[str, str]] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    form: Sequence[tuple[str, str]] | None = None
    document: Any = None  # JSON
    raw: bytes | None = None
    is_signed: bool = True

    def body(self) -> bytes:
        """The body's bytes."""
        if self.raw is not None:
            return self.raw
        if self.form is not None:
            return urlencode(self.form, errors="surrogatepass").encode()
        return b"" if self.document is None else json.dumps(self.document).encode()


@dataclass(frozen=True, kw_only=True)
class HttpRequest:
    """A request as it is sent, without its content length."""

    method: str
    target: str
    """The path and the query."""

    headers: Mapping[str, str]
    body: bytes

    def encode(self) -> bytes:
        """The bytes of the request."""
        headers = {**self.headers, "content-length": str(len(self.body))}
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"{self.method} {self.target} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + self.body


Mutation = Callable[[Draft, random.Random], Draft]
Forgery = Callable[[HttpRequest, random.Random], HttpRequest]
"""A change after the signature was made."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A request of a seed: what is drawn, and what is damaged."""

    seed: str
    service: str
    operation: str
    mutations: Sequence[int] = ()
    """Numbers of the mutations; each has a generator of its own, so that one can be left out."""

    forges: bool = False
    """Whether the request is changed after it was signed."""

    def generator(self, part: object) -> random.Random:
        """The random numbers of a part of the case."""
        return random.Random(f"{self.seed}/{part}")  # noqa: S311 - must be repeatable

    def draft(self, values: "Values") -> Draft:
        """The damaged request, unsigned."""
        draft = values.draw(self.service, self.operation, self.generator("request"))
        for number in self.mutations:
            draft = mutate(draft, self.generator(number))
        return draft


class Values:
    """What members of requests are drawn from: names and ids that exist, and texts that are wrong."""

    def __init__(self, pools: Mapping[str, Sequence[Any]]) -> None:
        """Create them; `pools` are the values of members whose names end in a text, and the last one that fits wins."""
        self._pools = pools
        self._pool = functools.cache(self._find_pool)

    def draw(self, service: str, operation: str, chance: random.Random) -> Draft:
        """A request with members of the right types."""
        model = models.load(service)
        operation_model = model.operation_model(operation)
        shape = operation_model.input_shape
        members = self._value(shape, "", chance, 0) if shape else {}
        request = _serializer(model.protocol).serialize_to_request(members, operation_model)
        body, query = request["body"], request["query_string"]
        is_form = isinstance(body, dict)
        headers = {name.lower(): str(value) for name, value in request["headers"].items()}
        return Draft(
            service=service,
            operation=operation,
            method=request["method"],
            path=quote(request["url_path"], safe="/~%") or "/",
            query=[(name, str(text)) for name, value in dict(query).items() for text in _as_list(value)],
            headers={**headers, "content-type": FORM} if is_form else headers,
            form=[(name, _as_text(value)) for name, value in body.items()] if is_form else None,
            document=None if is_form or not body else json.loads(body),
        )

    def _value(self, shape: Shape, name: str, chance: random.Random, depth: int) -> Any:  # Any: as the shape says
        if isinstance(shape, StructureShape):
            share = 0.4 if depth < 2 else 0.15
            return {
                member: self._value(nested, member, chance, depth + 1)
                for member, nested in shape.members.items()
                if member != "DryRun" and (member in shape.required_members or chance.random() < share)
            }
        if isinstance(shape, ListShape):
            count = chance.choice([0, 1, 1, 1, 2, 3]) if depth < 6 else 0
            return [self._value(shape.member, name, chance, depth + 1) for _ in range(count)]
        if isinstance(shape, MapShape):
            return {chance.choice(["a", "team", "x"]): self._value(shape.value, name, chance, depth + 1)}
        return self._scalar(shape, name, chance)

    def _scalar(self, shape: Shape, name: str, chance: random.Random) -> Any:  # Any: as the shape says
        if shape.type_name in _NUMBERS:
            bounds = [shape.metadata.get("min", 0), shape.metadata.get("max", 2**31 - 1)]
            return chance.choice([*bounds, 1, 1, 4, 10, 125, 3000, 3600])
        if others := _OTHERS.get(shape.type_name):
            return chance.choice([*others, *(self._pool("Blob") if shape.type_name == "blob" else ())])
        if (pool := self._pool(name)) and chance.random() < 0.85:
            return chance.choice(pool)
        if (choices := shape.metadata.get("enum")) and chance.random() < 0.95:
            return chance.choice(choices)
        return chance.choice(TEXTS)

    def _find_pool(self, name: str) -> Sequence[Any]:
        lower = name.lower()
        return next((pool for end, pool in reversed([*self._pools.items()]) if lower.endswith(end.lower())), ())


_NUMBERS: Final = frozenset({"integer", "long", "float", "double"})
_OTHERS: Final[Mapping[str, Sequence[Any]]] = {
    "boolean": (True, False),
    "timestamp": tuple(datetime(year, 1, 1, tzinfo=UTC) for year in (1970, 2026, 2200)),
    "blob": (b"", b"hello", bytes(4096)),
}
"""Values of the types that are neither numbers nor texts."""


@functools.cache
def _serializer(protocol: str) -> Any:  # Any: one of botocore's serializers
    return create_serializer(protocol, include_validation=False)


def _as_list(value: Any) -> list[Any]:  # Any: what botocore has for a part of the query
    return value if isinstance(value, list) else [value]


def _as_text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


# Mutations before the signature.


def _change_form(draft: Draft, chance: random.Random) -> Draft:
    pairs = list(draft.form or [("Action", draft.operation)])
    index = chance.randrange(len(pairs))
    name, value = pairs[index]
    match chance.randrange(10):
        case 0:
            del pairs[index]
        case 1:
            pairs.insert(chance.randrange(len(pairs) + 1), (name, chance.choice(TEXTS)))
        case 2 | 3 | 4:
            pairs[index] = (name, chance.choice(TEXTS))
        case 5:
            ends = (".1", ".x", ".0", ".-1", ".999999999", ".1.1", ".", ".." * 50, ".member.1", ".entry.1.key")
            pairs[index] = (name + chance.choice(ends), value)
        case 6:
            pairs[index] = (chance.choice([name.lower(), name[:-1], name[1:], "", "\x00", "é", name * 50]), value)
        case 7:
            count = min(chance.choice([2, 200, 3000]), LONGEST // (len(name) + len(value) + 1))
            pairs += [(f"{name}.{number}", value) for number in range(count)]
        case 8 if len(_encode_query([*draft.query, *pairs[index:]])) < MOVED:
            return replace(draft, form=pairs[:index], query=[*draft.query, *pairs[index:]])
        case _:
            pairs[index] = (name, chance.choice(DEEP))
    return replace(draft, form=pairs)


def _encode_query(pairs: Sequence[tuple[str, str]]) -> str:
    return urlencode(pairs, quote_via=quote, errors="surrogatepass")


def _change_document(draft: Draft, chance: random.Random) -> Draft:
    document = json.loads(json.dumps(draft.document)) if draft.document is not None else {}
    parent: Any = {"": document}
    key: Any = ""
    while chance.random() < 0.75 and isinstance(parent[key], dict | list) and parent[key]:
        node = parent[key]
        parent, key = node, chance.choice([*node]) if isinstance(node, dict) else chance.randrange(len(node))
    match chance.randrange(7):
        case 0:
            parent[key] = chance.choice(SCALARS)
        case 1 | 2:
            parent[key] = chance.choice(TEXTS)
        case 3:
            del parent[key]
            return replace(draft, document=document)
        case 4:
            count = min(chance.choice([1, 2, 60, 2000]), LONGEST // len(json.dumps(parent[key])))
            parent[key] = [parent[key]] * count
        case 5:
            parent[key] = {chance.choice(["", "a", "Key", "é"]): parent[key]}
        case _:
            if isinstance(parent[key], dict):
                parent[key] = {**parent[key], chance.choice(["", "NextToken", "x"]): chance.choice(SCALARS)}
    return replace(draft, document=parent[""] if key == "" and "" in parent and len(parent) == 1 else document)


def _change_path(draft: Draft, chance: random.Random) -> Draft:
    parts = draft.path.split("/")
    index = chance.randrange(len(parts))
    texts = ("", "%00", "%ff", "%2F", "%", "%zz", "..", ".", "a" * 5000, "%E2%80%A8", "~", "%3Cx%3E", "*", ";a=b")
    match chance.randrange(3):
        case 0:
            parts[index] = chance.choice(texts)
        case 1:
            parts.insert(index, chance.choice(texts))
        case _:
            del parts[index]
    return replace(draft, path="/" + "/".join(parts).lstrip("/"))


def _change_query(draft: Draft, chance: random.Random) -> Draft:
    names = [name for name, _ in draft.query] or ["maxResults", "nextToken", "Action", "Version"]
    pair = (chance.choice(names), chance.choice(TEXTS))
    return replace(draft, query=[*draft.query[: chance.randrange(len(draft.query) + 1)], pair])


def _change_headers(draft: Draft, chance: random.Random) -> Draft:
    name, values = chance.choice(
        [
            (
                "content-type",
                ("", "text/xml", "application/json", "application/x-amz-json-1.1", FORM, "multipart/form-data"),
            ),
            ("x-amz-target", ("", "TrentService", "TrentService.", "SageMaker.ListClusters", "a.b.c", "x" * 3000)),
            ("accept-encoding", ("gzip", "*", "x" * 3000)),
            ("smithy-protocol", ("rpc-v2-cbor",)),
            ("user-agent", ("", "x" * 7000, "<a>", "%s%n")),
            ("x-amz-date", ("", "20260101", "20260101T000000Z")),
            ("expect", ("100-continue",)),
            ("range", ("bytes=0-0",)),
        ]
    )
    headers = {**draft.headers, name: chance.choice(values)}
    if chance.random() < 0.2:
        del headers[name]
    return replace(draft, headers=headers)


def _change_method(draft: Draft, chance: random.Random) -> Draft:
    return replace(draft, method=chance.choice(["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "QUERY"]))


def _change_bytes(draft: Draft, chance: random.Random) -> Draft:
    body = bytearray(draft.body())
    for _ in range(chance.choice([1, 1, 2, 8])):
        at = chance.randrange(len(body) + 1)
        match chance.randrange(5):
            case 0:
                body[at : at + 1] = chance.randbytes(1)
            case 1:
                del body[at : at + chance.choice([1, 8, 10**6])]
            case 2:
                body[at:at] = chance.choice(
                    [b"\x00", b"%", b"&", b"=", b'"', b"}", b"\xff\xfe", b"\xef\xbb\xbf", b"%u0"]
                )
            case 3:
                body[at:at] = body[at : at + 30] * chance.choice([1, 3, 100])
            case _:
                body[at:at] = chance.choice(DEEP).encode()
    return replace(draft, raw=bytes(body))


def _change_operation(draft: Draft, chance: random.Random) -> Draft:
    """Ask for another operation of the service with these members."""
    name = chance.choice([*models.load(draft.service).operation_names, "", "x", draft.operation.lower()])
    if draft.form is not None:
        return replace(draft, form=[("Action", name), *(pair for pair in draft.form if pair[0] != "Action")])
    target = draft.headers.get("x-amz-target", "").partition(".")[0]
    return replace(draft, headers={**draft.headers, "x-amz-target": f"{target}.{name}"}) if target else draft


def mutate(draft: Draft, chance: random.Random) -> Draft:
    """Damage a request in one place."""
    body = _change_form if draft.form is not None else _change_document
    others: Sequence[Mutation] = (_change_headers, _change_query, _change_method, _change_bytes, _change_operation)
    is_rest = draft.form is None and "x-amz-target" not in draft.headers
    if draft.raw is not None:
        return chance.choice([_change_bytes, _change_headers])(draft, chance)
    return chance.choice([*[body] * 12, *others, _change_path, *[_change_path] * 4 * is_rest])(draft, chance)


def mutate_route(draft: Draft, chance: random.Random) -> Draft:
    """Damage the path, the query or the method of a request, or put a wrong text into a header."""
    if draft.headers and chance.random() < 0.3:
        texts = [text for text in TEXTS if text.isascii() and text.isprintable() and len(text) < LONGEST_HEADER]
        return replace(draft, headers={**draft.headers, chance.choice([*draft.headers]): chance.choice(texts)})
    return chance.choice([_change_path, _change_path, _change_query, _change_method])(draft, chance)


# The signature, and changes after it.


def sign(draft: Draft, url: str, credentials: Credentials) -> HttpRequest:
    """The request as botocore signs it; unsigned if the draft is not to be signed."""
    target = draft.path + ("?" + _encode_query(draft.query) if draft.query else "")
    body = draft.body()
    headers = {"host": url.partition("://")[2], **draft.headers}
    if draft.is_signed:
        signed = {name: value for name, value in headers.items() if name not in {"expect", "user-agent", "range"}}
        request = AWSRequest(method=draft.method, url=url + target, data=body, headers=signed)
        SigV4Auth(credentials, draft.service, "us-west-2").add_auth(request)
        headers |= {name.lower(): value for name, value in request.headers.items()}
    return HttpRequest(method=draft.method, target=target, headers=headers, body=body)


def _with_header(request: HttpRequest, name: str, value: str) -> HttpRequest:
    return replace(request, headers={**request.headers, name: value})


def _forge_body(request: HttpRequest, chance: random.Random) -> HttpRequest:
    at = chance.randrange(len(request.body) + 1)
    return replace(request, body=request.body[:at] + chance.choice([b" ", b"&x=y", b"\x00"]) + request.body[at:])


def _forge_target(request: HttpRequest, chance: random.Random) -> HttpRequest:
    path, _, query = request.target.partition("?")
    changed = chance.choice([f"{path}x", f"{path}/x", f"{path}?forged=1&{query}"])
    return replace(request, target=changed if "?" in changed or not query else f"{changed}?{query}")


def _forge_authorization(request: HttpRequest, chance: random.Random) -> HttpRequest:
    value = request.headers["authorization"]
    at = chance.randrange(len("AWS4-HMAC-SHA256 Credential="), len(value))
    other = chance.choice([each for each in "0fz/;,=" if each != value[at]])
    return _with_header(request, "authorization", value[:at] + other + value[at + chance.randrange(2) :])


def _cut_authorization(request: HttpRequest, chance: random.Random) -> HttpRequest:
    value = request.headers["authorization"]
    changed = chance.choice([value[: chance.randrange(1, len(value))], "Basic YTpi", "AWS4-HMAC-SHA256", value.lower()])
    return _with_header(request, "authorization", changed)


def _forge_signed_headers(request: HttpRequest, chance: random.Random) -> HttpRequest:
    name = chance.choice(["host;", "x-amz-date", "content-type;"])
    value = request.headers["authorization"]
    return _with_header(request, "authorization", value.replace(name, "", 1) if name in value else value + "0")


def _forge_header(request: HttpRequest, chance: random.Random) -> HttpRequest:
    name = chance.choice(["x-amz-date", "x-amz-target", "x-amz-security-token", "x-amz-forged", "host"])
    value = chance.choice(["", "x", "20200101T000000Z", "99990101T000000Z", "\xff", "a" * 3000])
    return _with_header(request, name, value if name != "host" else "forged.example.com")


FORGERIES: Final[Sequence[Forgery]] = (
    *(_forge_body, _forge_target, _forge_authorization, _cut_authorization, _forge_signed_headers, _forge_header),
)


def forge(request: HttpRequest, chance: random.Random) -> HttpRequest:
    """Change a signed request in one place that its signature covers, or the signature itself."""
    return chance.choice(FORGERIES)(request, chance)
