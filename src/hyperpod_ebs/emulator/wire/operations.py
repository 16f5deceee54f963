"""Tables of operations: how a service says which methods answer which AWS calls.

A service is a class with a table `operations = Operations["Ec2"]()`; the decorator
`@operations("CreateVolume")` enters a method in it. Several classes may make one
service together. Nothing here knows the wire or the SDK.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

S = TypeVar("S")

Asked = Mapping[str, Any]  # members have the types their shapes give them
"""The members of a request by the model's names; what was not sent is not in it."""

Answer = Mapping[str, Any]  # members have the types their shapes give them
"""The members of a response by the model's names; those that are None stay off the wire."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """Who asks, for what, and in which scope."""

    service: str
    """The signing name: ec2, sagemaker, eks, sts."""

    operation: str

    account: str

    arn: str
    """The caller's ARN."""

    user_id: str

    region: str
    """As the signature's scope has it."""

    request_id: str


class AwsFault(Exception):  # noqa: N818 - a fault is AWS's word for an error answered
    """An error in AWS's own form; each protocol writes it its own way."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(code, message, status)
        self.code = code
        self.message = message
        self.status = status

    def __str__(self) -> str:
        return f"{self.code} ({self.status}): {self.message}"


class UnknownMember(TypeError):  # noqa: N818 - reads as what happened
    """An answer has a member that its shape lacks: a slip of the handler's."""


Handler = Callable[[S, Asked, Call], Awaitable[Answer]]
"""A method that answers an operation."""


class Operations(Generic[S]):
    """Which method of `S` answers which operation."""

    def __init__(self) -> None:
        self._handlers: dict[str, Handler[S]] = {}

    def __call__(self, name: str) -> Callable[[Handler[S]], Handler[S]]:
        """Enter the decorated method as the answer to operation `name`.

        Raises:
            ValueError: The table has an answer to `name` already.
        """

        def enter(handler: Handler[S]) -> Handler[S]:
            if name in self._handlers:
                raise ValueError(f"operation {name} is claimed twice: give one of the methods another name")
            self._handlers[name] = handler
            return handler

        return enter

    def __iter__(self) -> Iterator[str]:
        return iter(self._handlers)

    def __getitem__(self, name: str) -> Handler[S]:
        return self._handlers[name]
