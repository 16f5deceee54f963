"""In what an ARN of a policy differs from the ARN of a request: its region, its account, the name of its cluster."""

from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from fnmatch import fnmatchcase
from typing import Final

from hyperpod_ebs.iam.patterns import ARN_FIELDS

ANY_CLUSTER: Final = ("anycluster00", "any-cluster")
"""The HyperPod cluster and the EKS cluster in requests about every cluster."""

_NAMES: Final = ("", "partition", "service", "region", "account", "resource")
_CLOSE: Final = 0.8


def nearest(resources: Sequence[str], arn: str) -> str | None:
    """How the nearest of the resources differs from an ARN; None if all are about other kinds of resources."""
    differing = [
        (fields, each) for each in resources if (fields := list(_differences(each, arn))) and _is_near(each, arn)
    ]
    if not differing:
        return None
    fields, resource = min(differing, key=lambda pair: len(pair[0]))
    return f"in {resource}, {' and '.join(fields)}"


def _differences(resource: str, arn: str) -> Iterator[str]:
    theirs, ours = resource.split(":", ARN_FIELDS - 1), arn.split(":", ARN_FIELDS - 1)
    if len(theirs) < ARN_FIELDS or len(ours) < ARN_FIELDS:
        return
    for name, own, actual in zip(_NAMES, theirs, ours, strict=True):
        if "${" in own or fnmatchcase(actual, own.replace("[", "[[]")):
            continue
        if not actual:
            yield f"the {name} is {own}, but ARNs of this kind have none"
        else:
            yield f"the {name} is {own or 'empty'}, not {_policy_field(actual)}"


def _is_near(resource: str, arn: str) -> bool:
    """Whether an ARN means the same kind of resource, perhaps misspelt."""
    if resource.count(":") < ARN_FIELDS - 1 or arn.count(":") < ARN_FIELDS - 1:
        return False
    theirs, ours = resource.split(":", ARN_FIELDS - 1), arn.split(":", ARN_FIELDS - 1)
    kinds = theirs[-1].partition("/")[0], ours[-1].partition("/")[0]
    return _is_similar(theirs[2], ours[2]) and _is_similar(*kinds)


def _is_similar(one: str, other: str) -> bool:
    return fnmatchcase(other, one.replace("[", "[[]")) or SequenceMatcher(a=one, b=other).ratio() >= _CLOSE


def _policy_field(field: str) -> str:
    """A field of a request's ARN as a policy has it: the ids of volumes, instances and snapshots are an asterisk."""
    kind, slash, name = field.partition("/")
    is_any = kind in {"volume", "snapshot", "instance"} or name in ANY_CLUSTER
    return f"{kind}/*" if slash and is_any else field
