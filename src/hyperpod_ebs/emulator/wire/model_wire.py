"""The base of all wire protocols: an operation's codec is compiled from the service's model at its first use."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from botocore.model import OperationModel, ServiceModel

from hyperpod_ebs.emulator.wire import models
from hyperpod_ebs.emulator.wire.messages import Reply, Request
from hyperpod_ebs.emulator.wire.operations import Answer, AwsFault, Parameters, UnknownMember


@dataclass(frozen=True, slots=True)
class Codec:
    """The reader of an operation's requests and the writer of its answers."""

    parse: Callable[[Request], Parameters]
    write: Callable[[Answer, str], bytes]
    """Writes an answer; the second argument is the request's id."""


class ModelWire(ABC):
    """The part of a `Wire` that all protocols share."""

    content_type: str

    def __init__(self, model: ServiceModel) -> None:
        self._model = model
        self._names = frozenset(model.operation_names)
        self._errors = models.error_shapes(model)
        self._codecs: dict[str, Codec] = {}

    @abstractmethod
    def unknown_operation(self, operation: str) -> AwsFault:
        """The service's error for an operation that it does not have."""

    @abstractmethod
    def compile(self, operation: OperationModel) -> Codec:
        """Compile the codec of `operation`."""

    def parse(self, operation: str, request: Request) -> Parameters:
        """Parse the members of the request."""
        return self._codec(operation).parse(request)

    def write(self, operation: str, answer: Answer, request_id: str) -> Reply:
        """Write the answer."""
        return self.reply(200, self._codec(operation).write(answer, request_id), request_id)

    def reply(self, status: int, body: bytes, request_id: str, **headers: str) -> Reply:
        """A reply of `body` with the headers that every answer of the service has."""
        fixed = {"content-type": self.content_type, "x-amzn-requestid": request_id}
        return Reply(status=status, headers={**fixed, **headers}, body=body)

    def require_operation(self, operation: str) -> str:
        """Return `operation` if the model has it.

        Raises:
            AwsFault: The model does not have it.
        """
        if operation not in self._names:
            raise self.unknown_operation(operation)
        return operation

    def status(self, fault: AwsFault) -> int:
        """The HTTP status for the fault: the status in the model, or else the fault's own."""
        shape = self._errors.get(fault.code)
        return (models.error_status(shape) if shape else None) or fault.status

    def _codec(self, operation: str) -> Codec:
        if (codec := self._codecs.get(operation)) is None:
            codec = self._codecs[operation] = self.compile(self._model.operation_model(operation))
        return codec


def require_empty(operation: str, answer: Answer) -> None:
    """Check the answer to an operation without output.

    Raises:
        UnknownMember: The answer has a member.
    """
    if answer:
        raise UnknownMember(f"{operation} has no output, but the answer has a member {next(iter(answer))}")
