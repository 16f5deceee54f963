"""Operations compiled on first use: what every protocol does the same with a model."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from botocore.model import OperationModel, ServiceModel

from hyperpod_ebs.emulator.wire import models
from hyperpod_ebs.emulator.wire.messages import Reply, Request
from hyperpod_ebs.emulator.wire.operations import Answer, Asked, AwsFault, UnknownMember


@dataclass(frozen=True, slots=True)
class Compiled:
    """One operation's two directions."""

    parse: Callable[[Request], Asked]
    write: Callable[[Answer, str], bytes]
    """Writes an answer; the second argument is the request's id."""


class ModelWire(ABC):
    """The part of a `Wire` that is the same in every protocol."""

    content_type: str

    def __init__(self, model: ServiceModel) -> None:
        self._model = model
        self._names = frozenset(model.operation_names)
        self._errors = models.error_shapes(model)
        self._compiled: dict[str, Compiled] = {}

    @abstractmethod
    def unknown(self, operation: str) -> AwsFault:
        """What the service says of an operation that it does not have."""

    @abstractmethod
    def compile(self, operation: OperationModel) -> Compiled:
        """Both directions of `operation`."""

    def parse(self, operation: str, request: Request) -> Asked:
        """The members of the request."""
        return self._of(operation).parse(request)

    def write(self, operation: str, answer: Answer, request_id: str) -> Reply:
        """The answer as it goes out."""
        return self.reply(200, self._of(operation).write(answer, request_id), request_id)

    def reply(self, status: int, body: bytes, request_id: str, **headers: str) -> Reply:
        """`body` with the headers that every answer of the service has."""
        fixed = {"content-type": self.content_type, "x-amzn-requestid": request_id}
        return Reply(status=status, headers={**fixed, **headers}, body=body)

    def known(self, operation: str) -> str:
        """`operation`, if the model has it.

        Raises:
            AwsFault: It does not.
        """
        if operation not in self._names:
            raise self.unknown(operation)
        return operation

    def status(self, fault: AwsFault) -> int:
        """The status the model gives the fault, or else the fault's own."""
        shape = self._errors.get(fault.code)
        return (models.error_status(shape) if shape else None) or fault.status

    def _of(self, operation: str) -> Compiled:
        if (compiled := self._compiled.get(operation)) is None:
            compiled = self._compiled[operation] = self.compile(self._model.operation_model(operation))
        return compiled


def refuse_members(operation: str, answer: Answer) -> None:
    """Accept an empty answer only, for an operation that has no output.

    Raises:
        UnknownMember: The answer has a member.
    """
    if answer:
        raise UnknownMember(f"{operation} answers nothing, so it has no member {next(iter(answer))}")
