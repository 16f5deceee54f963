"""boto3 and aiobotocore get the answers and errors of the services over HTTP, in every protocol."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import aiohttp
import boto3  # type: ignore[import-untyped] # it has no types of its own
import pytest
from aiobotocore.session import get_session
from aiohttp import web
from botocore.config import Config
from botocore.exceptions import ClientError

from hyperpod_ebs.emulator.http.control import local_only
from hyperpod_ebs.emulator.http.dispatch import Service
from hyperpod_ebs.emulator.http.faults import Faults
from hyperpod_ebs.emulator.http.server import Server
from hyperpod_ebs.emulator.wire.operations import Answer, AwsFault, Call, Operations, Parameters
from tests.support.open_access import OpenAccess

TIME = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
ARN = "arn:aws:sagemaker:us-west-2:123456789012:cluster/abcdefghijkl"
AUTHORIZATION = (
    "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260102/us-west-2/SERVICE/aws4_request, "
    f"SignedHeaders=host;x-amz-date, Signature={'0' * 64}"
)
ATTACH = {"ClusterArn": ARN, "NodeId": "i-0123456789abcdef0", "VolumeId": "vol-0123456789abcdef0"}


class Volumes:
    """A part of EC2."""

    operations = Operations["Volumes"]()

    @operations("DescribeVolumes")
    async def describe(self, parameters: Parameters, call: Call) -> Answer:
        """Answer every requested volume."""
        volumes = [
            {"VolumeId": name, "Size": 4, "Encrypted": True, "CreateTime": TIME} for name in parameters["VolumeIds"]
        ]
        return {"Volumes": volumes, "NextToken": f"{call.account} {call.region}"}

    @operations("DeleteVolume")
    async def delete(self, parameters: Parameters, _: Call) -> Answer:
        """Answer that the volume does not exist."""
        raise AwsFault("InvalidVolume.NotFound", f"The volume '{parameters['VolumeId']}' does not exist. <&>")

    @operations("CreateVolume")
    async def create(self, _: Parameters, __: Call) -> Answer:
        """Answer a volume with a misspelt member."""
        return {"VolumeID": "vol-1"}


class Tags:
    """Another part of EC2."""

    operations = Operations["Tags"]()

    @operations("CreateTags")
    async def create(self, _: Parameters, __: Call) -> Answer:
        """Answer nothing."""
        return {}


class SageMaker:
    """A part of SageMaker."""

    operations = Operations["SageMaker"]()

    @operations("AttachClusterNodeVolume")
    async def attach(self, parameters: Parameters, _: Call) -> Answer:
        """Answer the members of the request and some more."""
        return {**parameters, "AttachTime": TIME, "Status": "attached", "DeviceName": "/dev/sdb"}

    @operations("DescribeCluster")
    async def describe(self, parameters: Parameters, _: Call) -> Answer:
        """Answer that the cluster does not exist."""
        raise AwsFault("ResourceNotFound", f"Cluster {parameters['ClusterName']} not found.")

    @operations("ListClusters")
    async def list(self, _: Parameters, __: Call) -> Answer:
        """Fail with a bug."""
        raise RuntimeError("a bug in a handler")


class Eks:
    """A part of EKS."""

    operations = Operations["Eks"]()

    @operations("DescribeCluster")
    async def describe(self, parameters: Parameters, _: Call) -> Answer:
        """Answer the only cluster."""
        if parameters["name"] != "mine":
            raise AwsFault("ResourceNotFoundException", f"No cluster found for name: {parameters['name']}.")
        return {"cluster": {"name": "mine", "createdAt": TIME, "tags": {"a": "b"}}}


class Sts:
    """STS."""

    operations = Operations["Sts"]()

    @operations("GetCallerIdentity")
    async def identity(self, _: Parameters, call: Call) -> Answer:
        """Answer the caller."""
        return {"Account": call.account, "Arn": call.arn, "UserId": call.user_id}


SERVICES: Mapping[str, Sequence[Service]] = {
    "ec2": [Volumes(), Tags()],
    "sagemaker": [SageMaker()],
    "eks": [Eks()],
    "sts": [Sts()],
}


@asynccontextmanager
async def serving(
    services: Mapping[str, Sequence[Service]] = SERVICES, local_routes: Sequence[web.RouteDef] = ()
) -> AsyncGenerator[str]:
    server = Server(services=services, access=OpenAccess(), faults=Faults(), local_routes=local_routes)
    async with server.serve("127.0.0.1", 0) as url:
        yield url


@pytest.fixture
async def url() -> AsyncGenerator[str]:
    async with serving() as address:
        yield address


async def ask(
    url: str, service: str, operation: str, *, more: Mapping[str, str] | None = None, **parameters: Any
) -> Any:
    """Call the operation with boto3 and return the answer; `more` are additional parameters of the form."""

    def call() -> Any:
        config = Config(retries={"total_max_attempts": 1}, parameter_validation=False)
        client: Any = boto3.client(
            service,
            endpoint_url=url,
            region_name="us-west-2",
            aws_access_key_id="AKIDEXAMPLE",
            aws_secret_access_key="a secret",
            config=config,
        )
        if more:
            client.meta.events.register("before-call", lambda params, **_: params["body"].update(more))
        try:
            answer = getattr(client, operation)(**parameters)
            answer.pop("ResponseMetadata")
            return answer
        finally:
            client.close()

    return await asyncio.to_thread(call)


class Case(NamedTuple):
    """A call and its answer."""

    id: str
    service: str
    operation: str
    parameters: dict[str, Any]
    answer: dict[str, Any]


CASES = [
    Case(
        "ec2",
        "ec2",
        "describe_volumes",
        {"VolumeIds": ["vol-1", "vol-2"]},
        {
            "Volumes": [
                {"VolumeId": name, "Size": 4, "Encrypted": True, "CreateTime": TIME} for name in ("vol-1", "vol-2")
            ],
            "NextToken": "123456789012 us-west-2",
        },
    ),
    Case("an operation without an answer", "ec2", "create_tags", {"Resources": ["vol-1"], "Tags": [{"Key": "a"}]}, {}),
    Case(
        "sagemaker",
        "sagemaker",
        "attach_cluster_node_volume",
        ATTACH,
        {**ATTACH, "AttachTime": TIME, "Status": "attached", "DeviceName": "/dev/sdb"},
    ),
    Case(
        "eks",
        "eks",
        "describe_cluster",
        {"name": "mine"},
        {"cluster": {"name": "mine", "createdAt": TIME, "tags": {"a": "b"}}},
    ),
    Case(
        "sts",
        "sts",
        "get_caller_identity",
        {},
        {"Account": "123456789012", "Arn": "arn:aws:iam::123456789012:user/me", "UserId": "AIDME"},
    ),
]


@pytest.mark.parametrize("case", CASES, ids=[case.id for case in CASES])
async def test_boto3_gets_the_answer(url: str, case: Case) -> None:
    answer = await ask(url, case.service, case.operation, **case.parameters)

    assert answer == case.answer


@pytest.mark.parametrize("case", CASES, ids=[case.id for case in CASES])
async def test_aiobotocore_gets_the_answer(url: str, case: Case) -> None:
    """The driver uses aiobotocore."""
    session: Any = get_session()  # its own types want each service's name as a literal
    client = session.create_client(
        case.service,
        endpoint_url=url,
        region_name="us-west-2",
        aws_access_key_id="AKIDEXAMPLE",
        aws_secret_access_key="a secret",
    )

    async with client as connected:
        answer = await getattr(connected, case.operation)(**case.parameters)

    answer.pop("ResponseMetadata")
    assert answer == case.answer


class ErrorCase(NamedTuple):
    """A call and its error."""

    id: str
    service: str
    operation: str
    parameters: dict[str, Any]
    more: dict[str, str]
    code: str
    message: str
    status: int


ERRORS = [
    ErrorCase(
        "an error of ec2",
        "ec2",
        "delete_volume",
        {"VolumeId": "vol-1"},
        {},
        "InvalidVolume.NotFound",
        "The volume 'vol-1' does not exist. <&>",
        400,
    ),
    ErrorCase(
        "an error in sagemaker's model",
        "sagemaker",
        "describe_cluster",
        {"ClusterName": "x"},
        {},
        "ResourceNotFound",
        "Cluster x not found.",
        400,
    ),
    ErrorCase(
        "an error with a status in eks's model",
        "eks",
        "describe_cluster",
        {"name": "x"},
        {},
        "ResourceNotFoundException",
        "No cluster found for name: x.",
        404,
    ),
    ErrorCase(
        "ec2 without a required parameter",
        "ec2",
        "delete_volume",
        {},
        {},
        "MissingParameter",
        "The request must contain the parameter VolumeId",
        400,
    ),
    ErrorCase(
        "ec2 with an unknown parameter",
        "ec2",
        "describe_volumes",
        {},
        {"Colour": "red"},
        "UnknownParameter",
        "The parameter Colour is not recognized",
        400,
    ),
    ErrorCase(
        "ec2 with an invalid number",
        "ec2",
        "describe_volumes",
        {},
        {"MaxResults": "many"},
        "InvalidParameterValue",
        "Value (many) for parameter MaxResults is invalid.",
        400,
    ),
    ErrorCase(
        "an operation of ec2 that is not emulated",
        "ec2",
        "describe_snapshots",
        {},
        {},
        "InvalidAction",
        "operation DescribeSnapshots of ec2 is not emulated",
        400,
    ),
    ErrorCase(
        "an operation of sagemaker that is not emulated",
        "sagemaker",
        "list_domains",
        {},
        {},
        "UnknownOperationException",
        "operation ListDomains of sagemaker is not emulated",
        400,
    ),
    ErrorCase(
        "an operation of eks that is not emulated",
        "eks",
        "list_clusters",
        {},
        {},
        "UnknownOperationException",
        "operation ListClusters of eks is not emulated",
        404,
    ),
    ErrorCase(
        "an operation of sts that is not emulated and has no signature",
        "sts",
        "assume_role_with_saml",
        {"RoleArn": f"arn:aws:iam::{1:012}:role/r", "PrincipalArn": f"arn:aws:iam::{1:012}:saml-provider/p"},
        {"SAMLAssertion": "none"},
        "InvalidAction",
        "operation AssumeRoleWithSAML of sts is not emulated",
        400,
    ),
    ErrorCase(
        "an operation of sts that is not emulated",
        "sts",
        "get_session_token",
        {},
        {},
        "InvalidAction",
        "operation GetSessionToken of sts is not emulated",
        400,
    ),
    ErrorCase(
        "sagemaker with a malformed id",
        "sagemaker",
        "attach_cluster_node_volume",
        {**ATTACH, "NodeId": "node"},
        {},
        "ValidationException",
        "1 validation error detected: Value 'node' at 'nodeId' failed to satisfy constraint: Member must satisfy "
        "regular expression pattern: i-[a-f0-9]{8}(?:[a-f0-9]{9})?",
        400,
    ),
    ErrorCase(
        "an answer of ec2 with a misspelt member",
        "ec2",
        "create_volume",
        {"Size": 4},
        {},
        "InternalError",
        "An internal error has occurred",
        500,
    ),
    ErrorCase(
        "a bug in a handler of sagemaker",
        "sagemaker",
        "list_clusters",
        {},
        {},
        "InternalFailure",
        "An internal error has occurred",
        500,
    ),
]


@pytest.mark.parametrize("case", ERRORS, ids=[case.id for case in ERRORS])
async def test_boto3_gets_the_error(url: str, case: ErrorCase) -> None:
    """Code, message and HTTP status arrive in every protocol."""
    with pytest.raises(ClientError) as refused:
        await ask(url, case.service, case.operation, more=case.more, **case.parameters)

    response: Any = refused.value.response
    assert (response["Error"]["Code"], response["Error"]["Message"]) == (case.code, case.message)
    assert response["ResponseMetadata"]["HTTPStatusCode"] == case.status
    assert response["ResponseMetadata"]["RequestId"]


async def test_a_bug_is_logged_with_its_traceback_and_without_secrets(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A user must be able to report the bug with its cause."""
    caplog.set_level(logging.DEBUG, logger="hyperpod_ebs")

    with pytest.raises(ClientError):
        await ask(url, "sagemaker", "list_clusters")

    log = "\n".join(caplog.handler.format(record) for record in caplog.records if "hyperpod_ebs" in record.name)
    assert "a bug in a handler" in log
    assert "Traceback" in log
    assert "a secret" not in log
    assert "Signature=" not in log


