"""Parts of requests and answers that several EC2 operations share: tags, filters, and answers by id.

A function that parses an answer raises LookupError for a missing member, and ValueError for a
value that the driver does not know. `aws.calls` turns both into a `CloudError`.
"""
# botocore marks every member of an answer as optional. A missing one is a KeyError, as said above:
# pyright: reportTypedDictNotRequiredAccess=false

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Final, TypeVar

from hyperpod_ebs.driver.aws.errors import NOT_UNDERSTOOD, parse_problem
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.volumes.cloud import PartlyRead

if TYPE_CHECKING:
    from types_aiobotocore_ec2.type_defs import FilterTypeDef, TagTypeDef

Shape = TypeVar("Shape")
Value = TypeVar("Value")

# "List and filter using the CLI and API" in the EC2 User Guide.
_WILDCARD: Final = re.compile(r"[*?\\]")


def parse_tags(tags: "Iterable[TagTypeDef]") -> dict[str, str]:
    """Parse EC2's list of tags."""
    return {tag["Key"]: tag["Value"] for tag in tags}


def tag_value(key: str, tags: "Iterable[TagTypeDef]") -> str:
    """The value of the tag with this key; empty if there is none."""
    return next((tag.get("Value", "") for tag in tags if tag.get("Key") == key), "")


def tag_list(tags: Mapping[str, str]) -> "list[TagTypeDef]":
    """Tags as EC2 takes them, always in the same order."""
    return [{"Key": key, "Value": tags[key]} for key in sorted(tags)]


def filters(name: str, values: Collection[str]) -> "list[FilterTypeDef]":
    """The filter for objects whose property `name` has one of these values, at most 200; no value is a pattern."""
    return [{"Name": name, "Values": [_WILDCARD.sub(r"\\\g<0>", value) for value in sorted(values)]}]


def parse_by_id(
    action: str, ids: Collection[str], described: Iterable[tuple[str, Shape]], parse: Callable[[Shape], Value]
) -> dict[str, Value]:
    """Parse what AWS describes of the resources `ids`.

    Raises:
        PartlyRead: Some descriptions cannot be parsed; the others are in the error.
        CloudError: `ids` has a single id, and its description cannot be parsed.
    """
    try:
        return parse_each(action, described, parse)
    except PartlyRead as error:
        if len(ids) > 1:
            raise
        raise errors.CloudError(NOT_UNDERSTOOD, str(error)) from error


def parse_each(
    action: str, described: Iterable[tuple[str, Shape]], parse: Callable[[Shape], Value]
) -> dict[str, Value]:
    """Parse each description, by the id of its resource.

    Raises:
        PartlyRead: Some descriptions lack a member, or have a value that the driver does not know.
    """
    found: dict[str, Value] = {}
    unread: dict[str, str] = {}
    for id_, shape in described:
        try:
            found[id_] = parse(shape)
        except (LookupError, ValueError) as error:
            unread[id_] = parse_problem(error)
    if unread:
        problems = ", ".join(f"{id_}: {problem}" for id_, problem in unread.items())
        raise PartlyRead(
            f"cannot {action}: AWS's answer is unusable for {problems}; a newer driver may understand it",
            found=found,
            unread=unread,
        )
    return found


def action_on_volumes(verb: str, ids: Collection[str]) -> str:
    """What a call does, without listing hundreds of ids: `describe volume vol-1`, `describe 200 volumes`."""
    return f"{verb} volume {next(iter(ids))}" if len(ids) == 1 else f"{verb} {len(ids)} volumes"
