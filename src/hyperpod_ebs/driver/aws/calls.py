"""Call AWS in a few attempts, and turn every failure into one of the driver's own errors.

The SDK's own retries are off, because the SDK does not report whether an earlier attempt may have
taken effect. After a failed create, the driver has to know that: a volume may exist.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypedDict, TypeVar

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    NoCredentialsError,
    ParamValidationError,
)
from botocore.exceptions import ConnectionError as NoConnection
from botocore.parsers import ResponseParserError

from hyperpod_ebs.driver.aws.errors import (
    NO_CREDENTIALS,
    NOT_UNDERSTOOD,
    TRY_AGAIN,
    error_for_response,
    parse_problem,
)
from hyperpod_ebs.driver.model import errors

if TYPE_CHECKING:
    from hyperpod_ebs.driver.aws.clients import Clients

Answer = TypeVar("Answer")
Listing = TypeVar("Listing", bound=Mapping[str, object])
Result = TypeVar("Result")

RETRY_PAUSES: Final = (0.25, 0.75)
"""Upper bounds, in seconds, of the pause before each retry. There are few because the caller retries as well."""

_UNANSWERED: Final = frozenset({errors.Unavailable, errors.OutcomeUnknown})
"""The errors of a call without an answer. Their subclasses are not here: an immediate retry does not help those."""


class NextPage(TypedDict, total=False):
    """The argument that selects a page of a listing; empty for the first page."""

    NextToken: str


@contextmanager
def translate_sdk_errors(action: str, *, creates: bool = False) -> Generator[None]:
    """Turn every exception of the SDK that the block raises into one of the driver's errors.

    Args:
        action: What the block does, for messages that begin with "cannot": `attach volume vol-1 to node i-1`.
        creates: Whether the block creates something. If it does, the object may exist although no answer came.

    Raises:
        Error: The driver's error for AWS's code.
        TokenSpent: The client token belongs to another request.
        OutcomeUnknown: AWS did not answer, and something may have been created.
        Unavailable: AWS did not answer.
    """
    error_without_answer = errors.OutcomeUnknown if creates else errors.Unavailable
    try:
        yield
    except ClientError as error:
        raise error_for_response(error, action, creates=creates) from error
    except ParamValidationError as error:
        raise errors.InvalidRequest(f"cannot {action}: {error}") from error
    except (NoConnection, HTTPClientError) as error:
        raise error_without_answer(f"cannot {action}: no answer from AWS ({error}); {TRY_AGAIN}") from error
    except NoCredentialsError as error:
        raise errors.Unavailable(f"cannot {action}: {NO_CREDENTIALS}; {TRY_AGAIN}") from error
    except ResponseParserError as error:  # a proxy or load balancer answered in AWS's place
        raise error_without_answer(
            f"cannot {action}: the answer does not come from AWS ({error}); check proxies on the way to AWS"
        ) from error
    except (BotoCoreError, OSError) as error:  # before anything was sent: credentials and their files, endpoints
        raise errors.Unavailable(f"cannot {action}: the AWS SDK cannot send the request ({error})") from error
    except (LookupError, ValueError) as error:  # raised by the functions that parse an answer
        raise errors.CloudError(
            NOT_UNDERSTOOD, f"cannot {action}: AWS's answer is unusable: {parse_problem(error)}"
        ) from error


async def retry(
    action: str,
    attempt: Callable[[], Awaitable[Result]],
    *,
    creates: bool = False,
    repeatable: bool = True,
) -> Result:
    """Make a call to AWS, and repeat it if AWS throttles it or does not answer.

    Args:
        action: What the call does, for messages that begin with "cannot": `attach volume vol-1 to node i-1`.
        attempt: Makes the call and returns its result.
        creates: Whether the call creates something.
        repeatable: Whether making the call twice has the same effect as making it once.

    Raises:
        OutcomeUnknown: The call creates something, and one of the attempts may have succeeded.
        Error: AWS refused the call.
    """
    pauses = iter(RETRY_PAUSES)
    outcome_unknown = False
    while True:
        try:
            with translate_sdk_errors(action, creates=creates):
                return await attempt()
        except errors.Error as error:
            outcome_unknown = outcome_unknown or isinstance(error, errors.OutcomeUnknown)
            retry_helps = type(error) is errors.Throttled or (repeatable and type(error) in _UNANSWERED)
            pause = next(pauses, None)
            if not retry_helps or pause is None:
                if outcome_unknown and not isinstance(error, errors.OutcomeUnknown):
                    raise errors.OutcomeUnknown(
                        f"{error}; an earlier attempt got no answer and may have succeeded"
                    ) from error
                raise
        await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - spreads the load, protects no secret


@dataclass(frozen=True, slots=True)
class Request:
    """A request to AWS."""

    operation: str
    """AWS's name of the operation: `AttachVolume`."""
    subject: str
    """The volume, snapshot or other object that the request is about."""
    action: str
    """What the request does, for messages that begin with "cannot": `attach volume vol-1 to node i-1`."""
    creates: bool = False
    """Whether the request creates something."""
    repeatable: bool = True
    """Whether sending the request twice has the same effect as sending it once."""


@dataclass(kw_only=True)
class AwsCaller:
    """Calls AWS with the clients of the current connection."""

    clients: Callable[[], Awaitable["Clients"]]
    """Returns the clients, or raises `Unavailable` while there are none."""

    async def call(
        self, request: Request, send: Callable[["Clients"], Awaitable[Answer]], parse: Callable[[Answer], Result]
    ) -> Result:
        """Send a request and parse the answer; the errors are those of `retry`."""

        async def attempt() -> Result:
            return parse(await send(await self.clients()))

        return await retry(request.action, attempt, creates=request.creates, repeatable=request.repeatable)

    async def call_pages(
        self,
        request: Request,
        send: Callable[["Clients", NextPage], Awaitable[Listing]],
        parse: Callable[[Listing], Iterable[Result]],
    ) -> tuple[Result, ...]:
        """Fetch all pages of a listing, because an object on a page that was not fetched would count as deleted.

        Raises:
            Error: As `retry` does.
        """
        items: list[Result] = []
        page = NextPage()
        while True:
            found, token = await self.call(
                request,
                lambda aws: send(aws, page),  # noqa: B023 - called before `page` changes
                lambda answer: (tuple(parse(answer)), answer.get("NextToken")),
            )
            items += found
            if not token:
                return tuple(items)
            page = NextPage(NextToken=str(token))