@pytest.mark.parametrize(
    ("service", "operation", "parameters"),
    [
        ("s3", "list_buckets", {}),
        ("route53", "list_hosted_zones", {}),
        ("iam", "list_roles", {}),
        ("autoscaling", "describe_auto_scaling_groups", {}),
        ("dynamodb", "list_tables", {}),
        ("kms", "create_key", {}),
        ("efs", "describe_file_systems", {}),
        ("eventbridgev2", "list_event_buses", {}),
        ("lambda", "invoke", {"FunctionName": "f", "Payload": b"{}"}),
    ],
)
async def test_a_client_of_a_service_that_is_not_emulated_learns_which_ones_are(
    url: str, service: str, operation: str, parameters: dict[str, Any]
) -> None:
    """A wrong endpoint variable is a common mistake. Each client parses the errors of its own protocol."""
    with pytest.raises(ClientError) as refused:
        await ask(url, service, operation, **parameters)

    response: Any = refused.value.response
    assert response["Error"]["Code"] == "UnknownOperationException"
    assert "is not emulated; the emulated services are ec2, eks, sagemaker, sts" in response["Error"]["Message"]
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 404


LONG: Final = "x" * 2**20


@pytest.mark.parametrize(
    ("service", "operation", "parameters"),
    [
        ("ec2", "delete_volume", {"VolumeId": LONG}),
        ("sts", "get_access_key_info", {"AccessKeyId": LONG}),
        ("sagemaker", "delete_cluster", {"ClusterName": LONG}),
        ("eks", "create_cluster", {"name": LONG, "roleArn": "r", "resourcesVpcConfig": {}}),
    ],
)
async def test_a_body_that_is_too_long_is_rejected(
    url: str, service: str, operation: str, parameters: dict[str, Any]
) -> None:
    """IAM API Reference, "Common Errors": RequestEntityTooLargeException. A long body must not fill the memory."""
    with pytest.raises(ClientError) as refused:
        await ask(url, service, operation, **parameters)

    response: Any = refused.value.response
    assert response["Error"]["Code"] == "RequestEntityTooLargeException"
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 413


