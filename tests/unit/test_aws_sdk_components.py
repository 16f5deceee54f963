"""The SDK's sessions take the driver's faster components, which do what the SDK's own do."""

import re
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, NoReturn

import botocore.utils
import pytest
from aiobotocore.awsrequest import AioAWSResponse
from aiobotocore.config import AioConfig
from aiobotocore.parsers import AioEC2QueryParser
from aiobotocore.session import get_session
from botocore.awsrequest import AWSPreparedRequest
from botocore.compat import HTTPHeaders
from botocore.useragent import UserAgentString
from hypothesis import given
from hypothesis import strategies as st

from hyperpod_ebs.driver.aws.sdk_components import register_components
from hyperpod_ebs.driver.aws.timestamps import parse_timestamp

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from types_aiobotocore_ec2 import EC2Client

CREATED = "2026-12-01T09:40:51.179Z"
ANSWER = f"<AnyResponse><volumeSet><item><createTime>{CREATED}</createTime></item></volumeSet></AnyResponse>"


class Answer(AioAWSResponse):
    """EC2's answer to DescribeVolumes, without a network."""

    def __init__(self, request: AWSPreparedRequest) -> None:
        super().__init__(request.url, 200, HTTPHeaders(), None)

    async def _content_prop(self) -> bytes:
        return ANSWER.encode()


@asynccontextmanager
async def ec2_client(user_agents: list[str], *, own_components: bool) -> "AsyncGenerator[EC2Client]":
    """A client whose requests note their user agents and are answered at once."""

    def answer(request: AWSPreparedRequest, **_: object) -> Answer:
        user_agent = request.headers["User-Agent"]
        user_agents.append(user_agent.decode() if isinstance(user_agent, bytes) else user_agent)
        return Answer(request)

    session = get_session()
    if own_components:
        register_components(session)
    session.register("before-send", answer)
    session.set_credentials("key", "secret")
    config = AioConfig(user_agent_extra="hyperpod-ebs/1 helm", user_agent_appid="training")
    async with session.create_client("ec2", "us-west-2", config=config) as ec2:
        yield ec2


def fail(*_: Any, **__: Any) -> NoReturn:
    """Take the place of a slow function that must not be called."""
    pytest.fail("the SDK uses its own component")


def words(user_agent: str) -> list[str]:
    """The words of a user agent in order of the alphabet; the SDK lists features in any order."""
    return sorted(re.split("[ ,/]", user_agent))


@pytest.mark.parametrize("attempts", [1, 2])
async def test_the_user_agent_says_what_the_sdks_own_says(attempts: int) -> None:
    sdks: list[str] = []
    own: list[str] = []
    async with ec2_client(sdks, own_components=False) as ec2:
        await ec2.describe_volumes()

    async with ec2_client(own, own_components=True) as ec2:
        for _ in range(attempts):
            await ec2.describe_volumes()

    assert words(own[-1]) == words(sdks[0])
    assert own[-1].endswith("hyperpod-ebs/1 helm")


async def test_the_user_agent_is_built_for_the_first_request_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK builds it twice a call, which takes a tenth of the call's CPU time."""
    user_agents: list[str] = []
    async with ec2_client(user_agents, own_components=True) as ec2:
        await ec2.describe_volumes()
        monkeypatch.setattr(UserAgentString, "to_string", fail)

        await ec2.describe_volumes()

    assert len(set(user_agents)) == 1


async def test_two_clients_of_a_session_have_their_own_user_agents() -> None:
    session, seen = get_session(), list[str]()
    register_components(session)
    session.set_credentials("key", "secret")

    def answer(request: AWSPreparedRequest, **_: object) -> Answer:
        seen.append(str(request.headers["User-Agent"]))
        return Answer(request)

    session.register("before-send", answer)
    for name in ("first", "second"):
        config = AioConfig(user_agent_extra=name)
        async with session.create_client("ec2", "us-west-2", config=config) as ec2:
            await ec2.describe_volumes()

    assert ["first" in agent for agent in seen] == [True, False]
    assert ["second" in agent for agent in seen] == [False, True]


async def test_a_timestamp_of_ec2_is_parsed_without_dateutil(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dateutil takes 30 µs or more for each, and a page of volumes has hundreds."""
    monkeypatch.setattr("dateutil.parser.parse", fail)

    async with ec2_client([], own_components=True) as ec2:
        answer = await ec2.describe_volumes()

    assert answer["Volumes"][0].get("CreateTime") == datetime(2026, 12, 1, 9, 40, 51, 179_000, UTC)


async def test_an_answer_of_ec2_is_parsed_without_the_sdks_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK's parser takes about twice as long."""
    monkeypatch.setattr(AioEC2QueryParser, "parse", fail)

    async with ec2_client([], own_components=True) as ec2:
        assert len((await ec2.describe_volumes())["Volumes"]) == 1


@given(
    st.datetimes(datetime(1971, 1, 1), datetime(2999, 1, 1)),  # noqa: DTZ001 - the zone is drawn apart
    st.sampled_from([UTC, timezone(timedelta(hours=-7)), timezone(timedelta(hours=5, minutes=30)), None]),
    st.sampled_from(
        ["{0:%Y-%m-%dT%H:%M:%S}.{1:03}Z", "{0:%Y-%m-%dT%H:%M:%SZ}", "{2}", "{0:%a, %d %b %Y %H:%M:%S GMT}"]
    ),
)
def test_a_timestamp_is_what_the_sdk_makes_of_it(moment: datetime, zone: timezone | None, form: str) -> None:
    text = form.format(moment, moment.microsecond // 1000, moment.replace(tzinfo=zone).isoformat())

    assert parse_timestamp(text) == botocore.utils.parse_timestamp(text)


@pytest.mark.parametrize("value", [1764582051.179, 1764582051, "1764582051.5"])
def test_seconds_are_parsed_as_the_sdk_parses_them(value: float | str) -> None:
    """The form of SageMaker's timestamps."""
    assert parse_timestamp(value) == botocore.utils.parse_timestamp(value)  # type: ignore[arg-type] # the stubs know only text


def test_what_is_no_timestamp_is_refused() -> None:
    with pytest.raises(ValueError, match="no time"):
        parse_timestamp("no time")
