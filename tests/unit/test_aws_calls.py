"""Calls to AWS: the driver repeats them where that helps, and never takes a possible success for a failure."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

from hyperpod_ebs.driver.aws.calls import AwsCaller, NextPage
from hyperpod_ebs.driver.aws.clients import Clients
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.aws_request import Request
from tests.support.virtual_time import run

LOST = ReadTimeoutError(endpoint_url="https://x")
THROTTLED = ClientError({"Error": {"Code": "RequestLimitExceeded", "Message": "slower"}}, "CreateVolume")
DENIED = ClientError({"Error": {"Code": "UnauthorizedOperation", "Message": "no"}}, "CreateVolume")
LIST = Request("DescribeVolumes", "list of volumes", "list volumes")
CREATE = Request("CreateVolume", "data", "create volume data", creates=True)
CLIENTS: Any = object()
"""Takes the place of the SDK's clients, which these tests do not use."""


def scripted_call(*answers: Exception | str) -> tuple[Callable[[Clients], Awaitable[str]], list[Exception | str]]:
    """A call that AWS answers in turn with these answers, and the answers that are left."""
    left = list(answers)

    async def send(_: Clients) -> str:
        match left.pop(0):
            case Exception() as error:
                raise error
            case answer:
                return str(answer)

    return send, left


def call(request: Request, send: Callable[[Clients], Awaitable[str]]) -> str:
    """The result of a call on the virtual clock."""
    return run(AwsCaller(clients=connect).call(request, send, str))


async def connect() -> Clients:
    """Return the clients."""
    clients: Clients = CLIENTS
    return clients


def test_a_throttled_or_unanswered_call_is_repeated() -> None:
    """AWS, "Retry behavior" in the SDKs and Tools reference guide: both failures are transient."""
    send, left = scripted_call(THROTTLED, LOST, "done")

    assert call(LIST, send) == "done"
    assert not left


def test_all_pages_are_read() -> None:
    """A volume on a page that the driver does not fetch would count as deleted, or as detached."""
    requested: list[NextPage] = []
    answers: list[Mapping[str, object]] = [
        {"is": "a", "NextToken": "more"},
        {"is": "", "NextToken": "last"},
        {"is": "b", "NextToken": ""},
    ]

    async def send(_: Clients, page: NextPage) -> Mapping[str, object]:
        requested.append(page)
        return answers.pop(0)

    caller = AwsCaller(clients=connect)
    assert run(caller.call_pages(LIST, send, lambda answer: str(answer["is"]))) == ("a", "b")
    assert requested == [{}, {"NextToken": "more"}, {"NextToken": "last"}]


def test_a_call_without_an_answer_is_repeated_before_the_calls_that_came_later() -> None:
    """Until then its outcome is unknown: a detachment of the same volume has to wait for it."""
    subjects = [f"vol-{number}" for number in range(80)]
    sent: list[str] = []

    async def act() -> None:
        caller = AwsCaller(clients=connect)

        async def attach(subject: str) -> str:
            async def send(_: Clients) -> str:
                sent.append(subject)
                if sent == subjects[:1]:
                    raise LOST
                return "attached"

            return await caller.call(Request("AttachVolume", subject, f"attach volume {subject}"), send, str)

        async with asyncio.TaskGroup() as tasks:
            for subject in subjects:
                tasks.create_task(attach(subject))

    run(act())

    assert sorted(sent) == sorted([*subjects, "vol-0"])
    assert sent.index("vol-0", 1) < 50


def test_an_unanswered_call_is_repeated_only_a_few_times() -> None:
    """The sidecar that made the request repeats it as well."""
    send, left = scripted_call(*[LOST] * 5)

    with pytest.raises(errors.Unavailable):
        call(LIST, send)
    assert len(left) == 2


def test_a_throttled_call_is_repeated_until_aws_accepts_it() -> None:
    """AWS did nothing, and the call keeps its place: its caller would have to begin again at the end of the queue."""
    send, left = scripted_call(*[THROTTLED] * 20, "done")

    assert call(CREATE, send) == "done"
    assert not left


def test_a_refused_call_is_not_repeated() -> None:
    """AWS would refuse it again."""
    send, left = scripted_call(DENIED, "done")

    with pytest.raises(errors.Denied):
        call(LIST, send)
    assert left == ["done"]


def test_a_refusal_after_a_lost_answer_leaves_the_outcome_unknown() -> None:
    """The first attempt may have created the volume that the second one was denied."""
    send, _ = scripted_call(LOST, DENIED)

    with pytest.raises(errors.OutcomeUnknown):
        call(CREATE, send)


def test_a_call_that_would_create_a_second_object_is_not_repeated() -> None:
    """EC2's CreateSnapshot takes no client token: every call makes another snapshot."""
    send, left = scripted_call(LOST, "done")

    with pytest.raises(errors.OutcomeUnknown):
        call(replace(CREATE, repeatable=False), send)
    assert left == ["done"]


@pytest.mark.parametrize("mistake", [KeyError("State"), ValueError("'sleeping' is not a valid VolumeState")])
def test_an_answer_that_cannot_be_parsed_is_not_final(mistake: Exception) -> None:
    """The request may have taken effect nevertheless."""

    async def send(_: Clients) -> str:
        return "done"

    def parse(_: str) -> str:
        raise mistake

    with pytest.raises(errors.CloudError, match="not understood"):
        run(AwsCaller(clients=connect).call(CREATE, send, parse))
