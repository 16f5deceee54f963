"""Components of an SDK session that do less work for each call than the SDK's own (docs/decisions/0049).

A session takes them through its registry of components. If an update of the SDK
ignores one, `tests/unit/test_aws_sdk_components.py` fails, and calls are slower but not wrong.
"""

from typing import Any, Self

from aiobotocore.session import AioSession
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.useragent import UserAgentString

from hyperpod_ebs.driver.aws.ec2_answer_parser import ParserFactory
from hyperpod_ebs.driver.aws.timestamps import parse_timestamp


def register_components(session: AioSession) -> None:
    """Use the components of this module in all clients that the session creates from now on."""
    session.register_component("user_agent_creator", LastingUserAgent.from_environment())
    parsers = ParserFactory()
    parsers.set_parser_defaults(timestamp_parser=parse_timestamp)
    session.register_component("response_parser_factory", parsers)


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
