"""Invalid requests get AWS's errors, invalid answers of handlers are found, and neither crashes the emulator."""

import json
from contextlib import suppress
from typing import Any, NamedTuple
from urllib.parse import urlencode

import pytest
from botocore.model import ServiceModel
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperpod_ebs.emulator.wire import models
from hyperpod_ebs.emulator.wire.form_request import tree
from hyperpod_ebs.emulator.wire.messages import Request
from hyperpod_ebs.emulator.wire.operations import AwsFault, Operations, UnknownMember
from hyperpod_ebs.emulator.wire.patterns import python_pattern
from hyperpod_ebs.emulator.wire.protocols import wire_of

ATTACH = {
    "ClusterArn": "arn:aws:sagemaker:us-west-2:123456789012:cluster/abcdefghijkl",
    "NodeId": "i-0123456789abcdef0",
    "VolumeId": "vol-0123456789abcdef0",
}
GROUP = {"InstanceGroupName": "g", "InstanceType": "ml.t3.medium", "InstanceCount": 1, "ThreadsPerCore": 1}
GROUP["LifeCycleConfig"] = {"SourceS3Uri": "s3://sagemaker-x", "OnCreate": "x.sh"}
ROLE = "arn:aws:iam::123456789012:role/x"
GROUP["ExecutionRole"] = ROLE


def form(**members: str) -> Request:
    body = urlencode({"Version": "2016-11-15", **{name.replace("_", "."): value for name, value in members.items()}})
    headers = {"content-type": "application/x-www-form-urlencoded; charset=utf-8"}
    return Request(method="POST", path="/", query="", headers=headers, body=body.encode())


def document(value: object, *, target: str = "") -> Request:
    headers = {"content-type": "application/x-amz-json-1.1", "x-amz-target": target}
    return Request(method="POST", path="/", query="", headers=headers, body=json.dumps(value).encode())


def parse_error(service: str, operation: str, request: Request) -> AwsFault:
    with pytest.raises(AwsFault) as refused:
        wire_of(models.load(service)).parse(operation, request)
    return refused.value


class Form(NamedTuple):
    """An invalid form, and EC2's error."""

    id: str
    operation: str
    members: dict[str, str]
    code: str
    message: str


FORMS = [
    Form(
        "a required parameter is missing",
        "DeleteVolume",
        {},
        "MissingParameter",
        "The request must contain the parameter VolumeId",
    ),
    Form(
        "a required parameter of a list's element is missing",
        "RunInstances",
        {"MinCount": "1", "MaxCount": "1", "ElasticInferenceAccelerator_1_Count": "1"},
        "MissingParameter",
        "The request must contain the parameter ElasticInferenceAccelerator.1.Type",
    ),
    Form(
        "a parameter is unknown",
        "DeleteVolume",
        {"VolumeId": "vol-1", "Colour": "red"},
        "UnknownParameter",
        "The parameter Colour is not recognized",
    ),
    Form(
        "a parameter within a list is unknown",
        "DescribeVolumes",
        {"Filter_1_Colour": "red"},
        "UnknownParameter",
        "The parameter Filter.1.Colour is not recognized",
    ),
    Form(
        "a list is not numbered",
        "DescribeVolumes",
        {"VolumeId_first": "vol-1"},
        "UnknownParameter",
        "The parameter VolumeId.first is not recognized",
    ),
    Form(
        "a single value has parts",
        "CreateVolume",
        {"Size_1": "4"},
        "UnknownParameter",
        "The parameter Size.1 is not recognized",
    ),
    Form(
        "a list is a single value",
        "DescribeVolumes",
        {"VolumeId": "vol-1"},
        "InvalidParameterValue",
        "Value (vol-1) for parameter VolumeId is invalid.",
    ),
    Form(
        "a structure is a single value",
        "DescribeVolumes",
        {"Filter_1": "size"},
        "InvalidParameterValue",
        "Value (size) for parameter Filter.1 is invalid.",
    ),
    Form(
        "an integer is invalid",
        "CreateVolume",
        {"Size": "4.5"},
        "InvalidParameterValue",
        "Value (4.5) for parameter Size is invalid.",
    ),
    Form(
        "a boolean is invalid",
        "CreateVolume",
        {"Encrypted": "perhaps"},
        "InvalidParameterValue",
        "Value (perhaps) for parameter Encrypted is invalid.",
    ),
    Form(
        "a time is invalid",
        "DescribeSpotPriceHistory",
        {"StartTime": "noon"},
        "InvalidParameterValue",
        "Value (noon) for parameter StartTime is invalid.",
    ),
]


