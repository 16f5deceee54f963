"""Count and log the SDK's calls to AWS, including those that it makes on its own for credentials.

The log has the request id of each refusal, which AWS Support asks for, and EC2's encoded message, which
sts:DecodeAuthorizationMessage opens. Messages and events have neither.

The observer listens to the SDK's events before a request is signed, so it never sees a signature or a session
token. It logs requests and answers only of services whose answers never hold credentials.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import structlog
from aiobotocore.session import AioSession

from hyperpod_ebs.driver.aws import denials
from hyperpod_ebs.driver.aws.errors import THROTTLING

_STARTED: Final = "hyperpod_ebs.started"
_LOGGED_SERVICES: Final = frozenset({"ec2", "sagemaker"})
"""Not STS and single sign-on, whose requests and answers hold credentials."""

_DRY_RUN: Final = "DryRunOperation"
"""EC2's code for a dry run that would have succeeded."""

log = structlog.get_logger()


class CallCounter(Protocol):
    """Counts calls to AWS."""

    def count_aws_call(self, operation: str, seconds: float, code: str = "", *, throttled: bool = False) -> None:
        """Count a call; `code` is AWS's error code, or the SDK's error if AWS did not answer, and empty for success."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallObserver:
    """Observes the calls of a session's clients."""

    counter: CallCounter | None = None
    logs_bodies: bool = False
    """Whether to log requests and answers."""

    def register(self, session: AioSession) -> None:
        """Observe all clients that the session creates from now on."""
        if self.counter is None and not self.logs_bodies:
            return
        session.register("before-call", self._on_request)
        session.register("after-call", self._on_answer)
        session.register("after-call-error", self._on_no_answer)

    # The SDK passes untyped values to these handlers, and more of them than the handlers need.
    def _on_request(self, *, model: Any, params: Mapping[str, Any], context: dict[str, Any], **_: Any) -> None:
        context[_STARTED] = time.monotonic()
        if self.logs_bodies and model.service_model.service_name in _LOGGED_SERVICES:
            log.info("AWS request", operation=model.name, body=params.get("body"))

    def _on_answer(self, *, model: Any, parsed: Mapping[str, Any], context: dict[str, Any], **_: Any) -> None:
        error = parsed.get("Error", {})
        code, encoded = str(error.get("Code", "")), denials.encoded_message(str(error.get("Message", "")))
        if code and code != _DRY_RUN:
            request_id = parsed.get("ResponseMetadata", {}).get("RequestId", "")
            fields = {"encoded": encoded} if encoded else {}
            log.info("AWS refused a call", operation=model.name, code=code, aws_request=request_id, **fields)
        self._count(model.name, context, "" if code == _DRY_RUN else code)
        if self.logs_bodies and model.service_model.service_name in _LOGGED_SERVICES:
            log.info("AWS answer", operation=model.name, answer=parsed)

    def _on_no_answer(self, *, event_name: str, exception: Exception, context: dict[str, Any], **_: Any) -> None:
        operation = event_name.rpartition(".")[2]
        self._count(operation, context, type(exception).__name__)
        if self.logs_bodies:
            log.info("no answer from AWS", operation=operation, why=str(exception))

    def _count(self, operation: str, context: Mapping[str, Any], code: str) -> None:
        if self.counter is not None:
            seconds = time.monotonic() - context.get(_STARTED, time.monotonic())
            self.counter.count_aws_call(operation, seconds, code, throttled=code in THROTTLING)
