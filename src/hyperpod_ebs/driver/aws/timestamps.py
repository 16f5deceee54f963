"""Parse the timestamps in AWS's answers."""

from datetime import datetime

from botocore.utils import parse_timestamp as parse_any_timestamp


def parse_timestamp(value: float | str) -> datetime:
    """Parse a timestamp in an answer: quickly if it is in ISO 8601 with a zone, as EC2's and STS's are.

    Raises:
        ValueError: The value is in none of the forms that the SDK parses.
    """
    if isinstance(value, str):
        try:
            parsed = datetime.fromisoformat(value)
        except ValueError:
            return parse_any_timestamp(value)
        if parsed.tzinfo is not None:
            return parsed
    return parse_any_timestamp(value)  # type: ignore[arg-type] # the stubs know only text
