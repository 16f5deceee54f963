"""Pages of EC2's Describe calls: MaxResults and NextToken.

EC2 does not specify the order of a listing. The emulator shuffles each listing and keeps
its order through all pages, so that no caller can depend on a particular order.
"""

import base64
import re
import secrets
import zlib
from collections.abc import Callable, Sequence
from typing import TypeVar

from hyperpod_ebs.emulator.wire.operations import AwsFault, Parameters

R = TypeVar("R")

PageSizes = tuple[int, int]
"""The smallest valid MaxResults and the largest page; a larger MaxResults gets the largest page."""


def page(
    records: Sequence[R], parameters: Parameters, sizes: PageSizes, *, key: Callable[[R], str]
) -> tuple[list[R], str | None]:
    """The requested page of `records`, and the token of the next page.

    Raises:
        AwsFault: MaxResults or NextToken is invalid.
    """
    smallest, largest = sizes
    max_results, token = _max_results(parameters), parameters.get("NextToken")
    if max_results is not None and max_results < smallest:
        text = (
            f"Value ( {max_results} ) for parameter maxResults is invalid. Expecting a value greater than {smallest}."
        )
        raise AwsFault("InvalidParameterValue", text)
    seed, previous = _read_token(token) if token else (secrets.token_hex(4), "")

    def position(record: R) -> str:
        return f"{zlib.crc32((seed + key(record)).encode()):08x}{key(record)}"

    rest = {at: record for record in records if (at := position(record)) > previous}
    order = sorted(rest)
    if max_results is None or len(order) <= min(max_results, largest):
        return [rest[at] for at in order], None
    this_page = order[: min(max_results, largest)]
    return [rest[at] for at in this_page], base64.urlsafe_b64encode(f"{seed}{this_page[-1]}".encode()).decode()


def refuse_pages_of_ids(parameters: Parameters, ids: str, *, shown: str) -> None:
    """Refuse a request that has both a list of ids and MaxResults.

    Args:
        parameters: The parameters of the request.
        ids: The parameter with the ids.
        shown: EC2's name for that parameter in the error.

    Raises:
        AwsFault: The request has both.
    """
    if parameters.get(ids) and _max_results(parameters) is not None:
        text = f"The parameter {shown} cannot be used with the parameter maxResults"
        raise AwsFault("InvalidParameterCombination", text)


def _max_results(parameters: Parameters) -> int | None:
    """The requested MaxResults; EC2 takes 0 for a value that is not set, as the upstream driver sends it."""
    return parameters.get("MaxResults") or None


def _read_token(token: str) -> tuple[str, str]:
    """The seed of the order, and the position of the last record of the previous page."""
    try:
        text = base64.urlsafe_b64decode(token).decode()
    except ValueError as error:  # not ASCII, not base64, or not UTF-8
        raise AwsFault("InvalidPaginationToken", f"The pagination token '{token}' is not valid") from error
    if not re.fullmatch(r"[0-9a-f]{16}[\w.-]+", text):
        raise AwsFault("InvalidPaginationToken", f"The pagination token '{token}' is not valid")
    return text[:8], text[8:]