@pytest.mark.requirement("emulator.refuses-as-aws")
@pytest.mark.parametrize("case", FORMS, ids=[case.id for case in FORMS])
def test_ec2_answers_its_error_for_an_invalid_form(case: Form) -> None:
    """EC2 API reference, "Error codes", common client errors."""
    fault = parse_error("ec2", case.operation, form(**case.members))

    assert (fault.code, fault.message, fault.status) == (case.code, case.message, 400)


class Document(NamedTuple):
    """An invalid document, and SageMaker's error."""

    id: str
    operation: str
    members: dict[str, Any]
    code: str
    message: str


DOCUMENTS = [
    Document(
        "a text does not match its pattern",
        "AttachClusterNodeVolume",
        {**ATTACH, "VolumeId": "vol-1"},
        "ValidationException",
        "1 validation error detected: Value 'vol-1' at 'volumeId' failed to satisfy constraint: "
        "Member must satisfy regular expression pattern: vol-[a-f0-9]{8}(?:[a-f0-9]{9})?",
    ),
    Document(
        "two members are missing",
        "AttachClusterNodeVolume",
        {"VolumeId": ATTACH["VolumeId"]},
        "ValidationException",
        "2 validation errors detected: Value null at 'clusterArn' failed to satisfy constraint: Member must not be "
        "null; Value null at 'nodeId' failed to satisfy constraint: Member must not be null",
    ),
    Document(
        "a number is too great",
        "ListClusterNodes",
        {"ClusterName": "c", "MaxResults": 101},
        "ValidationException",
        "1 validation error detected: Value '101' at 'maxResults' failed to satisfy constraint: "
        "Member must have value less than or equal to 100",
    ),
    Document(
        "a text is too long",
        "ListClusterNodes",
        {"ClusterName": "c", "InstanceGroupNameContains": "g" * 64},
        "ValidationException",
        f"1 validation error detected: Value '{'g' * 64}' at 'instanceGroupNameContains' failed to satisfy "
        "constraint: Member must have length less than or equal to 63",
    ),
    Document(
        "a value is not in the enum",
        "ListClusterNodes",
        {"ClusterName": "c", "SortBy": "AGE"},
        "ValidationException",
        "1 validation error detected: Value 'AGE' at 'sortBy' failed to satisfy constraint: "
        "Member must satisfy enum value set: [CREATION_TIME, NAME]",
    ),
    Document(
        "a member of a list's element is wrong",
        "CreateCluster",
        {"ClusterName": "c", "InstanceGroups": [GROUP, {**GROUP, "ThreadsPerCore": 3}]},
        "ValidationException",
        "1 validation error detected: Value '3' at 'instanceGroups.2.member.threadsPerCore' failed to satisfy "
        "constraint: Member must have value less than or equal to 2",
    ),
    Document(
        "an element of a list of texts is wrong",
        "CreateCluster",
        {"ClusterName": "c", "VpcConfig": {"SecurityGroupIds": ["sg-1", "sg!"], "Subnets": ["subnet-1"]}},
        "ValidationException",
        "1 validation error detected: Value '[sg-1, sg!]' at 'vpcConfig.securityGroupIds' failed to satisfy "
        "constraint: Member must satisfy constraint: [Member must have length less than or equal to 32, "
        "Member must have length greater than or equal to 0, "
        "Member must satisfy regular expression pattern: [-0-9a-zA-Z]+]",
    ),
    Document(
        "a list is too short",
        "CreateCluster",
        {"ClusterName": "c", "VpcConfig": {"SecurityGroupIds": ["sg-1"], "Subnets": []}},
        "ValidationException",
        "1 validation error detected: Value '[]' at 'vpcConfig.subnets' failed to satisfy constraint: "
        "Member must have length greater than or equal to 1",
    ),
    Document(
        "a text is a number",
        "ListClusterNodes",
        {"ClusterName": 5},
        "SerializationException",
        "NUMBER_VALUE cannot be converted to a string",
    ),
    Document(
        "a number is a text",
        "ListClusterNodes",
        {"ClusterName": "c", "MaxResults": "5"},
        "SerializationException",
        "STRING_VALUE cannot be converted to an integer",
    ),
    Document(
        "a structure is a list",
        "CreateCluster",
        {"ClusterName": "c", "VpcConfig": []},
        "SerializationException",
        "LIST_VALUE cannot be converted to a structure or map",
    ),
]


