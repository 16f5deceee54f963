"""What of the SDK's calls is counted and told: those that it makes for credentials by itself, too.

It is told from the SDK's events, before a request is signed, so that no signature and
no session token is among it; and only of services whose answers are never credentials.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import structlog
from aiobotocore.session import AioSession

from hyperpod_ebs.driver.aws.errors import THROTTLES

_BEGAN: Final = "hyperpod_ebs.began"
_TOLD: Final = frozenset({"ec2", "sagemaker"})
"""Services whose questions and answers may be told: those of STS or of single sign-on have credentials."""
_DRY_RUN: Final = "DryRunOperation"
"""How EC2 says that a dry run would have succeeded."""

log = structlog.get_logger()


class Measure(Protocol):
    """Counts calls to AWS."""

    def called(self, operation: str, seconds: float, code: str = "", *, throttled: bool = False) -> None:
        """Count one; `code` tells why it did not do as asked, AWS's own where there is an answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observer:
    """Hears of each call of a session's clients."""

    measure: Measure | None = None
    aloud: bool = False
    """Whether questions and answers go to the log."""

    def attend(self, session: AioSession) -> None:
        """Hear of the calls of all clients that the session makes from now on."""
        if self.measure is None and not self.aloud:
            return
        session.register("before-call", self._asked)
        session.register("after-call", self._answered)
        session.register("after-call-error", self._unanswered)

    # The SDK's own values, which it gives no types; and it gives more of them than are read.
    def _asked(self, *, model: Any, params: Mapping[str, Any], context: dict[str, Any], **_: Any) -> None:
        context[_BEGAN] = time.monotonic()
        if self.aloud and model.service_model.service_name in _TOLD:
            log.info("aws asked", operation=model.name, body=params.get("body"))

    def _answered(self, *, model: Any, parsed: Mapping[str, Any], context: dict[str, Any], **_: Any) -> None:
        code = str(parsed.get("Error", {}).get("Code", ""))
        self._count(model.name, context, "" if code == _DRY_RUN else code)
        if self.aloud and model.service_model.service_name in _TOLD:
            log.info("aws answered", operation=model.name, answer=parsed)

    def _unanswered(self, *, event_name: str, exception: Exception, context: dict[str, Any], **_: Any) -> None:
        operation = event_name.rpartition(".")[2]
        self._count(operation, context, type(exception).__name__)
        if self.aloud:
            log.info("aws did not answer", operation=operation, why=str(exception))

    def _count(self, operation: str, context: Mapping[str, Any], code: str) -> None:
        if self.measure is not None:
            seconds = time.monotonic() - context.get(_BEGAN, time.monotonic())
            self.measure.called(operation, seconds, code, throttled=code in THROTTLES)
