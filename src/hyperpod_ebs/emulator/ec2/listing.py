"""What Describe calls have in common: ids or filters, pages, and no promised order.

EC2 says that the order of what it lists is unspecified; here it is shuffled, anew for
each listing and the same through its pages, so that nobody comes to rely on it.
"""

import base64
import re
import secrets
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, TypeVar

from hyperpod_ebs.emulator.wire.operations import Asked, AwsFault

R = TypeVar("R")

Field = Callable[[R], Iterable[str]]
"""The values of a record that a filter compares."""

VALUES: Final = 200
"""Values that one call's filters may have."""

Pages = tuple[int, int]
"""The least and the most that MaxResults may be; over the most, the most is given."""


def selected(
    records: Mapping[str, R], asked: Asked, fields: Mapping[str, Field[R]], *, by_id: str, tags: Field[R] | None = None
) -> list[R]:
    """Those of `records` that the request's filters let through.

    Args:
        records: All there are, by id.
        asked: A request with Filters.
        fields: Each filter's name and what it compares.
        by_id: The filter that compares the id.
        tags: Gives `key=value` for each tag, for the filters `tag:KEY` and `tag-key`.

    Raises:
        AwsFault: There is no such filter, or too many values.
    """
    filters = [(one.get("Name", ""), list(one.get("Values", []))) for one in asked.get("Filters", [])]
    if sum(len(values) for _, values in filters) > VALUES:
        text = f"The maximum number of filter values specified on a single call is {VALUES}"
        raise AwsFault("FilterLimitExceeded", text)
    checks = [_check(name, values, fields, tags) for name, values in filters]
    some = _some(records, next((values for name, values in filters if name == by_id), None))
    return [record for record in some if all(check(record) for check in checks)]


def page(records: Sequence[R], asked: Asked, pages: Pages, *, key: Callable[[R], str]) -> tuple[list[R], str | None]:
    """The page of `records` that the request asks for, and the token of the next one.

    Raises:
        AwsFault: MaxResults or the token may not be so.
    """
    most, token = asked.get("MaxResults"), asked.get("NextToken")
    if most is not None and most < pages[0]:
        text = f"Value ( {most} ) for parameter maxResults is invalid. Expecting a value greater than {pages[0]}."
        raise AwsFault("InvalidParameterValue", text)
    seed, after = _read(token) if token else (secrets.token_hex(4), "")

    def place(record: R) -> str:
        return f"{zlib.crc32((seed + key(record)).encode()):08x}{key(record)}"

    rest = {at: record for record in records if (at := place(record)) > after}
    order = sorted(rest)
    if most is None or len(order) <= min(most, pages[1]):
        return [rest[at] for at in order], None
    this = order[: min(most, pages[1])]
    return [rest[at] for at in this], base64.urlsafe_b64encode(f"{seed}{this[-1]}".encode()).decode()


def not_both(asked: Asked, ids: str) -> None:
    """Refuse pages of a list of ids.

    Raises:
        AwsFault: The request has both.
    """
    if asked.get(ids) and asked.get("MaxResults") is not None:
        lower = ids[0].lower() + ids[1:]
        text = f"The parameter {lower} cannot be used with the parameter maxResults"
        raise AwsFault("InvalidParameterCombination", text)


def yes_or_no(value: object) -> str:
    """A boolean as filters have it."""
    return "true" if value else "false"


def instant(seconds: float) -> str:
    """An instant as filters have it: 2026-01-31T12:00:00.000Z."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _some(records: Mapping[str, R], ids: list[str] | None) -> Iterable[R]:
    """All records, or only those of `ids` where these are whole."""
    if ids is None or any(_is_pattern(id_) for id_ in ids):
        return records.values()
    return [records[id_] for id_ in dict.fromkeys(ids) if id_ in records]


def _check(name: str, values: list[str], fields: Mapping[str, Field[R]], tags: Field[R] | None) -> Callable[[R], bool]:
    matches = _matcher(values)
    if tags is not None and name == "tag-key":
        return lambda record: any(matches(tag.partition("=")[0]) for tag in tags(record))
    if tags is not None and name.startswith("tag:"):
        start = name.removeprefix("tag:") + "="
        return lambda record: any(tag.startswith(start) and matches(tag.removeprefix(start)) for tag in tags(record))
    if (field := fields.get(name)) is None:
        raise AwsFault("InvalidParameterValue", f"The filter '{name}' is invalid")
    return lambda record: any(matches(value) for value in field(record))


def _matcher(values: list[str]) -> Callable[[str], bool]:
    """Whether a text is one of `values`, in which * and ? stand for any text and character."""
    whole = {value for value in values if not _is_pattern(value)}
    patterns = [re.compile(_regex(value), re.DOTALL) for value in values if _is_pattern(value)]
    return lambda text: text in whole or any(pattern.fullmatch(text) for pattern in patterns)


def _is_pattern(value: str) -> bool:
    return any(mark in value for mark in "*?\\")


def _regex(value: str) -> str:
    """The filter value as a regular expression; a backslash takes the meaning from what follows."""
    parts = re.findall(r"\\.|.", value, re.DOTALL)
    special = {"*": ".*", "?": "."}
    return "".join(special.get(part) or re.escape(part[-1]) for part in parts)


def _read(token: str) -> tuple[str, str]:
    try:
        text = base64.urlsafe_b64decode(token).decode()
    except ValueError as error:  # not ASCII, not base64, or not UTF-8
        raise AwsFault("InvalidPaginationToken", f"The pagination token '{token}' is not valid") from error
    if not re.fullmatch(r"[0-9a-f]{16}[\w.-]+", text):
        raise AwsFault("InvalidPaginationToken", f"The pagination token '{token}' is not valid")
    return text[:8], text[8:]
