"""CreateVolume, DeleteVolume and DescribeVolumes, called through the AWS SDK."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from botocore.exceptions import ClientError

from hyperpod_ebs.emulator.state.clock import AWS_DURATIONS, Duration
from tests.support.emulator_clients import ZONE, Aws, cloud, error_of
from tests.support.waiting import wait_until_equal


async def test_a_volume_is_creating_and_then_available_with_the_requested_settings(aws: Aws) -> None:
    """EC2 API reference, CreateVolume and Volume: State."""
    tags = [{"Key": "Name", "Value": "data"}]

    made = await aws.ec2(
        "create_volume",
        AvailabilityZone=ZONE,
        Size=10,
        VolumeType="gp3",
        Iops=4000,
        Throughput=250,
        TagSpecifications=[{"ResourceType": "volume", "Tags": tags}],
    )

    shown = await aws.describe_volume(made["VolumeId"])
    assert (made["State"], shown["State"]) == ("creating", "available")
    assert (shown["Size"], shown["Iops"], shown["Throughput"], shown["Tags"]) == (10, 4000, 250, tags)
    assert (shown["AvailabilityZone"], shown["AvailabilityZoneId"]) == (ZONE, "usw2-az1")


async def test_a_zone_can_be_given_by_its_id(aws: Aws) -> None:
    """EC2 API reference, CreateVolume: AvailabilityZoneId."""
    made = await aws.ec2("create_volume", AvailabilityZoneId="usw2-az2", Size=1)

    assert (made["AvailabilityZone"], made["VolumeType"], made["Iops"]) == ("us-west-2b", "gp2", 100)


IO2 = {"VolumeType": "io2"}

IO2_LIMITS = "io2 volumes configured with greater than 64 TiB or 256K IOPS or 1000:1 IOPS:GB ratio are not supported."
"""EC2's one answer to all three limits, quoted in https://github.com/kubernetes-sigs/aws-ebs-csi-driver/pull/2475."""


class Refusal(NamedTuple):
    """A CreateVolume that EC2 refuses."""

    id: str
    members: dict[str, Any]
    code: str
    text: str


REFUSALS = [
    Refusal("no zone", {"AvailabilityZone": ""}, "MissingParameter", "AvailabilityZone"),
    Refusal("unknown zone", {"AvailabilityZone": "us-west-2z"}, "InvalidZone.NotFound", "us-west-2z"),
    Refusal("two zones", {"AvailabilityZoneId": "usw2-az1"}, "InvalidParameterCombination", "AvailabilityZoneId"),
    Refusal("unknown type", {"VolumeType": "gp9"}, "UnknownVolumeType", "gp9"),
    Refusal("too large", {"Size": 65_537}, "InvalidParameterValue", "maximum is 65536GiB"),
    Refusal("too small", {"Size": 1, "VolumeType": "st1"}, "InvalidParameterValue", "minimum is 125GiB"),
    Refusal(
        "iops over gp3's", {"Iops": 2**31 - 1, "Size": 4}, "InvalidParameterValue", "is too high; maximum is 80000"
    ),
    Refusal("iops over io1's", {"VolumeType": "io1", "Iops": 64_001, "Size": 4}, "InvalidParameterValue", "64000"),
    Refusal("iops over io2's", {**IO2, "Iops": 2**31 - 1, "Size": 4}, "InvalidParameterCombination", IO2_LIMITS),
    Refusal("iops over io2's only", {**IO2, "Iops": 256_001, "Size": 512}, "InvalidParameterCombination", IO2_LIMITS),
    Refusal("iops ratio of io2", {**IO2, "Iops": 10_000, "Size": 6}, "InvalidParameterCombination", IO2_LIMITS),
    Refusal("io2 too large", {**IO2, "Iops": 100, "Size": 65_537}, "InvalidParameterCombination", IO2_LIMITS),
    Refusal("iops under gp3's", {"Iops": 2_999}, "InvalidParameterValue", "minimum is 3000"),
    Refusal(
        "iops ratio",
        {"Iops": 15_000, "Size": 20},
        "InvalidParameterValue",
        "ratio of 750.000000 is too high; maximum is 500",
    ),
    Refusal(
        "iops on gp2",
        {"VolumeType": "gp2", "Iops": 100},
        "InvalidParameterCombination",
        "parameter iops is not supported",
    ),
    Refusal(
        "no iops on io2", {"VolumeType": "io2", "Size": 4}, "InvalidParameterCombination", "iops must be specified"
    ),
    Refusal("throughput on gp2", {"VolumeType": "gp2", "Throughput": 125}, "InvalidParameterCombination", "gp3"),
    Refusal(
        "throughput over gp3's", {"Throughput": 2_001, "Iops": 80_000, "Size": 200}, "InvalidParameterValue", "2000"
    ),
    Refusal(
        "throughput ratio",
        {"Throughput": 1_000},
        "InvalidParameterValue",
        "ratio of 0.333333 is too high; maximum is 0.250000",
    ),
    Refusal("shared gp3", {"MultiAttachEnabled": True}, "InvalidParameterCombination", "multi-attach"),
    Refusal("key without encryption", {"KmsKeyId": "alias/k"}, "InvalidParameterDependency", "KmsKeyId"),
    Refusal("rate without snapshot", {"VolumeInitializationRate": 100}, "InvalidParameterCombination", "SnapshotId"),
    Refusal(
        "unknown snapshot",
        {"SnapshotId": "snap-0123456789abcdef0"},
        "InvalidSnapshot.NotFound",
        "snap-0123456789abcdef0",
    ),
    Refusal("malformed snapshot", {"SnapshotId": "snap-x"}, "InvalidSnapshotID.Malformed", "snap-x"),
    Refusal("long token", {"ClientToken": "t" * 65}, "InvalidParameterValue", "64"),
    Refusal(
        "outpost", {"OutpostArn": "arn:aws:outposts:us-west-2:1:outpost/op-1"}, "UnsupportedOperation", "OutpostArn"
    ),
    Refusal(
        "tags of another kind",
        {"TagSpecifications": [{"ResourceType": "snapshot", "Tags": [{"Key": "a", "Value": "b"}]}]},
        "InvalidParameterValue",
        "'snapshot' is not a valid taggable resource type",
    ),
    Refusal(
        "reserved tag",
        {"TagSpecifications": [{"ResourceType": "volume", "Tags": [{"Key": "aws:x", "Value": "b"}]}]},
        "InvalidParameterValue",
        "reserved",
    ),
    Refusal(
        "many tags",
        {"TagSpecifications": [{"ResourceType": "volume", "Tags": [{"Key": f"k{n}", "Value": ""} for n in range(51)]}]},
        "TagLimitExceeded",
        "50",
    ),
]


