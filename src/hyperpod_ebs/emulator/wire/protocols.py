"""The wire protocols of AWS, and the protocol that each service uses.

protocol    services     request                    answer
----------  -----------  -------------------------  ----------------
ec2         ec2          form                       XML
query       iam, sts     form                       XML in a wrapper
json        sagemaker,   JSON, named in a header    JSON
            cloudtrail,
            kms
rest-json   eks,         path, query, JSON          JSON
            eks-auth
"""

from collections.abc import Mapping
from typing import Final, Protocol

from botocore.model import ServiceModel

from hyperpod_ebs.emulator.wire.form_wire import Ec2Wire, QueryWire
from hyperpod_ebs.emulator.wire.json_wire import JsonWire, RestJsonWire
from hyperpod_ebs.emulator.wire.messages import Reply, Request
from hyperpod_ebs.emulator.wire.operations import Answer, AwsFault, Parameters


class Wire(Protocol):
    """The wire protocol of one service, bound to the service's model."""

    def resembles(self, request: Request) -> bool:
        """Whether an unsigned request looks like a request for this service."""
        ...

    def operation(self, request: Request) -> str:
        """The operation that is requested.

        Raises:
            AwsFault: The request names no operation, or one that the model does not have.
        """
        ...

    def parse(self, operation: str, request: Request) -> Parameters:
        """Parse the members of the request.

        Raises:
            AwsFault: The members do not fit the operation's input.
        """
        ...

    def write(self, operation: str, answer: Answer, request_id: str) -> Reply:
        """Write the answer.

        Raises:
            UnknownMember: The answer has a member that the operation's output lacks.
            TypeError: A member has the wrong type.
            ValueError: A member cannot be written.
        """
        ...

    def write_error(self, fault: AwsFault, request_id: str) -> Reply:
        """Write the error, with the HTTP status that the model gives it."""
        ...

    def unknown_operation(self, operation: str) -> AwsFault:
        """The service's error for an operation that it does not have."""
        ...

    def internal_error(self) -> AwsFault:
        """The service's error for a bug in a handler."""
        ...


_WIRES: Final[Mapping[str, type[Ec2Wire | QueryWire | JsonWire | RestJsonWire]]] = {
    "ec2": Ec2Wire,
    "query": QueryWire,
    "json": JsonWire,
    "rest-json": RestJsonWire,
}


def wire_of(model: ServiceModel) -> Wire:
    """The wire of the service.

    Raises:
        KeyError: The service's protocol is not implemented.
    """
    return _WIRES[model.protocol](model)
