"""CloudTrail's LookupEvents, which the emulator answers from its call log."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from hyperpod_ebs.emulator.emulator import Emulator
from tests.support.callers import Caller
from tests.support.emulator_clients import Aws, clients
from tests.support.iam_users import allow
from tests.support.roles import ALLOW_ALL, connect, put_role


async def look_up(aws: Aws, **members: Any) -> list[dict[str, Any]]:
    """The events in the first page."""
    events: list[dict[str, Any]] = (await aws("cloudtrail", "lookup_events", **members))["Events"]
    return events


def where(key: str, value: str) -> Sequence[dict[str, str]]:
    """A lookup attribute."""
    return [{"AttributeKey": key, "AttributeValue": value}]


def names(events: Sequence[dict[str, Any]]) -> list[str]:
    """The events' names."""
    return [event["EventName"] for event in events]


async def test_an_event_shows_the_caller_the_call_and_the_error(emulator: Emulator, aws: Aws) -> None:
    """AWS CloudTrail User Guide, "CloudTrail record contents for management events"."""
    caller = await Caller.create(emulator, "bob")
    volume = await aws.create_volume()
    await caller.aws.expect_error("ec2", "delete_volume", VolumeId=volume)

    (event,) = await look_up(aws, LookupAttributes=where("EventName", "DeleteVolume"))
    record = json.loads(event["CloudTrailEvent"])

    assert (event["EventSource"], event["ReadOnly"], event["Username"]) == ("ec2.amazonaws.com", "false", "bob")
    assert event["Resources"] == [{"ResourceType": "AWS::EC2::Volume", "ResourceName": volume}]
    assert record["userIdentity"] == {
        "type": "IAMUser",
        "principalId": emulator.world.store.users["bob"].unique_id,
        "arn": "arn:aws:iam::123456789012:user/bob",
        "accountId": "123456789012",
        "accessKeyId": caller.env["AWS_ACCESS_KEY_ID"],
        "userName": "bob",
    }
    assert record["errorCode"] == "Client.UnauthorizedOperation"
    assert record["eventID"] == event["EventId"] != record["requestID"]
    assert record["eventTime"] == f"{event['EventTime'].astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
    assert (record["awsRegion"], record["readOnly"], record["eventType"]) == ("us-west-2", False, "AwsApiCall")


async def test_an_event_of_a_role_session_names_the_role(emulator: Emulator, aws: Aws) -> None:
    """AWS CloudTrail User Guide, "CloudTrail userIdentity element": sessionContext."""
    role = put_role(emulator, "work", allow=ALLOW_ALL)
    session = (await aws("sts", "assume_role", RoleArn=role, RoleSessionName="me"))["Credentials"]
    identity = await (await connect(emulator, session, "sts"))("sts", "get_caller_identity")

    (event,) = await look_up(aws, LookupAttributes=where("AccessKeyId", session["AccessKeyId"]))
    record = json.loads(event["CloudTrailEvent"])

    assert (event["EventName"], event["Username"]) == ("GetCallerIdentity", "me")
    assert record["requestID"] == identity["ResponseMetadata"]["RequestId"]
    assert record["userIdentity"]["type"] == "AssumedRole"
    assert record["userIdentity"]["principalId"] == identity["UserId"]
    issuer = record["userIdentity"]["sessionContext"]["sessionIssuer"]
    assert (issuer["arn"], issuer["userName"]) == (role, "work")
    assert "errorCode" not in record


async def test_events_are_found_by_each_attribute(aws: Aws) -> None:
    volume = await aws.create_volume()
    await aws("sts", "get_caller_identity")
    (created,) = await look_up(aws, LookupAttributes=where("EventName", "CreateVolume"))

    for key, value in {
        "EventId": created["EventId"],
        "ReadOnly": "false",
        "Username": "emulator",
        "ResourceType": "AWS::EC2::Volume",
        "ResourceName": volume,
        "EventSource": "ec2.amazonaws.com",
        "AccessKeyId": created["AccessKeyId"],
    }.items():
        assert "CreateVolume" in names(await look_up(aws, LookupAttributes=where(key, value))), key
        assert await look_up(aws, LookupAttributes=where(key, "another")) == [], key


