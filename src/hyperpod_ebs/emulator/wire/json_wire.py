"""The protocols with JSON answers: json 1.1 names the operation in a header, rest-json in the method and path."""

import json
from collections.abc import Callable

from botocore.model import OperationModel, ServiceModel, StructureShape

from hyperpod_ebs.emulator.wire import json_answer, rest_request
from hyperpod_ebs.emulator.wire.messages import Reply, Request
from hyperpod_ebs.emulator.wire.model_wire import Codec, ModelWire, require_empty
from hyperpod_ebs.emulator.wire.operations import Answer, AwsFault


class _DocumentWire(ModelWire):
    """The part that the two JSON protocols share."""

    def internal_error(self) -> AwsFault:
        """The service's error for a bug in a handler."""
        return AwsFault("InternalFailure", "An internal error has occurred", 500)

    def compile(self, operation: OperationModel) -> Codec:
        """Compile the codec of `operation`."""
        return Codec(rest_request.parser(operation), _writer(operation))

    def message(self, fault: AwsFault) -> dict[str, str]:
        """The error's message, under its name in the model, which is `message` or `Message`."""
        shape = self._errors.get(fault.code)
        members = shape.members if isinstance(shape, StructureShape) else {}
        name = next((name for name in members if name.lower() == "message"), "message")
        return {name: fault.message}


class JsonWire(_DocumentWire):
    """The json protocol, version 1.1, which SageMaker uses."""

    content_type = "application/x-amz-json-1.1"

    def resembles(self, request: Request) -> bool:
        """Whether the target header names this service."""
        return request.headers.get("x-amz-target", "").startswith(self._prefix)

    def operation(self, request: Request) -> str:
        """The operation that the target header names."""
        return self.require_operation(request.headers.get("x-amz-target", "").removeprefix(self._prefix))

    def unknown_operation(self, operation: str) -> AwsFault:  # noqa: ARG002 - AWS's error does not name it
        """The service's error for an operation that it does not have."""
        return AwsFault("UnknownOperationException", "", 400)

    def write_error(self, fault: AwsFault, request_id: str) -> Reply:
        """Write the error as json services do."""
        body = _encode({"__type": fault.code, **self.message(fault)})
        return self.reply(self.status(fault), body, request_id)

    @property
    def _prefix(self) -> str:
        return f"{self._model.metadata['targetPrefix']}."


class RestJsonWire(_DocumentWire):
    """The rest-json protocol, which EKS uses."""

    content_type = "application/json"

    def __init__(self, model: ServiceModel) -> None:
        super().__init__(model)
        self._routes = rest_request.routes([model.operation_model(name) for name in model.operation_names])

    def resembles(self, request: Request) -> bool:
        """Whether an operation has this method and path."""
        return rest_request.operation_of(request, self._routes) is not None

    def operation(self, request: Request) -> str:
        """The operation whose method and path the request has."""
        if (operation := rest_request.operation_of(request, self._routes)) is None:
            raise self.unknown_operation("")
        return operation

    def unknown_operation(self, operation: str) -> AwsFault:  # noqa: ARG002 - AWS's error does not name it
        """The service's error for an operation that it does not have."""
        return AwsFault("UnknownOperationException", "", 404)

    def write_error(self, fault: AwsFault, request_id: str) -> Reply:
        """Write the error as rest-json services do."""
        errortype = {"x-amzn-errortype": fault.code}
        return self.reply(self.status(fault), _encode(self.message(fault)), request_id, **errortype)


def _writer(operation: OperationModel) -> Callable[[Answer, str], bytes]:
    """A writer of answers to `operation`.

    Raises:
        NotImplementedError: The operation has output outside the JSON document.
    """
    shape = operation.output_shape
    if shape is None:

        def check(answer: Answer, _: str) -> bytes:
            require_empty(operation.name, answer)
            return b""

        return check
    if "payload" in shape.serialization or any("location" in nested.serialization for nested in shape.members.values()):
        raise NotImplementedError(f"{operation.name} has output outside the JSON document")
    convert = json_answer.structure_converter(shape)
    return lambda answer, _: _encode(convert(answer))


def _encode(document: object) -> bytes:
    return json.dumps(document, allow_nan=False, separators=(",", ":")).encode()