@pytest.mark.requirement("emulator.refuses-as-aws")
@pytest.mark.parametrize("case", DOCUMENTS, ids=[case.id for case in DOCUMENTS])
def test_sagemaker_answers_its_error_for_an_invalid_document(case: Document) -> None:
    """SageMaker API reference, "Common errors": ValidationException. The service checks the constraints first."""
    fault = parse_error("sagemaker", case.operation, document(case.members))

    assert (fault.code, fault.message, fault.status) == (case.code, case.message, 400)


@pytest.mark.requirement("emulator.answers-others")
def test_a_name_with_many_dots_has_seventeen_levels_and_no_more() -> None:
    """CWE-400: a level for each dot would take seconds for a form of some megabytes."""
    (name, node), levels = next(iter(tree([("a" + ".b" * 1000, "x")]).items())), 1
    while isinstance(node, dict):
        (name, node), levels = next(iter(node.items())), levels + 1

    assert (levels, name) == (17, ".".join("b" * 985))


def test_an_error_is_not_longer_than_its_request() -> None:
    """CWE-400: each empty group lacks five members, and each of these had its own words in the error."""
    request = document({"ClusterName": "c", "InstanceGroups": [{}] * 10_000})

    fault = parse_error("sagemaker", "CreateCluster", request)

    assert fault.code == "ValidationException"
    assert "'instanceGroups.1.member.instanceCount' failed to satisfy constraint" in fault.message
    assert len(fault.message) < len(request.body)


def test_sts_rejects_a_form_without_a_required_parameter() -> None:
    """Services with the query protocol have an error of their own for this."""
    fault = parse_error("sts", "AssumeRole", form(RoleArn=ROLE))

    assert fault.code == "ValidationError"
    assert fault.message == (
        "1 validation error detected: Value null at 'roleSessionName' failed to satisfy constraint: "
        "Member must not be null"
    )


class Violation(NamedTuple):
    """A member of AssumeRole that violates a constraint, and the error's text."""

    id: str
    members: dict[str, str]
    text: str


VIOLATIONS = [
    Violation(
        "a number",
        {"DurationSeconds": "60"},
        "Value '60' at 'durationSeconds' failed to satisfy constraint: Member must have value greater than or equal to "
        "900",
    ),
    Violation(
        "a pattern, whose \\w is ASCII",
        {"RoleSessionName": "Jörg"},
        "Value 'Jörg' at 'roleSessionName' failed to satisfy constraint: Member must satisfy regular expression "
        "pattern: [\\w+=,.@-]*",
    ),
    Violation(
        "an element's member",
        {"Tags.member.1.Key": "k" * 129, "Tags.member.1.Value": "x"},
        f"Value '{'k' * 129}' at 'tags.1.member.key' failed to satisfy constraint: Member must have length less than "
        "or equal to 128",
    ),
]


@pytest.mark.parametrize("case", VIOLATIONS, ids=[case.id for case in VIOLATIONS])
def test_sts_reports_a_violated_constraint(case: Violation) -> None:
    """Botocore's model of STS has the constraints; the text is AWS's."""
    required = {"RoleArn": ROLE, "RoleSessionName": "me"}

    fault = parse_error("sts", "AssumeRole", form(**(required | case.members)))

    assert (fault.code, fault.status) == ("ValidationError", 400)
    assert fault.message.startswith(f"1 validation error detected: {case.text}"), fault.message


def test_sts_reports_all_violated_constraints() -> None:
    fault = parse_error("sts", "AssumeRole", form(RoleArn="x", RoleSessionName="y"))

    assert fault.message.startswith("2 validation errors detected: Value 'x' at 'roleArn' ")


def test_sts_does_not_quote_a_secret() -> None:
    """The model marks the token as sensitive."""
    members = {"RoleArn": ROLE, "RoleSessionName": "me", "WebIdentityToken": "abc"}

    fault = parse_error("sts", "AssumeRoleWithWebIdentity", form(**members))

    assert fault.message.startswith("1 validation error detected: Value at 'webIdentityToken' failed")


def test_sts_ignores_an_unknown_parameter() -> None:
    """Of the emulated services only EC2 has the error UnknownParameter."""
    request = form(RoleArn=ROLE, RoleSessionName="me", Colour="red", Tags_member_1_Key="k", Tags_member_1_Value="")

    asked = wire_of(models.load("sts")).parse("AssumeRole", request)

    assert asked == {"RoleArn": ROLE, "RoleSessionName": "me", "Tags": [{"Key": "k", "Value": ""}]}


