"""The account's limits on the rate of calls: which operations have one, and how a file changes them."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperpod_ebs.emulator.http.account_limits import (
    DOCUMENTED,
    UNFILTERED,
    BadLimits,
    bucket_name,
    limits_after,
    load_limits,
    parse_changes,
)
from hyperpod_ebs.emulator.http.token_bucket import Limit
from hyperpod_ebs.emulator.state.clock import Profile


@pytest.mark.parametrize(
    ("operation", "capacity", "refill"),
    [
        ("CreateVolume", 100, 5),
        ("DeleteVolume", 100, 5),
        ("CreateSnapshot", 100, 5),
        ("DeleteSnapshot", 100, 5),
        ("CreateTags", 100, 10),
        ("DeleteTags", 100, 10),
        ("AttachVolume", 50, 5),
        ("DetachVolume", 50, 5),
        ("ModifyVolume", 50, 5),
        ("RunInstances", 5, 2),
        ("DescribeVolumes", 100, 20),
        ("DescribeVolumes:unfiltered", 50, 10),
        ("DescribeVolumesModifications", 100, 20),
    ],
)
def test_ec2_has_the_documented_limits(operation: str, capacity: float, refill: float) -> None:
    """EC2 developer guide, "Request throttling for the Amazon EC2 API"."""
    assert DOCUMENTED[f"ec2:{operation}"] == Limit(capacity=capacity, refill=refill)


@pytest.mark.parametrize(
    ("operation", "parameters", "bucket"),
    [
        ("DescribeVolumes", {}, "ec2:DescribeVolumes:unfiltered"),
        ("DescribeVolumes", {"Filters": [], "DryRun": False}, "ec2:DescribeVolumes:unfiltered"),
        ("DescribeVolumes", {"VolumeIds": ["vol-1"]}, "ec2:DescribeVolumes"),
        ("DescribeVolumes", {"MaxResults": 500}, "ec2:DescribeVolumes"),
        ("DescribeVolumes", {"NextToken": "x"}, "ec2:DescribeVolumes"),
        ("DescribeSnapshots", {"Filters": [{"Name": "status", "Values": ["pending"]}]}, "ec2:DescribeSnapshots"),
        ("DescribeSnapshots", {"OwnerIds": ["self"]}, "ec2:DescribeSnapshots:unfiltered"),
        ("DescribeInstances", {"InstanceIds": ["i-1"]}, "ec2:DescribeInstances"),
        ("DescribeTags", {}, "ec2:DescribeTags"),
    ],
)
def test_calls_without_filter_and_page_have_a_smaller_bucket(
    operation: str, parameters: dict[str, Any], bucket: str
) -> None:
    """EC2 developer guide, "Request throttling": unfiltered and unpaginated non-mutating actions."""
    assert bucket_name("ec2", operation, parameters) == bucket


@pytest.mark.parametrize(("profile", "limits"), [("instant", {}), ("aws", DOCUMENTED), ("chaos", DOCUMENTED)])
def test_without_a_setting_the_profile_decides(profile: Profile, limits: dict[str, Limit]) -> None:
    assert load_limits(None, profile) == limits


def test_a_setting_goes_before_the_profile(tmp_path: Path) -> None:
    file = tmp_path / "limits.json"
    file.write_text('{"ec2:CreateVolume": {"capacity": 7}, "*": {"neighbour": 0.3}}')

    assert load_limits("off", "aws") == {}
    assert load_limits("documented", "instant") == DOCUMENTED
    limits = load_limits(file, "instant")
    assert limits["ec2:CreateVolume"] == Limit(capacity=7, refill=5, neighbour=0.3)
    assert limits["ec2:AttachVolume"] == Limit(capacity=50, refill=5, neighbour=0.3)
    assert limits.keys() == DOCUMENTED.keys()


def test_the_values_of_an_operation_go_before_those_of_all() -> None:
    changes = parse_changes({"ec2:CreateTags": {"neighbour": 0}, "*": {"neighbour": 0.5}})

    limits = limits_after(changes, DOCUMENTED)

    assert limits["ec2:CreateTags"].neighbour == 0
    assert limits["ec2:DeleteTags"].neighbour == 0.5


def test_an_operation_without_a_limit_gets_one_from_the_documented_one() -> None:
    limits = limits_after(parse_changes({"ec2:AttachVolume": {"refill": 1}}), {})

    assert limits == {"ec2:AttachVolume": Limit(capacity=50, refill=1)}


BAD: list[tuple[Any, str]] = [
    ([], "no limits are given"),
    ({}, "no limits are given"),
    ({"AttachVolume": {"capacity": 1}}, "'AttachVolume' is not a bucket"),
    ({"iam:CreateRole": {"capacity": 1}}, "'iam:CreateRole' is not a bucket"),
    ({"ec2:AttachVolume": 5}, "has no values"),
    ({"ec2:AttachVolume": {}}, "has no values"),
    ({"ec2:AttachVolume": {"rate": 5}}, "unknown value 'rate'"),
    ({"ec2:AttachVolume": {"capacity": "5"}}, "not a number"),
    ({"ec2:AttachVolume": {"capacity": True}}, "not a number"),
    ({"ec2:AttachVolume": {"refill": -1}}, "between 0 and"),
    ({"*": {"neighbour": 1.5}}, "between 0 and 1"),
    ({"*": {"refill": float("nan")}}, "between 0 and"),
    ({"*": {"refill": float("inf")}}, "between 0 and"),
]


@pytest.mark.parametrize(("document", "words"), BAD)
def test_a_malformed_document_is_refused_with_the_reason(document: Any, words: str) -> None:
    with pytest.raises(BadLimits, match=words):
        parse_changes(document)


def test_a_change_of_all_buckets_is_refused_if_there_are_none() -> None:
    with pytest.raises(BadLimits, match="throttling is off"):
        limits_after(parse_changes({"*": {"neighbour": 0.3}}), {})


@pytest.mark.parametrize("content", [b"{", b"\xff", b"[" * 100_000, b'{"ec2:AttachVolume": {"capacity": -1}}'])
def test_a_file_that_is_malformed_is_refused_with_its_name(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "limits.json"
    file.write_bytes(content)

    with pytest.raises(BadLimits, match=r"limits\.json are unusable: "):
        load_limits(file, "aws")


def test_a_file_that_does_not_exist_is_refused_with_what_the_setting_takes(tmp_path: Path) -> None:
    with pytest.raises(BadLimits, match=r"No such file or directory; give off, documented or a JSON file"):
        load_limits(tmp_path / "documentd", "aws")


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(JSON | st.dictionaries(st.sampled_from(["*", "ec2:CreateTags", "x"]), JSON, max_size=3))
def test_a_document_is_parsed_or_refused_and_nothing_else(document: object) -> None:
    try:
        changes = parse_changes(document)
    except BadLimits:
        return
    assert json.loads(json.dumps(changes)) == document
    for limit in limits_after(changes, DOCUMENTED).values():
        assert limit.own_capacity <= limit.capacity


def test_only_describing_operations_have_a_second_bucket() -> None:
    for name in DOCUMENTED:
        if name.endswith(UNFILTERED):
            assert name.removesuffix(UNFILTERED) in DOCUMENTED
