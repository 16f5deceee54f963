"""The driver's parser of EC2's answers makes what the SDK's own makes, for every operation that the driver calls."""

import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
from aiobotocore.parsers import AioResponseParserFactory
from botocore.loaders import Loader
from botocore.model import ListShape, ServiceModel, Shape, StructureShape
from botocore.parsers import ResponseParserError

from hyperpod_ebs.driver import aws
from hyperpod_ebs.driver.aws.ec2_answer_parser import ParserFactory
from hyperpod_ebs.driver.aws.operations import OPERATIONS

NAMESPACE: Final = "http://ec2.amazonaws.com/doc/2016-11-15/"
SAMPLES: Final[Mapping[str, tuple[str, ...]]] = {
    "boolean": ("true", "false"),
    "double": ("0.5", "2"),
    "float": ("0.5",),
    "integer": ("0", "3000"),
    "long": ("-1", "107374182400"),
    "string": ("", "vol-1", "a &lt; b &amp; ü"),
    "timestamp": ("2026-12-01T09:40:51.179Z", "2026-12-01T09:40:51Z", "2026-12-01T09:40:51.000+00:00"),
}
"""Texts of elements, by the kind of their shape."""


def service_model() -> ServiceModel:
    """The model of EC2 that the driver uses."""
    loader = Loader(extra_search_paths=[str(Path(aws.__path__[0]) / "models")])
    return ServiceModel(loader.load_service_model("ec2", "service-2"), "ec2")


EC2: Final = service_model()


def xml(shape: Shape, choose: random.Random) -> str:
    """The content of an element of this shape, with about two thirds of the members, and one that no model has."""
    match shape:
        case StructureShape():
            members = (
                f"\n<{(name := member.serialization.get('name', key))}>{xml(member, choose)}</{name}>"
                for key, member in shape.members.items()
                if choose.random() < 0.7
            )
            return "".join(members) + "<newInEc2><item>1</item></newInEc2>\n"
        case ListShape():
            return "".join(f"<item>{xml(shape.member, choose)}</item>" for _ in range(choose.randrange(3)))
        case _:
            return choose.choice(SAMPLES[shape.type_name])


def answer(content: str) -> str:
    """An answer of EC2 with this content."""
    return f'<AnyResponse xmlns="{NAMESPACE}">{content}</AnyResponse>'


def answers(shape: Shape) -> Iterator[str]:
    """Different answers of this shape."""
    for seed in range(5):
        yield answer(f"<requestId>1-2</requestId>{xml(shape, random.Random(seed))}")  # noqa: S311 - chooses examples
    yield "<AnyResponse/>"


async def parse(factory: AioResponseParserFactory, body: str, shape: Shape | None, status: int = 200) -> Any:
    """What the factory's parser makes of an answer."""
    headers = {"X-Amzn-RequestId": "1-2", "date": "Tue, 01 Dec 2026 09:40:51 GMT"}
    response = {"body": body.encode(), "headers": headers, "status_code": status, "context": {}}
    return await factory.create_parser("ec2").parse(response, shape)  # type: ignore[arg-type] # CreateTags has no shape


@pytest.mark.parametrize("operation", sorted(OPERATIONS["ec2"]))
async def test_an_answer_has_the_values_that_the_sdk_reads(operation: str) -> None:
    shape = EC2.operation_model(operation).output_shape
    bodies = list(answers(shape)) if shape else [answer("<return>true</return>")]
    ours = ParserFactory()

    for body in bodies:
        assert await parse(ours, body, shape) == await parse(AioResponseParserFactory(), body, shape)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (
            400,
            "<Response><Errors><Error><Code>C</Code><Message>M</Message></Error></Errors><RequestID>1</RequestID></Response>",
        ),
        (503, "<html>Service Unavailable</html>"),
        (503, ""),
    ],
    ids=["a refusal", "a page of a proxy", "an empty answer"],
)
async def test_an_error_is_read_by_the_sdk(status: int, body: str) -> None:
    shape = EC2.operation_model("DescribeVolumes").output_shape

    assert await parse(ParserFactory(), body, shape, status) == await parse(
        AioResponseParserFactory(), body, shape, status
    )


@pytest.mark.parametrize("body", ["", "not XML", "<a><b></a>"])
async def test_an_answer_that_is_not_xml_fails_as_it_does_in_the_sdk(body: str) -> None:
    with pytest.raises(ResponseParserError, match="invalid XML"):
        await parse(ParserFactory(), body, EC2.operation_model("DescribeVolumes").output_shape)


async def test_a_number_that_is_none_fails_as_it_does_in_the_sdk() -> None:
    body = answer("<volumeSet><item><size>large</size></item></volumeSet>")

    with pytest.raises(ValueError, match="large"):
        await parse(ParserFactory(), body, EC2.operation_model("DescribeVolumes").output_shape)


@pytest.mark.parametrize("declared", ["ISO-8859-1", "unknown"])
async def test_an_answer_that_declares_another_encoding_is_read_as_the_sdk_reads_it(declared: str) -> None:
    shape = EC2.operation_model("DescribeVolumes").output_shape
    tags = "<volumeSet><item><tagSet><item><key>ü</key></item></tagSet></item></volumeSet>"
    body = f'<?xml version="1.0" encoding="{declared}"?>{answer(tags)}'

    assert await parse(ParserFactory(), body, shape) == await parse(AioResponseParserFactory(), body, shape)


@pytest.mark.parametrize("operation", ["DeleteVolume", "CreateTags", "DescribeVolumes", "AttachVolume"])
@pytest.mark.parametrize(
    "body",
    [
        "<html><body>Sign in</body></html>",
        '<html xmlns="http://www.w3.org/1999/xhtml"/>',
        "<Response><Errors><Error><Code>C</Code></Error></Errors></Response>",
        "<ErrorResponse><Error><Code>C</Code></Error></ErrorResponse>",
    ],
    ids=["a page of a proxy", "a page with a namespace", "errors of EC2", "errors of other services"],
)
async def test_a_document_that_is_no_answer_of_ec2_is_no_success(operation: str, body: str) -> None:
    """The SDK takes it for the answer of an operation that answers nothing: a volume would count as deleted."""
    with pytest.raises(ResponseParserError, match="the root element is"):
        await parse(ParserFactory(), body, EC2.operation_model(operation).output_shape)
