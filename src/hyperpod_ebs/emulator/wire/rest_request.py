"""Parser of requests with members in the path, the query, headers and a JSON body (rest-json).

It also parses requests of the json protocol, which have all members in the body.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

from botocore.model import ListShape, OperationModel, Shape

from hyperpod_ebs.emulator.wire import json_request, scalars
from hyperpod_ebs.emulator.wire.messages import Request
from hyperpod_ebs.emulator.wire.operations import AwsFault

_LABEL: Final = re.compile(r"\\\{(\w+)(\\\+)?\\\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """The method and path of an operation's requests."""

    operation: str
    method: str
    path: re.Pattern[str]
    labels: int
    """The number of labels in the path."""

    @classmethod
    def from_model(cls, operation: OperationModel) -> "Route":
        """The route of `operation`; a label `{name+}` in its path matches slashes too, `{name}` does not."""
        escaped = re.escape(operation.http["requestUri"])
        pattern, labels = _LABEL.subn(lambda label: f"(?P<{label[1]}>{'.+' if label[2] else '[^/]+'})", escaped)
        return cls(
            operation=operation.name, method=operation.http["method"], path=re.compile(pattern + "/?"), labels=labels
        )


def routes(operations: Sequence[OperationModel]) -> Sequence[Route]:
    """The routes of `operations`, those with the fewest labels first."""
    return sorted(map(Route.from_model, operations), key=lambda route: route.labels)


def operation_of(request: Request, table: Sequence[Route]) -> str | None:
    """The operation whose route the request matches; None if it matches none."""
    for route in table:
        if route.method == request.method and route.path.fullmatch(request.path):
            return route.operation
    return None


Parse = Callable[[Request], dict[str, Any]]  # each member has its shape's type
"""Reads a request into its members."""


def parser(operation: OperationModel) -> Parse:
    """A parser of requests for `operation`.

    The parser raises `AwsFault` for values of a wrong type and for violated constraints.

    Raises:
        NotImplementedError: The operation has members in places that this module does not read.
    """
    shape = operation.input_shape
    if shape is None:
        return lambda _: {}
    if "payload" in shape.serialization:
        raise NotImplementedError(f"{operation.name} has a payload outside the JSON document")
    outside = [(name, member) for name, member in shape.members.items() if "location" in member.serialization]
    sources = [_source(name, member, Route.from_model(operation)) for name, member in outside]
    read = json_request.members_reader(shape)

    def parse(request: Request) -> dict[str, Any]:
        # The members from outside are added to the document, so that one reader checks all members and reports all
        # violations together.
        query = parse_qsl(request.query, keep_blank_values=True)
        members = {source.name: source.value(source.texts(request, query)) for source in sources}
        return read({**json_request.document(request.body), **members})

    return parse


Texts = Callable[[Request, Sequence[tuple[str, str]]], list[str]]
"""Returns a member's texts in a request; the second argument is the decoded query."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """Where a member outside the body is, and how its texts become a JSON value; no texts become None."""

    name: str
    texts: Texts
    value: Callable[[list[str]], Any]  # JSON


def _source(name: str, shape: Shape, route: Route) -> _Source:
    wire_name = shape.serialization.get("name", name)
    element = shape.member if isinstance(shape, ListShape) else shape
    if element.type_name not in _AS_JSON:
        raise NotImplementedError(f"{name} is a {element.type_name} outside the body of {route.operation}")
    as_json = _AS_JSON[element.type_name]

    def value(texts: list[str]) -> Any:  # Any: JSON
        values = [as_json(text) for text in texts]
        return (values or None) if isinstance(shape, ListShape) else next(iter(values), None)

    return _Source(name=wire_name, texts=_texts(shape.serialization["location"], wire_name, route), value=value)


def _texts(location: str, name: str, route: Route) -> Texts:
    def label(request: Request, _: object) -> list[str]:
        match = route.path.fullmatch(request.path)
        return [unquote(match[name])] if match else []

    match location:
        case "uri":
            return label
        case "querystring":
            return lambda _, query: [value for key, value in query if key == name]
        case "header":
            return lambda request, _: [request.headers[name.lower()]] if name.lower() in request.headers else []
    raise NotImplementedError(f"{name} is in the {location} of {route.operation}")


def _converter(type_name: str) -> Callable[[str], Any]:
    read = scalars.READ[type_name]

    def as_json(text: str) -> Any:  # Any: JSON
        try:
            return read(text)
        except ValueError:
            message = f"STRING_VALUE cannot be converted to {type_name}"
            raise AwsFault("SerializationException", message, 400) from None

    return as_json


_AS_JSON: Final[Mapping[str, Callable[[str], Any]]] = {
    type_name: _converter(type_name) for type_name in ("string", "integer", "long", "boolean")
}
