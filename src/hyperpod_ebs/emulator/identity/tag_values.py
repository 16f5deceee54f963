"""The condition keys of tags: those on a resource, and those in a request."""

from collections.abc import Mapping, Sequence

Values = dict[str, str | Sequence[str]]
"""Condition keys and their values."""


def resource_tags(tags: Mapping[str, str], *services: str) -> Values:
    """The condition keys of the tags on a resource.

    Args:
        tags: The tags.
        services: The prefixes of services that have a key of their own besides `aws:ResourceTag`, such as `ec2`.
    """
    return {f"{prefix}:ResourceTag/{key}": value for key, value in tags.items() for prefix in ("aws", *services)}


def request_tags(tags: Mapping[str, str | None], removed: Sequence[str] = ()) -> Values:
    """The condition keys of the tags in a request.

    Args:
        tags: The tags that the request adds, or removes if they have this value; without a value, only the key counts.
        removed: The keys of tags that the request removes.
    """
    values: Values = {f"aws:RequestTag/{key}": value for key, value in tags.items() if value is not None}
    keys = [*tags, *removed]
    return {**values, "aws:TagKeys": keys} if keys else values
