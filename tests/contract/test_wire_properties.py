"""Any input and output of an operation survives a round trip through botocore's own serializer and parser."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from urllib.parse import urlencode

import pytest
from botocore.model import ListShape, MapShape, OperationModel, Shape, StructureShape
from botocore.parsers import create_parser
from botocore.serialize import create_serializer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hyperpod_ebs.emulator.wire import models
from hyperpod_ebs.emulator.wire.messages import Request
from hyperpod_ebs.emulator.wire.protocols import wire_of

thorough = settings(
    max_examples=max(30, settings().max_examples // 10),  # these examples are large; `make fuzz` has more
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)

# The characters that XML 1.0 can represent; EC2 and STS accept no others.
TEXTS = st.text(
    st.one_of(
        st.characters(min_codepoint=0x20, exclude_categories=["Cs"], exclude_characters="￾￿"),
        st.sampled_from("\t\n\r<>&\"'"),
    ),
    max_size=8,
)
TIMES = st.datetimes(datetime(1980, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - the strategy adds the zone
MILLISECONDS = TIMES.map(lambda time: time - timedelta(microseconds=time.microsecond % 1000))


class Case(NamedTuple):
    """An operation of a service; some have a kind of shape that the emulated services lack."""

    service: str
    operation: str


ANSWERS = [
    Case("ec2", "DescribeVolumes"),
    Case("ec2", "CreateVolume"),
    Case("ec2", "DescribeInstances"),
    Case("ec2", "DeleteVolume"),
    Case("sagemaker", "DescribeCluster"),
    Case("sagemaker", "ListClusterNodes"),
    Case("sagemaker", "AttachClusterNodeVolume"),
    Case("eks", "DescribeCluster"),
    Case("eks-auth", "AssumeRoleForPodIdentity"),
    Case("cloudtrail", "LookupEvents"),
    Case("sts", "GetCallerIdentity"),
    Case("sts", "AssumeRoleWithWebIdentity"),
    Case("sns", "GetTopicAttributes"),  # a map in XML
    Case("sdb", "GetAttributes"),  # a flattened list in XML
    Case("rds", "DescribeDBClusters"),  # lists that name their elements
    Case("kms", "Encrypt"),  # blobs in JSON
]
REQUESTS = [
    Case("ec2", "CreateVolume"),
    Case("ec2", "DescribeVolumes"),
    Case("ec2", "RunInstances"),
    Case("ec2", "ImportKeyPair"),  # a blob in a form
    Case("sagemaker", "AttachClusterNodeVolume"),
    Case("sagemaker", "ListClusterNodes"),
    Case("sagemaker", "CreateCluster"),
    Case("eks", "CreateCluster"),
    Case("eks", "DescribeCluster"),
    Case("eks", "ListClusters"),
    Case("eks", "CreatePodIdentityAssociation"),
    Case("eks", "DisassociateAccessPolicy"),  # ARNs in the path
    Case("eks", "UntagResource"),  # a list in the query, an ARN in the path
    Case("sts", "GetSessionToken"),
    Case("sns", "CreateTopic"),  # a map in a form
    Case("sdb", "PutAttributes"),  # a flattened list in a form
    Case("rds", "DescribeDBClusters"),  # lists that name their elements
    Case("kms", "Encrypt"),  # a blob in JSON
]


def ids(cases: list[Case]) -> list[str]:
    return [f"{case.service} {case.operation}" for case in cases]


@pytest.mark.requirement("emulator.botocore-accepts")
@pytest.mark.parametrize("case", ANSWERS, ids=ids(ANSWERS))
@thorough
@given(data=st.data())
def test_botocore_parses_every_answer_to_the_members_that_were_written(case: Case, data: st.DataObject) -> None:
    model = models.load(case.service)
    operation = model.operation_model(case.operation)
    shape = operation.output_shape
    answer = {} if shape is None else data.draw(values(shape, Drawing(times=MILLISECONDS)))

    reply = wire_of(model).write(case.operation, answer, "an-id")

    response = {"status_code": reply.status, "headers": dict(reply.headers), "body": reply.body}
    read = create_parser(model.protocol).parse(response, shape)  # type: ignore[arg-type] # it takes None
    metadata = read.pop("ResponseMetadata")
    assert metadata["RequestId"] == "an-id"
    assert read == answer


@pytest.mark.parametrize("case", REQUESTS, ids=ids(REQUESTS))
@thorough
@given(data=st.data())
def test_every_request_of_botocore_is_parsed_to_the_members_that_were_sent(case: Case, data: st.DataObject) -> None:
    model = models.load(case.service)
    operation = model.operation_model(case.operation)
    assert operation.input_shape is not None
    drawing = Drawing(times=TIMES, valid=model.protocol != "ec2", may_be_empty=False)
    asked = data.draw(values(operation.input_shape, drawing))

    request = serialize(operation, asked)

    wire = wire_of(model)
    assert wire.resembles(request)
    assert wire.operation(request) == case.operation
    assert wire.parse(case.operation, request) == asked


@pytest.mark.parametrize("service", ["ec2", "sagemaker", "eks", "iam", "sts"])
def test_every_operation_of_the_emulated_services_can_be_compiled(service: str) -> None:
    """A new operation must need only a method with a decorator, for any shapes."""
    model = models.load(service)
    wire = wire_of(model)

    codecs = [wire._codec(name) for name in model.operation_names]  # type: ignore[attr-defined] # otherwise compiled at the first call

    assert len(codecs) > 10


class Drawing(NamedTuple):
    """The choices with which Hypothesis draws values for a shape."""

    times: st.SearchStrategy[datetime]

    valid: bool = False
    """Whether values meet the model's constraints: EC2 alone does not check them."""

    may_be_empty: bool = True
    """Whether lists and structures may be empty: a form cannot represent that."""

    depth: int = 5