@pytest.mark.parametrize("name", ["a" * 20_000, "\r\n", "\u2028"])
async def test_any_name_in_a_path_gets_an_answer_of_the_service(url: str, name: str) -> None:
    """A rest-json request has names in its path, as long as the caller wants and with any character."""
    with pytest.raises(ClientError) as refused:
        await ask(url, "eks", "describe_cluster", name=name)

    response: Any = refused.value.response
    assert response["Error"]["Code"].endswith("Exception")


@pytest.mark.parametrize("target", ["/" + "a/" * 20_000, "/?" + "a&" * 20_000], ids=["path", "query"])
async def test_a_path_or_query_that_is_too_long_is_rejected_before_it_is_parsed(url: str, target: str) -> None:
    """CWE-407: all other calls wait while one is parsed, and aiohttp routes a long path in quadratic time."""
    async with aiohttp.ClientSession() as session, session.get(f"{url}{target}") as answer:
        assert answer.status == 400


async def test_calls_are_counted_by_service_and_operation(url: str) -> None:
    """The demo shows the number of AWS calls of each step."""
    await ask(url, "sts", "get_caller_identity")
    await ask(url, "ec2", "describe_volumes", VolumeIds=["vol-1"])
    await ask(url, "ec2", "describe_volumes", VolumeIds=["vol-2"])

    async with aiohttp.ClientSession() as session:
        counts = await (await session.get(f"{url}/_emulator/calls")).json()
        await session.delete(f"{url}/_emulator/calls")
        afterwards = await (await session.get(f"{url}/_emulator/calls")).json()

    assert counts == {"sts:GetCallerIdentity": 1, "ec2:DescribeVolumes": 2}
    assert afterwards == {}


