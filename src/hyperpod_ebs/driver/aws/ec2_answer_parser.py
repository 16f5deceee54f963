"""Parse EC2's answers with readers that are built once for each operation (docs/decisions/0049).

The SDK looks up, for each element of each answer, its shape in the model, its handler and its name. This module does
that at the first answer of an operation. It makes the same values, which `tests/unit/test_aws_ec2_answer_parser.py`
shows for every operation, and leaves errors and what is not XML to the SDK's parser. Unlike that parser, it refuses a
document that does not come from EC2: a proxy's page instead of the answer to DeleteVolume is not a success.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final
from xml.etree.ElementTree import Element, ParseError, XMLParser, fromstring

from aiobotocore.parsers import AioEC2QueryParser, AioResponseParserFactory
from botocore.model import ListShape, Shape, StructureShape
from botocore.parsers import ResponseParserError

from hyperpod_ebs.driver.aws.timestamps import parse_timestamp

Reader = Callable[[Element], object]
"""Reads the value of an element."""

_OK: Final = 200
_ANSWER: Final = re.compile(r"(?!Error)\w+Response")
"""The name of an answer's root element: CreateTagsResponse, for example. A Response or an ErrorResponse has errors."""
_ENCODING: Final = "utf-8"
"""The encoding of all answers, even if an XML declaration names another; the SDK's parser has the same rule."""


def _local_name(element: Element) -> str:
    """The element's name without its namespace."""
    return element.tag.rpartition("}")[2]


def _text(element: Element) -> str:
    return element.text or ""


_SCALARS: Final[Mapping[str, Reader]] = {
    "boolean": lambda element: element.text == "true",
    "double": lambda element: float(_text(element)),
    "float": lambda element: float(_text(element)),
    "integer": lambda element: int(_text(element)),
    "long": lambda element: int(_text(element)),
    "string": _text,
    "timestamp": lambda element: parse_timestamp(_text(element)),
}


def reader_for(shape: Shape) -> Reader:
    """The reader of a shape's elements.

    Raises:
        KeyError: EC2's answers have no shape of this kind.
    """
    match shape:
        case StructureShape():
            return _structure_reader(shape)
        case ListShape():
            read_item = reader_for(shape.member)
            return lambda element: [read_item(item) for item in element]
        case _:
            return _SCALARS[shape.type_name]


def _structure_reader(shape: StructureShape) -> Reader:
    members = {
        member.serialization.get("name", name): (name, reader_for(member)) for name, member in shape.members.items()
    }

    def read(element: Element) -> dict[str, object]:
        found: dict[str, object] = {}
        for child in element:
            if member := members.get(child.tag.rpartition("}")[2]):
                name, read_member = member
                found[name] = read_member(child)
        return found

    return read


class Ec2AnswerParser(AioEC2QueryParser):
    """The SDK's parser for EC2, with readers for the answers of successful calls."""

    def __init__(self, **defaults: Any) -> None:  # the SDK's own defaults of a parser
        super().__init__(**defaults)
        self._readers: dict[str, Reader] = {}

    async def parse(self, response: Mapping[str, Any], shape: Shape | None) -> dict[str, Any]:
        """Parse an answer, which has the body, the headers and the status code.

        Raises:
            ResponseParserError: The answer is not XML, or it is not the answer to a successful call of EC2.
        """
        if response["status_code"] == _OK:
            try:
                root = fromstring(response["body"], XMLParser(encoding=_ENCODING))  # noqa: S314 - as the SDK does
            except ParseError:
                pass  # the SDK's parser raises its own error for this
            else:
                return self._parse_root(root, response, shape)
        answer: dict[str, Any] = await super().parse(response, shape)  # type: ignore[arg-type] # CreateTags has no shape
        return answer

    def _parse_root(self, root: Element, response: Mapping[str, Any], shape: Shape | None) -> dict[str, Any]:
        if not _ANSWER.fullmatch(_local_name(root)):
            raise ResponseParserError(f"the root element is {_local_name(root)}")
        # The reader makes a dictionary: each operation answers a structure, or nothing.
        parsed: Any = self._reader(shape)(root) if shape is not None else {}
        metadata = {
            "HTTPStatusCode": _OK,
            "HTTPHeaders": {key.lower(): response["headers"][key] for key in response["headers"]},
        }
        request_id = next((child.text for child in root if _local_name(child) == "requestId"), None)
        return {**parsed, "ResponseMetadata": metadata if request_id is None else {"RequestId": request_id, **metadata}}

    def _reader(self, shape: Shape) -> Reader:
        """The reader of a whole answer, which is built once."""
        read = self._readers.get(shape.name)
        if read is None:
            read = self._readers[shape.name] = reader_for(shape)
        return read


class ParserFactory(AioResponseParserFactory):
    """The SDK's factory of parsers, with one parser for all answers of EC2."""

    def __init__(self) -> None:
        super().__init__()
        self._ec2 = Ec2AnswerParser()

    def create_parser(self, protocol_name: str) -> Any:  # the SDK's parsers have no type in common
        """The parser for a protocol of AWS."""
        return self._ec2 if protocol_name == "ec2" else super().create_parser(protocol_name)