def values(shape: Shape, drawing: Drawing) -> st.SearchStrategy[Any]:
    if isinstance(shape, StructureShape):
        return structures(shape, drawing._replace(depth=drawing.depth - 1))
    if isinstance(shape, ListShape):
        low, high = sizes(shape, drawing)
        return st.lists(values(shape.member, drawing), min_size=low, max_size=high)
    if isinstance(shape, MapShape):
        low, high = sizes(shape, drawing)
        return st.dictionaries(values(shape.key, drawing), values(shape.value, drawing), min_size=low, max_size=high)
    return scalars(shape, drawing)


def structures(shape: StructureShape, drawing: Drawing) -> st.SearchStrategy[dict[str, Any]]:
    needed = {name: values(shape.members[name], drawing) for name in shape.required_members}
    others = {
        name: st.deferred(lambda member=member: values(member, drawing))  # type: ignore[misc] # a lambda's default
        for name, member in shape.members.items()
        if name not in needed and (drawing.depth > 0 or is_scalar(member))
    }
    if shape.is_tagged_union:
        return st.sampled_from(sorted(others)).flatmap(lambda name: st.fixed_dictionaries({name: others[name]}))
    drawn = st.sets(st.sampled_from(sorted(others)), max_size=8) if others else st.just(set[str]())
    chosen = drawn.flatmap(
        lambda names: st.fixed_dictionaries({**needed, **{name: others[name] for name in sorted(names)}})
    )
    return chosen if drawing.may_be_empty else chosen.filter(bool)


def sizes(shape: Shape, drawing: Drawing) -> tuple[int, int]:
    low = shape.metadata.get("min", 0) if drawing.valid else 0
    flattened = shape.serialization.get("flattened")  # an empty flattened list is not written at all
    low = max(low, 0 if drawing.may_be_empty and not flattened else 1)
    return low, max(low, min(3, shape.metadata.get("max", 3) if drawing.valid else 3))


def is_scalar(shape: Shape) -> bool:
    return not isinstance(shape, StructureShape | ListShape | MapShape)


def scalars(shape: Shape, drawing: Drawing) -> st.SearchStrategy[Any]:
    low, high = (shape.metadata.get("min"), shape.metadata.get("max")) if drawing.valid else (None, None)
    match shape.type_name:
        case "string":
            return strings(shape, drawing.valid)
        case "integer" | "long" as size:
            most = 2**31 - 1 if size == "integer" else 2**63 - 1
            return st.integers(-most if low is None else low, most if high is None else high)
        case "float" | "double":
            return st.floats(low, high, allow_nan=False, allow_infinity=False)
        case "timestamp":
            return drawing.times
        case "blob":
            return st.binary(min_size=low or 0, max_size=16)
    assert shape.type_name == "boolean"
    return st.booleans()


def strings(shape: Shape, valid: bool) -> st.SearchStrategy[str]:  # noqa: FBT001 - always passed on from a `Drawing`
    if valid and (choice := shape.metadata.get("enum")):
        return st.sampled_from(list(choice))
    if not valid:
        return TEXTS
    in_path = shape.serialization.get("location") == "uri"  # an empty text would make another path
    low, high = shape.metadata.get("min", int(in_path)), shape.metadata.get("max", 10**6)
    if pattern := shape.metadata.get("pattern"):
        matching = st.from_regex(re.compile(with_length(plain(pattern), low, high), re.ASCII), fullmatch=True)
        return matching.filter(lambda text: low <= len(text) <= high)
    return st.text(
        st.characters(min_codepoint=0x20, exclude_categories=["Cs"]), min_size=low, max_size=min(high, low + 8)
    )


def with_length(pattern: str, low: int, high: int) -> str:
    """The pattern with the length in place of its quantifier if it repeats one character class; few texts fit both."""
    match = re.fullmatch(r"(?P<characters>\[(?:\\.|[^\]\\])+\]|\\.)(?P<repeats>[*+])", pattern)
    if not match:
        return pattern
    low = max(low, 1 if match["repeats"] == "+" else 0)
    return f"{match['characters']}{{{low},{min(high, low + 8)}}}"


def plain(pattern: str) -> str:
    """The pattern with a few characters in place of each of Java's named classes, which Python does not support."""
    for java, python in ((r"\p{L}", "a-zà-ö"), (r"\p{Z}", " \u00a0"), (r"\p{N}", "0-9½")):
        pattern = pattern.replace(java, python)
    return pattern


def serialize(operation: OperationModel, members: dict[str, Any]) -> Request:
    protocol = operation.service_model.protocol
    written = create_serializer(protocol, include_validation=False).serialize_to_request(members, operation)
    headers = {name.lower(): value for name, value in written["headers"].items()}
    body = written["body"]
    path, _, fixed = written["url_path"].partition("?")
    query = urlencode(written["query_string"] or {}, doseq=True)
    return Request(
        method=written["method"],
        path=path,
        query="&".join(filter(None, (fixed, query))),
        headers=headers,
        body=urlencode(body).encode() if isinstance(body, dict) else body,
    )
