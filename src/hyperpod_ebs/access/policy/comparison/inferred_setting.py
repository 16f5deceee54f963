"""The account, region and clusters that documents are about, by the ARNs in them."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

from hyperpod_ebs.iam.documents import Json

_ARN: Final = re.compile(
    r"arn:(?P<partition>[a-z-]+):(?P<service>[a-z0-9-]+):(?P<region>[a-z0-9-]*):(?P<account>\d{12}|):(?P<resource>[^\"\\]+)"
)
_CLUSTERS: Final = {"sagemaker": "id", "eks": "name"}
_VIA: Final = re.compile(r"\b(?:ec2|sagemaker)\.(?P<region>[a-z]+(?:-[a-z]+)*-\d)\.amazonaws\.com")


def inferred_values(documents: Iterable[Mapping[str, Json]]) -> dict[str, str]:
    """The partition, region, account, id of the HyperPod cluster and name of the EKS cluster that occur most often."""
    counts: dict[str, Counter[str]] = {}
    for text in map(json.dumps, documents):
        for match in _ARN.finditer(text):
            found = {name: match[name] for name in ("partition", "region", "account")}
            kind, _, name = match["resource"].partition("/")
            if kind == "cluster" and (member := _CLUSTERS.get(match["service"])):
                found[member] = name
            for member, value in found.items():
                if value and "*" not in value and "?" not in value:
                    counts.setdefault(member, Counter())[value] += 1
        for match in _VIA.finditer(text):
            counts.setdefault("region", Counter())[match["region"]] += 1
    return {name: counter.most_common(1)[0][0] for name, counter in counts.items()}
