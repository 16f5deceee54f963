"""AWS's partitions, from the files of endpoints in the SDK."""

import functools
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any


@dataclass(frozen=True, slots=True)
class Partition:
    """A group of regions with accounts of its own."""

    name: str
    """aws, aws-cn, aws-us-gov, ..."""

    regions: re.Pattern[str]
    """Matches the names of its regions."""

    region_names: Sequence[str]
    dns_suffix: str
    """amazonaws.com."""

    global_signing_region: str
    """The region for which requests to its global services are signed."""


@functools.cache
def load() -> Sequence[Partition]:
    """Read the partitions; reads files at the first call."""
    listed = _read("partitions.json")["partitions"]
    global_regions = {each["partition"]: _iam_region(each) for each in _read("endpoints.json")["partitions"]}
    return [
        Partition(
            name=each["id"],
            regions=re.compile(each["regionRegex"]),
            region_names=[name for name in each["regions"] if not name.endswith("-global")],
            dns_suffix=each["outputs"]["dnsSuffix"],
            global_signing_region=global_regions.get(each["id"]) or each["outputs"]["implicitGlobalRegion"],
        )
        for each in listed
    ]


@functools.cache
def find(region: str) -> Partition:
    """The partition of a region; aws for the name of a region that no partition has."""
    partitions = load()
    return next((each for each in partitions if each.regions.fullmatch(region)), partitions[0])


def _iam_region(partition: Any) -> str | None:  # a JSON object
    """The region in the signatures of requests to IAM."""
    iam = partition["services"].get("iam", {})
    endpoint = iam.get("endpoints", {}).get(iam.get("partitionEndpoint"), {})
    region: str | None = endpoint.get("credentialScope", {}).get("region")
    return region


def _read(name: str) -> Any:  # a JSON document
    return json.loads((resources.files("botocore") / "data" / name).read_text())
