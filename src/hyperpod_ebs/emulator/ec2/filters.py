"""The Filters parameter of EC2's Describe calls."""

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Final, TypeVar

from hyperpod_ebs.emulator.wire.operations import AwsFault, Parameters

R = TypeVar("R")

Field = Callable[[R], Iterable[str]]
"""Returns the values of a record that a filter is compared with."""

Tags = Callable[[R], Mapping[str, str]]
"""Returns the tags of a record, for the filters `tag:KEY` and `tag-key`."""

_PART: Final = re.compile(r"\\.|.", re.DOTALL)
"""A part of a pattern: a wildcard, or a character, perhaps behind a backslash."""

MAX_VALUES: Final = 200
"""Values in all filters of one call."""


def matching(
    records: Mapping[str, R],
    parameters: Parameters,
    fields: Mapping[str, Field[R]],
    *,
    by_id: str,
    tags: Tags[R] | None = None,
) -> list[R]:
    """The records that match every filter of the request.

    Args:
        records: All candidates by id.
        parameters: The parameters of the request, which may include Filters.
        fields: The filters by name.
        by_id: The name of the filter that compares the id.
        tags: None if the records have no tags.

    Raises:
        AwsFault: A filter is unknown, or there are too many values.
    """
    filters = [(filter_.get("Name", ""), list(filter_.get("Values", []))) for filter_ in parameters.get("Filters", [])]
    if sum(len(values) for _, values in filters) > MAX_VALUES:
        text = f"The maximum number of filter values specified on a single call is {MAX_VALUES}"
        raise AwsFault("FilterLimitExceeded", text)
    predicates = [_predicate(name, values, fields, tags) for name, values in filters]
    candidates = _candidates(records, next((values for name, values in filters if name == by_id), None))
    return [record for record in candidates if all(predicate(record) for predicate in predicates)]


def without_values(names: str) -> Mapping[str, Field[object]]:
    """Filters by name that no record matches; `names` are separated by spaces."""
    return {name: lambda _: () for name in names.split()}


def boolean(value: object) -> str:
    """A boolean as filters write it."""
    return "true" if value else "false"


def timestamp(seconds: float) -> str:
    """A time as filters write it: 2026-01-31T12:00:00.000Z."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _candidates(records: Mapping[str, R], ids: list[str] | None) -> Iterable[R]:
    """The records with these ids, without a scan of the table; all records if `ids` is None or has patterns."""
    if ids is None or any(_is_pattern(id_) for id_ in ids):
        return records.values()
    return [records[id_] for id_ in dict.fromkeys(ids) if id_ in records]


def _predicate(
    name: str, values: list[str], fields: Mapping[str, Field[R]], tags: Tags[R] | None
) -> Callable[[R], bool]:
    matches = _matcher(values)
    if tags is not None and name == "tag-key":
        return lambda record: any(matches(key) for key in tags(record))
    if tags is not None and name.startswith("tag:"):
        key = name.removeprefix("tag:")
        return lambda record: key in tags(record) and matches(tags(record)[key])
    if (field := fields.get(name)) is None:
        raise AwsFault("InvalidParameterValue", f"The filter '{name}' is invalid")
    return lambda record: any(matches(value) for value in field(record))


def _matcher(values: list[str]) -> Callable[[str], bool]:
    """A predicate: the text is one of `values`, where * is any text and ? is one character or none.

    Source: EC2 User Guide, "List and filter using the CLI and API".
    """
    literals = {value for value in values if not _is_pattern(value)}
    patterns = [_PART.findall(value) for value in values if _is_pattern(value)]
    return lambda text: text in literals or any(_is_match(pattern, text) for pattern in patterns)


def _is_pattern(value: str) -> bool:
    return any(mark in value for mark in "*?\\")


def _is_match(pattern: list[str], text: str) -> bool:
    """Whether the pattern's parts match the whole text; a backslash makes the next character literal.

    The time grows with the product of both lengths. A regular expression of `*a*a*a*a*b` would try all combinations.
    """
    places: dict[str, int] = {}
    for index, character in enumerate(text):
        places[character] = places.get(character, 0) | 1 << index
    everywhere, reached = 2 ** (len(text) + 1) - 1, 1  # bit n: the parts so far match the first n characters
    for part in pattern:
        if part == "*":
            reached = everywhere & -(reached & -reached)  # from the lowest bit on
        elif part == "?":
            reached = everywhere & (reached | reached << 1)
        else:
            reached = (reached & places.get(part[-1], 0)) << 1
        if not reached:
            return False
    return bool(reached >> len(text))
