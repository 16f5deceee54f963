"""The error for a service that is not emulated, in a form that the service's own clients can parse.

A client of AWS reports the code and the message of an error only if the error is in the form of the service's protocol.
The request shows which protocol that is, except that some REST services have the same requests.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Final

from hyperpod_ebs.emulator.wire.messages import Reply, Request
from hyperpod_ebs.emulator.wire.xml_answer import escape

CODE: Final = "UnknownOperationException"
STATUS: Final = 404

_XML_SERVICES: Final = frozenset({"s3", "s3express", "s3-outposts", "cloudfront", "route53"})
"""The signing names of the REST services with XML answers; the other REST services answer JSON."""

_CBOR_PROTOCOL: Final = "rpc-v2-cbor"
"""Smithy RPC v2 CBOR, the protocol of CloudWatch and of some newer services."""


def reply(request: Request, service: str, services: Sequence[str], request_id: str) -> Reply:
    """The reply to a request for `service`, which is not one of the emulated `services`."""
    subject = f"service {service}" if service else "the service of this request"
    message = f"{subject} is not emulated; the emulated services are {', '.join(services)}"
    headers = {"x-amzn-requestid": request_id, "x-amzn-errortype": CODE}
    if request.headers.get("smithy-protocol") == _CBOR_PROTOCOL:
        body = b"\xa2" + b"".join(map(_cbor_text, ("__type", CODE, "message", message)))  # 0xa2: a map of two pairs
        headers |= {"smithy-protocol": _CBOR_PROTOCOL, "content-type": "application/cbor"}
    elif _answers_xml(request.headers, service):
        error = f"<Error><Type>Sender</Type><Code>{CODE}</Code><Message>{escape(message)}</Message></Error>"
        body = f"<ErrorResponse>{error}<RequestId>{request_id}</RequestId></ErrorResponse>".encode()
        headers["content-type"] = "text/xml;charset=UTF-8"
    else:
        body = json.dumps({"__type": CODE, "message": message}).encode()
        headers["content-type"] = "application/json"
    return Reply(status=STATUS, headers=headers, body=body)


def _answers_xml(headers: Mapping[str, str], service: str) -> bool:
    is_form = headers.get("content-type", "").startswith("application/x-www-form-urlencoded")
    return service in _XML_SERVICES or (is_form and "x-amz-target" not in headers)


def _cbor_text(text: str) -> bytes:
    """The text in CBOR, with its length in two bytes (RFC 8949, section 3.1, major type 3)."""
    encoded = text.encode()
    return b"\x79" + len(encoded).to_bytes(2) + encoded
