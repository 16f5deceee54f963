"""Services that answer JSON: named by a header (json 1.1), or by method and path (rest-json)."""

import json
from collections.abc import Callable

from botocore.model import OperationModel, ServiceModel, StructureShape

from hyperpod_ebs.emulator.wire import json_answer, rest_request
from hyperpod_ebs.emulator.wire.messages import Reply, Request
from hyperpod_ebs.emulator.wire.model_wire import Compiled, ModelWire, refuse_members
from hyperpod_ebs.emulator.wire.operations import Answer, AwsFault


class _DocumentWire(ModelWire):
    """What the two JSON protocols share."""

    def broken(self) -> AwsFault:
        """What the service says when it fails itself."""
        return AwsFault("InternalFailure", "An internal error has occurred", 500)

    def compile(self, operation: OperationModel) -> Compiled:
        """Both directions of `operation`."""
        return Compiled(rest_request.parser(operation), _writer(operation))

    def message(self, fault: AwsFault) -> dict[str, str]:
        """The fault's message under the name that its model gives it, which may have a capital."""
        shape = self._errors.get(fault.code)
        members = shape.members if isinstance(shape, StructureShape) else {}
        name = next((name for name in members if name.lower() == "message"), "message")
        return {name: fault.message}


class JsonWire(_DocumentWire):
    """JSON 1.1: SageMaker speaks it."""

    content_type = "application/x-amz-json-1.1"

    def claims(self, request: Request) -> bool:
        """Whether the target is one of this service's."""
        return request.headers.get("x-amz-target", "").startswith(self._prefix)

    def operation(self, request: Request) -> str:
        """The operation that the header names."""
        return self.known(request.headers.get("x-amz-target", "").removeprefix(self._prefix))

    def unknown(self, operation: str) -> AwsFault:  # noqa: ARG002 - AWS names none either
        """What the service says of an operation that it does not have."""
        return AwsFault("UnknownOperationException", "", 400)

    def refuse(self, fault: AwsFault, request_id: str) -> Reply:
        """The refusal as JSON services write it."""
        body = _dumped({"__type": fault.code, **self.message(fault)})
        return self.reply(self.status(fault), body, request_id)

    @property
    def _prefix(self) -> str:
        return f"{self._model.metadata['targetPrefix']}."


class RestJsonWire(_DocumentWire):
    """REST with JSON bodies: EKS speaks it."""

    content_type = "application/json"

    def __init__(self, model: ServiceModel) -> None:
        super().__init__(model)
        self._routes = rest_request.routes([model.operation_model(name) for name in model.operation_names])

    def claims(self, request: Request) -> bool:
        """Whether an operation has this path."""
        return rest_request.operation_of(request, self._routes) is not None

    def operation(self, request: Request) -> str:
        """The operation that method and path name."""
        if (operation := rest_request.operation_of(request, self._routes)) is None:
            raise self.unknown("")
        return operation

    def unknown(self, operation: str) -> AwsFault:  # noqa: ARG002 - AWS names none either
        """What the service says of an operation that it does not have."""
        return AwsFault("UnknownOperationException", "", 404)

    def refuse(self, fault: AwsFault, request_id: str) -> Reply:
        """The refusal as REST services write it."""
        errortype = {"x-amzn-errortype": fault.code}
        return self.reply(self.status(fault), _dumped(self.message(fault)), request_id, **errortype)


def _writer(operation: OperationModel) -> Callable[[Answer, str], bytes]:
    """What writes answers to `operation`.

    Raises:
        NotImplementedError: The operation answers in places other than the body.
    """
    shape = operation.output_shape
    if shape is None:
        return lambda answer, _: _nothing(operation.name, answer)
    if "payload" in shape.serialization or any("location" in below.serialization for below in shape.members.values()):
        raise NotImplementedError(f"{operation.name} answers outside the JSON document")
    plain = json_answer.structure_plain(shape)
    return lambda answer, _: _dumped(plain(answer))


def _nothing(operation: str, answer: Answer) -> bytes:
    refuse_members(operation, answer)
    return b""


def _dumped(document: object) -> bytes:
    return json.dumps(document, allow_nan=False, separators=(",", ":")).encode()