@pytest.mark.requirement("emulator.refuses-as-aws")
@pytest.mark.parametrize("case", REFUSALS, ids=[case.id for case in REFUSALS])
async def test_an_invalid_create_is_refused_and_creates_nothing(aws: Aws, case: Refusal) -> None:
    """EC2 API reference, CreateVolume: ranges and ratios. The upstream driver parses these texts."""
    members = {"AvailabilityZone": ZONE, "Size": 1, "VolumeType": "gp3"} | case.members

    code, text = await aws.expect_error("ec2", "create_volume", **members)

    assert (code, case.text in text) == (case.code, True), text
    assert (await aws.ec2("describe_volumes"))["Volumes"] == []


async def test_a_dry_run_checks_the_ranges_first(aws: Aws) -> None:
    """The upstream driver reads the highest IOPS from a dry run (pkg/cloud/cloud.go, IopsLimitDryRun)."""
    request = {"AvailabilityZone": ZONE, "Size": 4, "VolumeType": "gp3", "DryRun": True}

    in_range = await aws.expect_error("ec2", "create_volume", Iops=3000, **request)
    beyond = await aws.expect_error("ec2", "create_volume", Iops=2**31 - 1, **request)

    assert (in_range[0], beyond[0]) == ("DryRunOperation", "InvalidParameterValue")


async def test_a_client_token_creates_one_volume_and_is_refused_for_another_request(aws: Aws) -> None:
    """EC2 developer guide, "Ensuring idempotency in Amazon EC2 API requests"."""
    request = {"AvailabilityZone": ZONE, "Size": 1, "ClientToken": "once"}
    first = await aws.ec2("create_volume", **request)

    again = await aws.ec2("create_volume", **request)
    other = await aws.expect_error("ec2", "create_volume", **request | {"Size": 2})

    assert again["VolumeId"] == first["VolumeId"]
    assert other[0] == "IdempotentParameterMismatch"
    assert len((await aws.ec2("describe_volumes"))["Volumes"]) == 1