def test_a_query_service_accepts_an_empty_list() -> None:
    """Botocore writes an empty list as an empty parameter."""
    request = form(RoleArn=ROLE, RoleSessionName="me", PolicyArns="")

    assert wire_of(models.load("sts")).parse("AssumeRole", request)["PolicyArns"] == []


def test_sagemaker_ignores_unknown_members_and_null() -> None:
    """A newer SDK may send members that the service does not have."""
    request = document({**ATTACH, "Colour": "red", "Tags": None})

    assert wire_of(models.load("sagemaker")).parse("AttachClusterNodeVolume", request) == ATTACH


@pytest.mark.parametrize(
    ("service", "request_", "code", "status"),
    [
        ("ec2", form(Action="MakeCoffee"), "InvalidAction", 400),
        ("ec2", form(), "MissingAction", 400),
        ("sts", form(Action="MakeCoffee"), "InvalidAction", 400),
        ("sagemaker", document({}, target="SageMaker.MakeCoffee"), "UnknownOperationException", 400),
        (
            "eks",
            Request(method="GET", path="/coffee", query="", headers={}, body=b""),
            "UnknownOperationException",
            404,
        ),
        (
            "eks",
            Request(method="PATCH", path="/clusters", query="", headers={}, body=b""),
            "UnknownOperationException",
            404,
        ),
    ],
    ids=["ec2", "ec2 without one", "sts", "sagemaker", "eks by path", "eks by method"],
)
def test_an_unknown_operation_is_rejected(service: str, request_: Request, code: str, status: int) -> None:
    """Each protocol has a code for it."""
    with pytest.raises(AwsFault) as refused:
        wire_of(models.load(service)).operation(request_)

    assert (refused.value.code, refused.value.status) == (code, status)


@pytest.mark.parametrize(
    ("service", "operation", "answer"),
    [
        ("ec2", "DescribeVolumes", {"Volumes": [{"VolumeID": "vol-1"}]}),
        ("ec2", "DeleteVolume", {"Return": True}),
        ("sagemaker", "AttachClusterNodeVolume", {"Arn": "x"}),
        ("sagemaker", "DeleteTrainingJob", {"Arn": "x"}),
        ("eks", "DescribeCluster", {"cluster": {"Name": "x"}}),
        ("sts", "GetCallerIdentity", {"User": "x"}),
    ],
)
def test_an_answer_with_a_member_that_the_shape_lacks_is_an_error(
    service: str, operation: str, answer: dict[str, Any]
) -> None:
    """A misspelt member would otherwise be dropped without notice."""
    wire = wire_of(models.load(service))

    with pytest.raises(UnknownMember):
        wire.write(operation, answer, "an-id")


@pytest.mark.parametrize(
    ("service", "operation", "answer"),
    [
        ("ec2", "CreateVolume", {"Size": "4"}),
        ("ec2", "CreateVolume", {"VolumeId": 4}),
        ("ec2", "CreateVolume", {"Encrypted": "yes"}),
        ("ec2", "CreateVolume", {"CreateTime": 4}),
        ("eks", "DescribeCluster", {"cluster": {"name": 4}}),
        ("eks", "DescribeCluster", {"cluster": {"createdAt": "today"}}),
        ("sagemaker", "DescribeCluster", {"InstanceGroups": [{"CurrentCount": True}]}),
    ],
)
def test_an_answer_with_a_member_of_a_wrong_type_is_an_error(
    service: str, operation: str, answer: dict[str, Any]
) -> None:
    """A client would otherwise parse another value."""
    wire = wire_of(models.load(service))

    with pytest.raises((TypeError, ValueError, AttributeError)):
        wire.write(operation, answer, "an-id")


def test_members_that_are_none_are_not_sent() -> None:
    """A handler answers None for a member that AWS leaves out."""
    wire = wire_of(models.load("ec2"))

    body = wire.write("CreateVolume", {"VolumeId": "vol-1", "KmsKeyId": None}, "an-id").body

    assert b"<volumeId>vol-1</volumeId>" in body
    assert b"kmsKeyId" not in body


def test_a_character_that_xml_cannot_represent_becomes_a_question_mark() -> None:
    """XML 1.0, "Characters": most control characters are not allowed."""
    wire = wire_of(models.load("ec2"))

    body = wire.write("CreateVolume", {"VolumeId": "a\x00b\ud800c"}, "an-id").body

    assert b"<volumeId>a?b?c</volumeId>" in body


def test_a_second_handler_of_an_operation_fails_at_import() -> None:
    """The second handler would replace the first without notice."""
    operations = Operations[object]()

    async def answer(*_: object) -> dict[str, Any]:
        return {}

    operations("DeleteVolume")(answer)

    with pytest.raises(ValueError, match="DeleteVolume has two handlers"):
        operations("DeleteVolume")(answer)


