"""Tables of operations: which methods of a service answer which AWS calls.

A service is a class with a table `operations = Operations["Ec2"]()`; the decorator
`@operations("CreateVolume")` adds a method to the table. Several classes can make up one
service. This module depends neither on the wire protocols nor on the SDK.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

S = TypeVar("S")

Parameters = Mapping[str, Any]  # members have the types their shapes give them
"""The parameters of a request by their names in the model; parameters that were not sent are absent."""

Answer = Mapping[str, Any]  # members have the types their shapes give them
"""The members of a response by their names in the model; members that are None are not sent."""


class RecordedDecision(Protocol):
    """A decision about what a call needs, as the call log keeps it."""

    @property
    def is_refusal(self) -> bool:
        """Whether the decision refused something."""
        ...

    def document(self) -> Mapping[str, object]:
        """The decision as JSON."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """The caller and the operation of a request."""

    service: str
    """The signing name: ec2, sagemaker, eks, sts."""

    operation: str

    account: str

    arn: str
    """The caller's ARN."""

    user_id: str

    region: str
    """The region in the signature's scope."""

    request_id: str

    key_id: str = ""
    """The access key that signed the request; empty for an unsigned request."""

    source_ip: str = ""
    agent: str = ""
    """The request's user agent."""

    decisions: list[RecordedDecision] = field(default_factory=list, compare=False, repr=False)
    """The decisions about the call so far; the authorizer adds each one."""


class AwsFault(Exception):  # noqa: N818 - fault is AWS's word for an error in an answer
    """An error that a service answers; each wire protocol writes it in its own form."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(code, message, status)
        self.code = code
        self.message = message
        self.status = status

    def __str__(self) -> str:
        return f"{self.code} ({self.status}): {self.message}"


class UnknownMember(TypeError):  # noqa: N818 - named for what happened
    """An answer has a member that its shape lacks: a bug in the handler."""


Handler = Callable[[S, Parameters, Call], Awaitable[Answer]]
"""A method that answers an operation."""


class Operations(Generic[S]):
    """The methods of `S` by the operation that they answer."""

    def __init__(self) -> None:
        self._handlers: dict[str, Handler[S]] = {}
        self.unsigned: set[str] = set()
        """The operations that callers without credentials may call."""

        self.pausing: set[str] = set()
        """The operations during which no other call and no pending step changes the state."""

    def __call__(self, name: str, *, signed: bool = True, pauses: bool = False) -> Callable[[Handler[S]], Handler[S]]:
        """Add the decorated method as the handler of operation `name`.

        Args:
            name: The operation's name in the service's model.
            signed: Whether requests must be signed; False for the operations with which callers get credentials.
            pauses: Whether the method waits for disks or devices, and nothing may change until it has answered. Other
                methods change the state before they first wait.

        Raises:
            ValueError: The table already has a handler of `name`.
        """

        def add(handler: Handler[S]) -> Handler[S]:
            if name in self._handlers:
                raise ValueError(f"operation {name} has two handlers: remove one of them")
            self._handlers[name] = handler
            if not signed:
                self.unsigned.add(name)
            if pauses:
                self.pausing.add(name)
            return handler

        return add

    def __iter__(self) -> Iterator[str]:
        return iter(self._handlers)

    def __getitem__(self, name: str) -> Handler[S]:
        return self._handlers[name]