async def test_a_client_token_is_for_the_same_tags_in_any_order(aws: Aws) -> None:
    """EC2 user guide, "Tag your Amazon EC2 resources": tags are a set of keys. Go's maps have no order.

    EC2 developer guide, "Ensuring idempotency in Amazon EC2 API requests": a retry has the same parameters.
    """
    tags = [{"Key": name, "Value": "x"} for name in ("a", "b", "c")]

    async def create(tags: list[dict[str, str]]) -> str:
        specification = {"ResourceType": "volume", "Tags": tags}
        request = {"AvailabilityZone": ZONE, "Size": 1, "ClientToken": "once", "TagSpecifications": [specification]}
        return str((await aws.ec2("create_volume", **request))["VolumeId"])

    first = await create(tags)
    again = await create(tags[::-1])
    with pytest.raises(ClientError) as other:
        await create(tags[:2])

    assert again == first
    assert error_of(other.value)[0] == "IdempotentParameterMismatch"
    assert len((await aws.ec2("describe_volumes"))["Volumes"]) == 1


async def test_client_tokens_outlive_a_restart_and_end_after_24_hours(short_path: Path) -> None:
    """AWS does not publish how long EC2 remembers a token; after a lost answer, a driver may retry for hours."""
    request = {"AvailabilityZone": ZONE, "Size": 1}
    async with cloud(short_path / "state") as (emulator, aws):
        ids = {token: (await aws.ec2("create_volume", ClientToken=token, **request))["VolumeId"] for token in "no"}
        tokens = emulator.world.store.tokens
        for token, hours in (("n", 23.9), ("o", 24.1)):
            (record,) = [record for record in tokens.values() if record.made == (ids[token],)]
            tokens.put(replace(record, used=time.time() - hours * 3600))

    async with cloud(short_path / "state") as (_, aws):
        again = {token: (await aws.ec2("create_volume", ClientToken=token, **request))["VolumeId"] for token in "no"}

    assert again["n"] == ids["n"]
    assert again["o"] != ids["o"]


async def test_the_client_token_of_a_deleted_volume_cannot_be_used_again(aws: Aws) -> None:
    """The upstream driver handles IdempotentParameterMismatch for a volume that is gone (pkg/cloud/cloud.go)."""
    request = {"AvailabilityZone": ZONE, "Size": 1, "ClientToken": "once"}
    first = await aws.ec2("create_volume", **request)
    await aws.describe_volume(first["VolumeId"])
    await aws.ec2("delete_volume", VolumeId=first["VolumeId"])

    again = await aws.expect_error("ec2", "create_volume", **request)

    assert again[0] == "IdempotentParameterMismatch"


async def test_a_client_token_returns_its_volume_after_the_source_snapshot_is_deleted(aws: Aws) -> None:
    """A repeated request creates nothing, so its parameters are not checked again."""
    source = await aws.create_volume()
    from_it = (await aws.ec2("create_snapshot", VolumeId=source))["SnapshotId"]
    request = {"AvailabilityZone": ZONE, "SnapshotId": from_it, "ClientToken": "once"}
    first = await aws.ec2("create_volume", **request)
    await aws.ec2("delete_snapshot", SnapshotId=from_it)

    again = await aws.ec2("create_volume", **request)
    dry = await aws.expect_error("ec2", "create_volume", DryRun=True, **request)

    assert again["VolumeId"] == first["VolumeId"]
    assert dry[0] == "DryRunOperation"


async def test_a_deleted_volume_is_unknown(aws: Aws) -> None:
    """EC2 API reference, "Error codes": InvalidVolume.NotFound."""
    id_ = await aws.create_volume()

    await aws.ec2("delete_volume", VolumeId=id_)

    assert await aws.expect_error("ec2", "describe_volumes", VolumeIds=[id_]) == (
        "InvalidVolume.NotFound",
        f"The volume '{id_}' does not exist.",
    )
    assert (await aws.expect_error("ec2", "delete_volume", VolumeId=id_))[0] == "InvalidVolume.NotFound"


async def test_an_unknown_id_fails_the_whole_call_and_is_ignored_in_a_filter(aws: Aws) -> None:
    """EC2 API reference, DescribeVolumes: VolumeIds and Filters."""
    id_, unknown = await aws.create_volume(), "vol-0123456789abcdef0"

    code, text = await aws.expect_error("ec2", "describe_volumes", VolumeIds=[id_, unknown])
    found = await aws.ec2("describe_volumes", Filters=[{"Name": "volume-id", "Values": [id_, unknown]}])

    assert (code, unknown in text, id_ in text) == ("InvalidVolume.NotFound", True, False)
    assert [volume["VolumeId"] for volume in found["Volumes"]] == [id_]