async def test_events_are_found_by_time(aws: Aws) -> None:
    """Both times are part of the range, in whole seconds."""
    before = datetime.now(UTC)
    await aws("sts", "get_caller_identity")
    after = datetime.now(UTC)

    assert "GetCallerIdentity" in names(await look_up(aws, StartTime=before, EndTime=after))
    assert await look_up(aws, StartTime=after + timedelta(minutes=1)) == []
    assert await look_up(aws, EndTime=before - timedelta(minutes=1)) == []


async def test_pages_show_every_event_once_and_the_latest_first(aws: Aws) -> None:
    """Calls that are made meanwhile move no event to another page."""
    for _ in range(5):
        await aws("sts", "get_caller_identity")
    await aws.ec2("describe_volumes")
    by_source = where("EventSource", "sts.amazonaws.com")

    first = await aws("cloudtrail", "lookup_events", LookupAttributes=by_source, MaxResults=3)
    await aws("sts", "get_caller_identity")
    second = await aws(
        "cloudtrail", "lookup_events", LookupAttributes=by_source, MaxResults=3, NextToken=first["NextToken"]
    )

    ids = [event["EventId"] for page in (first, second) for event in page["Events"]]
    assert len(ids) == len(set(ids)) == 5
    assert "NextToken" not in second
    assert names(await look_up(aws))[:2] == ["LookupEvents", "GetCallerIdentity"]


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({"NextToken": "bm90aGluZw=="}, "InvalidNextTokenException"),
        ({"NextToken": "é"}, "InvalidNextTokenException"),
        (
            {"LookupAttributes": [*where("EventName", "A"), *where("EventName", "B")]},
            "InvalidLookupAttributesException",
        ),
        (
            {"StartTime": datetime(2026, 2, 1, tzinfo=UTC), "EndTime": datetime(2026, 1, 1, tzinfo=UTC)},
            "InvalidTimeRangeException",
        ),
    ],
    ids=["foreign token", "no token", "two attributes", "end before start"],
)
async def test_a_lookup_that_cannot_be_answered_is_refused(members: dict[str, Any], code: str, aws: Aws) -> None:
    assert (await aws.expect_error("cloudtrail", "lookup_events", **members))[0] == code


async def test_a_page_s_token_belongs_to_its_lookup(aws: Aws) -> None:
    """CloudTrail API Reference, "LookupEvents": a token is used with the parameters of the original call."""
    await aws("sts", "get_caller_identity")
    await aws("sts", "get_caller_identity")
    token = (await aws("cloudtrail", "lookup_events", MaxResults=1))["NextToken"]

    members = {"NextToken": token, "LookupAttributes": where("EventName", "A")}

    assert (await aws.expect_error("cloudtrail", "lookup_events", **members))[0] == "InvalidNextTokenException"


async def test_calls_with_bad_signatures_are_no_events(emulator: Emulator, aws: Aws) -> None:
    thief = clients({**emulator.env, "AWS_SECRET_ACCESS_KEY": "guessed"}, ["sts"])
    await thief.expect_error("sts", "get_caller_identity")

    assert await look_up(aws) == []


async def test_a_lookup_needs_permission(emulator: Emulator) -> None:
    caller = await Caller.create(emulator)
    refused = await caller.aws.expect_error("cloudtrail", "lookup_events")
    caller.allow([allow("cloudtrail:LookupEvents")])

    assert refused[0] == "AccessDeniedException"
    assert "is not authorized to perform: cloudtrail:LookupEvents" in refused[1]
    assert names(await look_up(caller.aws)) == ["LookupEvents"]
