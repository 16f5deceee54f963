"""Components of an SDK session that do less work for each call than the SDK's own (docs/decisions/0049).

A session takes them through its registry of components and through its factory of parsers. If an update of the SDK
ignores one, `tests/unit/test_aws_sdk_components.py` fails, and calls are slower but not wrong.
"""

from datetime import datetime
from typing import Any, Self

from aiobotocore.session import AioSession
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.useragent import UserAgentString
from botocore.utils import parse_timestamp as parse_any_timestamp


def register_components(session: AioSession) -> None:
    """Use the components of this module in all clients that the session creates from now on."""
    session.register_component("user_agent_creator", LastingUserAgent.from_environment())
    session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=parse_timestamp)


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


class LastingUserAgent(UserAgentString):
    """The User-Agent header of a client, built for its first request and then kept: the SDK builds it twice a call."""

    _text: str | None = None

    def with_client_config(self, client_config: Config) -> Self:
        """The user agent of a client with this configuration."""
        copy: Self = super().with_client_config(client_config)
        copy._text = None
        return copy

    def to_string(self) -> str:
        """The text of the header."""
        return self._text or super().to_string()

    def rebuild_and_replace_user_agent_handler(self, operation_name: str, request: AWSRequest, **more: Any) -> None:
        """Set the header of a request that is about to be sent: only now are all features known that it names."""
        super().rebuild_and_replace_user_agent_handler(operation_name, request, **more)
        self._text = request.headers.get("User-Agent")
