"""How a service speaks: requests read, answers and refusals written.

protocol    services     request                    answer
----------  -----------  -------------------------  ----------------
ec2         ec2          form                       XML
query       sts          form                       XML in a wrapper
json        sagemaker    JSON, named in a header    JSON
rest-json   eks          path, query, JSON          JSON
"""

from collections.abc import Mapping
from typing import Final, Protocol

from botocore.model import ServiceModel

from hyperpod_ebs.emulator.wire.form_wire import Ec2Wire, QueryWire
from hyperpod_ebs.emulator.wire.json_wire import JsonWire, RestJsonWire
from hyperpod_ebs.emulator.wire.messages import Reply, Request
from hyperpod_ebs.emulator.wire.operations import Answer, Asked, AwsFault


class Wire(Protocol):
    """The protocol of one service, bound to its model."""

    def claims(self, request: Request) -> bool:
        """Whether an unsigned request looks like one for this service."""
        ...

    def operation(self, request: Request) -> str:
        """The operation that is asked for.

        Raises:
            AwsFault: None is, or one that the model does not have.
        """
        ...

    def parse(self, operation: str, request: Request) -> Asked:
        """The members of the request.

        Raises:
            AwsFault: They are not what the operation takes.
        """
        ...

    def write(self, operation: str, answer: Answer, request_id: str) -> Reply:
        """The answer as it goes out.

        Raises:
            UnknownMember: The operation's output has no such member.
            TypeError: A member is not of the type that it has there.
            ValueError: A member cannot be written.
        """
        ...

    def refuse(self, fault: AwsFault, request_id: str) -> Reply:
        """The refusal as it goes out, with the status that the model has for it."""
        ...

    def unknown(self, operation: str) -> AwsFault:
        """What the service says of an operation that it does not have."""
        ...

    def broken(self) -> AwsFault:
        """What the service says when it fails itself."""
        ...


_WIRES: Final[Mapping[str, type[Ec2Wire | QueryWire | JsonWire | RestJsonWire]]] = {
    "ec2": Ec2Wire,
    "query": QueryWire,
    "json": JsonWire,
    "rest-json": RestJsonWire,
}


def wire_of(model: ServiceModel) -> Wire:
    """The way the service of `model` speaks.

    Raises:
        KeyError: It speaks a protocol that is not spoken here.
    """
    return _WIRES[model.protocol](model)