async def test_additional_routes_are_served_on_the_same_port() -> None:
    """The emulator's status uses the port of the AWS services."""

    async def hello(_: web.Request) -> web.Response:
        return web.Response(text="hello")

    async with (
        serving(local_routes=[web.get("/_emulator/{instance}/hello", hello)]) as url,
        aiohttp.ClientSession() as session,
    ):
        said = await (await session.get(f"{url}/_emulator/i-1/hello")).text()
        healthy = await (await session.get(f"{url}/_emulator/health")).json()

    assert said == "hello"
    assert healthy == {"status": "ok"}


@pytest.mark.parametrize(("remote", "status"), [("127.0.0.1", 200), ("::1", 200), ("192.0.2.1", 403)])
async def test_a_control_route_is_only_for_clients_on_this_machine(remote: str, status: int) -> None:
    """Other machines must not be able to plan faults or to read the call log."""

    async def hello(_: web.Request) -> web.Response:
        return web.Response(text="hello")

    route = local_only(web.get("/hello", hello))

    async def with_another_client_address(request: web.Request) -> web.StreamResponse:
        handler: Callable[[web.Request], Any] = route.handler
        return await handler(request.clone(remote=remote))  # type: ignore[no-any-return] # what handlers return

    application = web.Application()
    application.router.add_get("/hello", with_another_client_address)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]

    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/hello") as answer:
        answered = answer.status

    await runner.cleanup()
    assert answered == status


