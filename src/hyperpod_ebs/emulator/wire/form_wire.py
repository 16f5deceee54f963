"""The protocols with form requests and XML answers: ec2, and the older query protocol."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from botocore.model import ListShape, OperationModel, Shape

from hyperpod_ebs.emulator.wire import form_request, member_checks, xml_answer
from hyperpod_ebs.emulator.wire.form_request import Dialect
from hyperpod_ebs.emulator.wire.messages import Reply, Request
from hyperpod_ebs.emulator.wire.model_wire import Codec, ModelWire, require_empty
from hyperpod_ebs.emulator.wire.operations import Answer, AwsFault, Parameters
from hyperpod_ebs.emulator.wire.xml_answer import escape

_XML: Final = '<?xml version="1.0" encoding="UTF-8"?>\n'
_SIGNING: Final = "X-Amz-"

MAX_FIELDS: Final = 20_000
"""Parameters of a form; a request with 1,000 resources and 50 tags has 1,100."""

_SHOWN: Final = 200
"""Characters of a name in an error."""


def _ec2_name(name: str, shape: Shape) -> str:
    if given := shape.serialization.get("queryName"):
        return str(given)
    given = str(shape.serialization.get("name", name))
    return given[:1].upper() + given[1:]


_EC2: Final = Dialect(
    name=_ec2_name,
    elements=lambda _: None,
    missing=lambda name: AwsFault("MissingParameter", f"The request must contain the parameter {name}", 400),
    unknown=lambda name: AwsFault("UnknownParameter", f"The parameter {name[:_SHOWN]} is not recognized", 400),
    invalid=lambda name, value: AwsFault(
        "InvalidParameterValue", f"Value ({value}) for parameter {name} is invalid.", 400
    ),
)


def _query_name(name: str, shape: Shape) -> str:
    own = str(shape.serialization.get("name", name))
    if isinstance(shape, ListShape) and shape.serialization.get("flattened"):
        # A flattened list has no name of its own on the wire: its numbered elements have the member's name.
        return str(shape.member.serialization.get("name", own))
    return own


def _query_elements(shape: Shape) -> str | None:
    if not isinstance(shape, ListShape) or shape.serialization.get("flattened"):
        return None
    return str(shape.member.serialization.get("name", "member"))


def _query_path(name: str) -> str:
    return ".".join(part[:1].lower() + part[1:] for part in name.split("."))


def _query_invalid(violation: str) -> AwsFault:
    return AwsFault("ValidationError", f"1 validation error detected: {violation}", 400)


_QUERY: Final = Dialect(
    name=_query_name,
    elements=_query_elements,
    missing=lambda name: _query_invalid(
        f"Value null at '{_query_path(name)}' failed to satisfy constraint: Member must not be null"
    ),
    unknown=None,
    invalid=lambda name, value: _query_invalid(
        f"Value '{value}' at '{_query_path(name)}' failed to satisfy constraint: Member must be of its type"
    ),
)


class _FormWire(ModelWire):
    """The part that the two form protocols share."""

    content_type = "text/xml;charset=UTF-8"
    dialect: Dialect

    def resembles(self, request: Request) -> bool:
        """Whether the form names the version of this service's API."""
        try:
            return _form(request).get("Version") == self._model.api_version
        except AwsFault:
            return False

    def operation(self, request: Request) -> str:
        """The operation that `Action` names."""
        if not (action := _form(request).get("Action")):
            raise AwsFault("MissingAction", "The request is missing an action or operation parameter.", 400)
        return self.require_operation(action)

    def parser(self, operation: OperationModel) -> Callable[[Request], Parameters]:
        """A parser of forms for `operation`."""
        shape = operation.input_shape
        if shape is None:
            return lambda _: {}
        read = form_request.structure_reader(shape, self.dialect)

        def parse(request: Request) -> dict[str, Any]:  # Any: each member has its shape's type
            parameters = [
                (name, value)
                for name, value in _pairs(request)
                if name not in {"Action", "Version"} and not name.startswith(_SIGNING)
            ]
            members: dict[str, Any] = read(form_request.tree(parameters), "")
            return members

        return parse

    def content(self, operation: OperationModel, *, element: str | None, no_output: str) -> Callable[[Answer], str]:
        """A writer of the members of an answer; it writes `no_output` if the operation has no output."""
        shape = operation.output_shape
        if shape is None:

            def check(answer: Answer) -> str:
                require_empty(operation.name, answer)
                return no_output

            return check
        write = xml_answer.content_writer(shape, element=element)

        def content(answer: Answer) -> str:
            parts: list[str] = []
            write(answer, parts.append)
            return "".join(parts)

        return content