@pytest.mark.parametrize(
    ("java", "match", "mismatch"),
    [
        (r"([\p{L}\p{Z}\p{N}_.:/=+\-@]*)", "Grüße 5_ツ½", "a!"),
        (r"\p{L}+", "é", "5"),
        (r"[\p{Alnum}\-]+", "a-5", "é"),
        (r"[^\p{P}]", "a", "!"),
    ],
)
def test_java_s_named_classes_have_the_same_meaning_in_python(java: str, match: str, mismatch: str) -> None:
    """The models' patterns are written for Java."""
    pattern = python_pattern(java)

    assert pattern is not None
    assert pattern.fullmatch(match)
    assert not pattern.fullmatch(mismatch)


NAMES = st.text("VolumeIdFilterSzTagKySpcon.1290", max_size=20) | st.sampled_from(
    ["VolumeId.1", "Filter.1.Name", "Filter.1.Value.2", "Filter.1", "Filter", "TagSpecification.1.Tag.1.Key", "Size"]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda below: (
        st.lists(below, max_size=3)
        | st.dictionaries(st.sampled_from([*GROUP, "ClusterName", "InstanceGroups", "VpcConfig", "Tags"]), below)
    ),
    max_leaves=8,
)


@settings(deadline=None)
@given(st.lists(st.tuples(NAMES, st.text(max_size=5)), max_size=6))
def test_any_form_is_parsed_or_rejected(pairs: list[tuple[str, str]]) -> None:
    """A bad request must never look like a bug of the emulator."""
    headers = {"content-type": "application/x-www-form-urlencoded"}
    request = Request(
        method="POST", path="/", query="", headers=headers, body=urlencode(pairs, errors="replace").encode()
    )
    wire = wire_of(models.load("ec2"))

    for operation in ("DescribeVolumes", "CreateVolume"):
        with suppress(AwsFault):
            wire.parse(operation, request)


@settings(deadline=None)
@given(JSON | st.binary(max_size=10))
def test_any_document_is_parsed_or_rejected(value: object) -> None:
    """A bad request must never look like a bug of the emulator."""
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    request = Request(method="POST", path="/", query="", headers={}, body=body)

    with suppress(AwsFault):
        wire_of(models.load("sagemaker")).parse("CreateCluster", request)


SHAPES = {
    "In": {
        "type": "structure",
        "members": {
            "Rest": {"shape": "Text", "location": "uri", "locationName": "rest"},
            "Most": {"shape": "Number", "location": "querystring", "locationName": "max-results"},
            "Kinds": {"shape": "Texts", "location": "querystring", "locationName": "kind"},
            "Sure": {"shape": "Truth", "location": "header", "locationName": "X-Sure"},
            "Note": {"shape": "Text", "locationName": "note"},
        },
    },
    "Text": {"type": "string"},
    "Texts": {"type": "list", "member": {"shape": "Text"}},
    "Number": {"type": "integer"},
    "Truth": {"type": "boolean"},
}
REST = ServiceModel(
    {
        "metadata": {"protocol": "rest-json", "apiVersion": "2026-01-01", "serviceId": "Rest"},
        "operations": {
            "Do": {"name": "Do", "http": {"method": "POST", "requestUri": "/do/{rest+}"}, "input": {"shape": "In"}}
        },
        "shapes": SHAPES,
    }
)


def rest(path: str, query: str = "", **headers: str) -> Request:
    return Request(method="POST", path=path, query=query, headers=headers, body=b'{"note": "n", "rest": "not here"}')


def test_members_are_read_from_path_query_header_and_body_by_their_names_on_the_wire() -> None:
    """Smithy, "HTTP bindings": the model says where each member is."""
    request = rest("/do/a/b%2Fc%20d", "kind=x&max-results=5&kind=y", **{"x-sure": "true"})

    asked = wire_of(REST).parse("Do", request)

    assert asked == {"Rest": "a/b/c d", "Most": 5, "Kinds": ["x", "y"], "Sure": True, "Note": "n"}


def test_absent_members_are_absent_from_the_parsed_request() -> None:
    assert wire_of(REST).parse("Do", rest("/do/a")) == {"Rest": "a", "Note": "n"}


def test_an_invalid_number_outside_the_body_is_rejected_too() -> None:
    with pytest.raises(AwsFault, match="STRING_VALUE cannot be converted to integer"):
        wire_of(REST).parse("Do", rest("/do/a", "max-results=many"))