@pytest.mark.requirement("emulator.answers-others")
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost:4566"}, 200),
        ({"Host": "[::1]:4566"}, 200),
        ({"Host": "0.0.0.0:4566"}, 200),
        ({"Host": "rebound.example:4566"}, 403),
        ({"Host": "127.0.0.1.rebound.example"}, 403),
        ({"Host": "192.0.2.1"}, 403),
        ({"Host": "["}, 403),
        ({"Host": ""}, 403),
        ({"Origin": "http://rebound.example"}, 403),
        ({"Origin": "null"}, 403),
    ],
    ids=str,
)
async def test_a_web_page_in_the_users_browser_cannot_use_a_control_route(
    url: str, headers: dict[str, str], status: int
) -> None:
    """A page's name may have been given the emulator's address (DNS rebinding); the request comes from this machine."""
    async with aiohttp.ClientSession() as session:
        for route in ("health", "calls", "faults"):
            async with session.get(f"{url}/_emulator/{route}", headers=headers) as answer:
                assert answer.status == status


async def test_an_operation_with_handlers_in_two_objects_fails_at_start() -> None:
    """The second handler would replace the first without notice."""
    with pytest.raises(ValueError, match="DescribeVolumes of ec2 has two handlers"):
        Server(services={"ec2": [Volumes(), Volumes()]}, access=OpenAccess(), faults=Faults(), local_routes=[])


async def test_an_operation_that_the_service_does_not_have_fails_at_start() -> None:
    """A handler with a misspelt name would never be called."""
    with pytest.raises(ValueError, match="service sts has no operation AttachClusterNodeVolume"):
        async with serving({"sts": [SageMaker()]}):
            pass
