"""Translation of the API server's errors into the driver's: no other error leaves `kubernetes/`."""

import http.client
import json
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Final

from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.kit.files import Unresponsive

_BY_STATUS: Final[Mapping[int, type[errors.Error]]] = {
    401: errors.Denied,
    403: errors.Denied,
    404: errors.NotFound,
    409: errors.Conflict,
    422: errors.Conflict,  # a JSON patch whose test does not hold
}


class ErrorAnswer(Exception):  # noqa: N818 - reads as what happened; never leaves kubernetes/
    """The API server answered with an error."""

    def __init__(self, status: int, body: bytes) -> None:
        self.status = status
        super().__init__(_status_message(body) or http.client.responses.get(status, f"status {status}"))


@contextmanager
def translate(request: str) -> Generator[None]:
    """Translate what the block raises; `request` is the method and path that were sent.

    Raises:
        Error: The error for the answer's status; `Unavailable` for other statuses and for no answer.
    """
    try:
        yield
    except ErrorAnswer as error:
        raise _BY_STATUS.get(error.status, errors.Unavailable)(f"the API server answered {request}: {error}") from error
    except Unresponsive as error:
        raise errors.Unavailable(f"the API server did not answer {request} in time") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise errors.Unavailable(f"request {request} to the API server failed: {str(error) or repr(error)}") from error


def _status_message(body: bytes) -> str:
    """The message of the `Status` object with which the API server reports an error; empty if there is none."""
    try:
        status = json.loads(body)
    except ValueError:
        return ""
    message = status.get("message") if isinstance(status, dict) else None
    return message if isinstance(message, str) else ""