async def test_malformed_ids_have_their_own_errors(aws: Aws) -> None:
    """EC2 API reference, "Error codes": InvalidVolumeID.Malformed and InvalidParameterValue."""
    malformed = await aws.expect_error("ec2", "describe_volumes", VolumeIds=["vol-x"])
    other = await aws.expect_error("ec2", "delete_volume", VolumeId="x")

    assert (malformed[0], other[0]) == ("InvalidVolumeID.Malformed", "InvalidParameterValue")


class Filter(NamedTuple):
    """A filter, and which of two volumes match: a large io2 volume tagged app=db, a small gp3 volume without tags."""

    name: str
    values: list[str]
    matches: set[str]


FILTERS = [
    Filter("tag:app", ["db"], {"large"}),
    Filter("tag:app", ["d*"], {"large"}),
    Filter("tag:app", ["d?", "x"], {"large"}),
    Filter("tag:app", [r"d\*"], set()),
    Filter("tag-key", ["app"], {"large"}),
    Filter("size", ["1", "3"], {"small"}),
    Filter("status", ["available"], {"large", "small"}),
    Filter("status", ["in-use"], set()),
    Filter("volume-type", ["io2"], {"large"}),
    Filter("multi-attach-enabled", ["true"], {"large"}),
    Filter("encrypted", ["false"], {"large", "small"}),
    Filter("availability-zone", [ZONE], {"large", "small"}),
    Filter("availability-zone-id", ["usw2-az1"], {"large", "small"}),
    Filter("snapshot-id", ["snap-*"], set()),
    Filter("create-time", ["20??-*Z"], {"large", "small"}),
    Filter("attachment.status", ["attached"], set()),
]


async def test_filters_match_values_and_patterns(aws: Aws) -> None:
    """EC2 API reference, DescribeVolumes: Filters; * is any text and ? any character."""
    tags = [{"ResourceType": "volume", "Tags": [{"Key": "app", "Value": "db"}]}]
    shape = {"Size": 4, "VolumeType": "io2", "Iops": 100, "MultiAttachEnabled": True}
    ids = {"large": await aws.create_volume(TagSpecifications=tags, **shape), "small": await aws.create_volume()}

    for case in FILTERS:
        found = await aws.ec2("describe_volumes", Filters=[{"Name": case.name, "Values": case.values}])

        assert {volume["VolumeId"] for volume in found["Volumes"]} == {ids[size] for size in case.matches}, case


class TagFilter(NamedTuple):
    """A filter by tag, and the volumes that it matches: their values of the tag `app`, or `pair` for the last one."""

    name: str
    values: list[str]
    matches: set[str]


TAG_FILTERS = [
    TagFilter("tag:app", ["db?"], {"db", "db?", "db1", "db*"}),
    TagFilter("tag:app", ["db*"], {"db", "db?", "db1", "db*", r"db\1"}),
    TagFilter("tag:app", [r"db\?"], {"db?"}),
    TagFilter("tag:app", [r"db\*", r"db\\1"], {"db*", r"db\1"}),
    TagFilter("tag:app", [r"d\b"], {"db"}),
    TagFilter("tag-key", ["a=b"], {"pair"}),
    TagFilter("tag-key", ["a"], set()),
    TagFilter("tag:a=b", ["c"], {"pair"}),
    TagFilter("tag:a", ["b=c"], set()),
]


async def test_wildcards_in_filter_values_can_be_escaped_and_tag_keys_may_have_equals_signs(aws: Aws) -> None:
    """EC2 User Guide, "List and filter using the CLI and API": * ? and the backslash that makes them literal."""
    tags = {value: {"Key": "app", "Value": value} for value in ("db", "db?", "db1", "db*", r"db\1")}
    tags["pair"] = {"Key": "a=b", "Value": "c"}
    ids = {
        await aws.create_volume(TagSpecifications=[{"ResourceType": "volume", "Tags": [tag]}]): name
        for name, tag in tags.items()
    }

    for case in TAG_FILTERS:
        found = await aws.ec2("describe_volumes", Filters=[{"Name": case.name, "Values": case.values}])

        assert {ids[volume["VolumeId"]] for volume in found["Volumes"]} == case.matches, case


async def test_an_unknown_filter_and_too_many_values_are_refused(aws: Aws) -> None:
    """EC2 API reference, "Error codes": FilterLimitExceeded."""
    values = [f"vol-{number:017x}" for number in range(201)]

    unknown = await aws.expect_error("ec2", "describe_volumes", Filters=[{"Name": "colour", "Values": ["red"]}])
    many = await aws.expect_error("ec2", "describe_volumes", Filters=[{"Name": "volume-id", "Values": values}])

    assert (unknown[0], many[0]) == ("InvalidParameterValue", "FilterLimitExceeded")


