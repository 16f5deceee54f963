"""The API server's errors as the driver's: nothing else leaves `kubernetes/`."""

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
    422: errors.Conflict,  # what a JSON patch whose test does not hold is answered with
}


class ErrorAnswer(Exception):  # noqa: N818 - reads as what happened; never leaves kubernetes/
    """The API server answered with an error."""

    def __init__(self, status: int, body: bytes) -> None:
        self.status = status
        super().__init__(_message(body) or http.client.responses.get(status, f"status {status}"))


@contextmanager
def translate(doing: str) -> Generator[None]:
    """Let nothing but the driver's errors out of the block.

    Raises:
        Error: The one for the answer's status, else `Unavailable`.
    """
    try:
        yield
    except ErrorAnswer as error:
        raise _BY_STATUS.get(error.status, errors.Unavailable)(f"the API server answers {doing}: {error}") from error
    except Unresponsive as error:
        raise errors.Unavailable(f"the API server does not answer {doing} in time") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise errors.Unavailable(f"the API server cannot be asked to {doing}: {str(error) or repr(error)}") from error


def _message(body: bytes) -> str:
    """The sentence of a `Status`, with which the API server says what it does not like."""
    try:
        status = json.loads(body)
    except ValueError:
        return ""
    message = status.get("message") if isinstance(status, dict) else None
    return message if isinstance(message, str) else ""