class Ec2Wire(_FormWire):
    """EC2's own protocol."""

    dialect = _EC2

    def unknown_operation(self, operation: str) -> AwsFault:
        """EC2's error for an operation that it does not have."""
        return AwsFault("InvalidAction", f"The action {operation} is not valid for this web service.", 400)

    def internal_error(self) -> AwsFault:
        """EC2's error for a bug in a handler."""
        return AwsFault("InternalError", "An internal error has occurred", 500)

    def compile(self, operation: OperationModel) -> Codec:
        """Compile the codec of `operation`."""
        name = f"{operation.name}Response"
        start = f'{_XML}<{name} xmlns="{self._model.metadata["xmlNamespace"]}"><requestId>'
        content = self.content(operation, element="item", no_output="<return>true</return>")

        def write(answer: Answer, request_id: str) -> bytes:
            return f"{start}{request_id}</requestId>{content(answer)}</{name}>".encode()

        return Codec(self.parser(operation), write)

    def write_error(self, fault: AwsFault, request_id: str) -> Reply:
        """Write the error as EC2 does."""
        error = f"<Error><Code>{escape(fault.code)}</Code><Message>{escape(fault.message)}</Message></Error>"
        body = f"{_XML}<Response><Errors>{error}</Errors><RequestID>{request_id}</RequestID></Response>"
        return self.reply(self.status(fault), body.encode(), request_id)


class QueryWire(_FormWire):
    """The query protocol, which STS uses."""

    dialect = _QUERY

    def parser(self, operation: OperationModel) -> Callable[[Request], Parameters]:
        """A parser of forms for `operation`, which checks the model's constraints."""
        parse = super().parser(operation)
        if operation.input_shape is None:
            return parse
        violations_of = member_checks.members_check(operation.input_shape)

        def parse_and_check(request: Request) -> Parameters:
            members = parse(request)
            if violations := violations_of(members):
                errors = "error" if len(violations) == 1 else "errors"
                text = f"{len(violations)} validation {errors} detected: {'; '.join(violations)}"
                raise AwsFault("ValidationError", text, 400)
            return members

        return parse_and_check

    def unknown_operation(self, operation: str) -> AwsFault:
        """The service's error for an operation that it does not have."""
        message = f"Could not find operation {operation} for version {self._model.api_version}"
        return AwsFault("InvalidAction", message, 400)

    def internal_error(self) -> AwsFault:
        """The service's error for a bug in a handler."""
        return AwsFault("InternalFailure", "An internal error has occurred", 500)

    def compile(self, operation: OperationModel) -> Codec:
        """Compile the codec of `operation`."""
        name, shape = operation.name, operation.output_shape
        wrapper = None if shape is None else shape.serialization.get("resultWrapper")
        opening, closing = (f"<{wrapper}>", f"</{wrapper}>") if wrapper else ("", "")
        start = f'<{name}Response xmlns="{self._model.metadata["xmlNamespace"]}">{opening}'
        content = self.content(operation, element=None, no_output="")

        def write(answer: Answer, request_id: str) -> bytes:
            metadata = f"<ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata>"
            return f"{start}{content(answer)}{closing}{metadata}</{name}Response>".encode()

        return Codec(self.parser(operation), write)

    def write_error(self, fault: AwsFault, request_id: str) -> Reply:
        """Write the error as query services do."""
        status = self.status(fault)
        kind = "Sender" if status < 500 else "Receiver"  # noqa: PLR2004 - 5xx are errors of the server
        error = f"<Type>{kind}</Type><Code>{escape(fault.code)}</Code><Message>{escape(fault.message)}</Message>"
        namespace = self._model.metadata["xmlNamespace"]
        content = f"<Error>{error}</Error><RequestId>{request_id}</RequestId>"
        body = f'<ErrorResponse xmlns="{namespace}">{content}</ErrorResponse>'
        return self.reply(status, body.encode(), request_id)


def _form(request: Request) -> dict[str, str]:
    return dict(_pairs(request))


def _pairs(request: Request) -> Sequence[tuple[str, str]]:
    """The form's parameters, from the query of a GET or the body of a POST.

    Raises:
        AwsFault: The form has too many parameters.
    """
    if request.query.count("&") + request.body.count(b"&") >= MAX_FIELDS:
        raise AwsFault("MalformedQueryString", f"The request has more than {MAX_FIELDS} parameters", 400)
    return request.form