async def test_pages_have_each_volume_once_in_no_particular_order(aws: Aws) -> None:
    """EC2 API reference, DescribeVolumes: the order of the elements is not specified."""
    created = [(await aws.ec2("create_volume", AvailabilityZone=ZONE, Size=1))["VolumeId"] for _ in range(12)]
    seen: list[str] = []
    token: dict[str, str] = {}

    while token or not seen:
        page = await aws.ec2("describe_volumes", MaxResults=5, **token)
        seen += [volume["VolumeId"] for volume in page["Volumes"]]
        token = {"NextToken": page["NextToken"]} if "NextToken" in page else {}

    assert sorted(seen) == sorted(created)
    assert seen != sorted(created)


async def test_pages_of_ids_and_invalid_tokens_are_refused(aws: Aws) -> None:
    """EC2 API reference, DescribeVolumes: MaxResults cannot be used with VolumeIds."""
    id_ = await aws.create_volume()

    both = await aws.expect_error("ec2", "describe_volumes", VolumeIds=[id_], MaxResults=5)
    few = await aws.expect_error("ec2", "describe_volumes", MaxResults=4)
    tokens = [
        await aws.expect_error("ec2", "describe_volumes", MaxResults=5, NextToken=token)
        for token in ("what", "é", "w6k=")
    ]

    assert (both[0], few[0]) == ("InvalidParameterCombination", "InvalidParameterValue")
    assert {token[0] for token in tokens} == {"InvalidPaginationToken"}


async def test_max_results_of_zero_counts_as_not_set(aws: Aws) -> None:
    """The upstream driver lists with `MaxResults: aws.Int32(maxResults)`, which is 0 for "no limit".

    Source: https://github.com/kubernetes-sigs/aws-ebs-csi-driver/blob/master/pkg/cloud/cloud.go, ListSnapshots.
    """
    volumes = [await aws.create_volume() for _ in range(6)]
    for volume in volumes:
        await aws.ec2("create_snapshot", VolumeId=volume)
        await aws.ec2("modify_volume", VolumeId=volume, Size=2)
    await aws.ec2("run_instances", ImageId="ami-1", MinCount=1, MaxCount=1)

    shown = [
        (await aws.ec2("describe_volumes", MaxResults=0, Filters=[{"Name": "size", "Values": ["2"]}]))["Volumes"],
        (await aws.ec2("describe_volumes", MaxResults=0, VolumeIds=volumes))["Volumes"],
        (await aws.ec2("describe_snapshots", MaxResults=0))["Snapshots"],
        (await aws.ec2("describe_volumes_modifications", MaxResults=0))["VolumesModifications"],
    ]
    instances = await aws.ec2("describe_instances", MaxResults=0)

    assert [len(found) for found in shown] == [6, 6, 6, 6]
    assert len(instances["Reservations"]) == 1


async def test_a_volume_that_is_being_deleted_cannot_be_deleted_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """EC2 API reference, DeleteVolume: the volume must be in the available state.

    DeleteVolume is not among the actions that are idempotent by default (EC2 developer guide, "Ensuring idempotency in
    Amazon EC2 API requests"); "Error codes" gives IncorrectState for a resource in a wrong state, and
    InvalidVolume.NotFound for one that does not exist.
    """
    monkeypatch.setitem(AWS_DURATIONS, "volume gone", Duration(median=3600, p95=7200))
    async with cloud(profile="aws") as (_, aws):
        volume = await aws.create_volume()
        await aws.ec2("delete_volume", VolumeId=volume)

        again = await aws.expect_error("ec2", "delete_volume", VolumeId=volume)
        shown = await aws.volume_state(volume)

    assert (again[0], shown) == ("IncorrectState", "deleting")


async def test_with_the_aws_profile_states_take_seconds() -> None:
    """The profile draws durations around those observed on AWS; the seed makes them repeatable."""
    async with cloud(profile="aws", seed=7) as (emulator, aws):
        made = await aws.ec2("create_volume", AvailabilityZone=ZONE, Size=1)

        first = await aws.volume_state(made["VolumeId"])
        await wait_until_equal(lambda: aws.volume_state(made["VolumeId"]), "available")

        moments = [moment for moment in emulator.world.store.moments.values() if moment.subject == made["VolumeId"]]
        assert first == "creating"
        assert [moment.state for moment in moments] == ["creating", "available"]
        assert 0.2 < moments[1].at - moments[0].at < 10
