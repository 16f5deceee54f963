"""Call AWS in a few attempts, and turn every failure into one of the driver's own errors.

The SDK's own retries are off, and AWS_RETRY_MODE and AWS_MAX_ATTEMPTS have no effect. The SDK does not report whether
an earlier attempt may have taken effect, and its retries would take tokens that the governor does not know of. After a
failed create, the driver has to know: a volume may exist.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
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
from hyperpod_ebs.driver.aws.shared_looks import SharedLooks, TakeKeys
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.aws_request import Request
from hyperpod_ebs.driver.volumes.governor import Governor

if TYPE_CHECKING:
    from types_aiobotocore_sts.type_defs import GetCallerIdentityResponseTypeDef

    from hyperpod_ebs.driver.aws.clients import Clients

Answer = TypeVar("Answer")
Listing = TypeVar("Listing", bound=Mapping[str, object])
Result = TypeVar("Result")

RETRY_PAUSES: Final = (0.25, 0.75)
"""Upper bounds, in seconds, of the pause before each retry. There are few because the caller retries as well."""

POLL_TIMEOUT: Final = 6.0
"""Seconds for the answer to a poll: all operations wait for it, so a dead connection must not delay them for long."""

_LOOK_UP_ACCOUNT: Final = "look up the AWS account id"
_ACCOUNT: Final = "account"
"""The only key of these looks."""

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
    except TimeoutError as error:
        raise error_without_answer(f"cannot {action}: AWS has not answered in time; {TRY_AGAIN}") from error
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


@dataclass(kw_only=True)
class AwsCaller:
    """Calls AWS with the clients of the current connection."""

    clients: Callable[[], Awaitable["Clients"]]
    """Returns the clients, or raises `Unavailable` while there are none."""
    governor: Governor = field(default_factory=Governor)
    """Decides when each call is sent; all callers of an account and region share one."""

    async def call(
        self, request: Request, send: Callable[["Clients"], Awaitable[Answer]], parse: Callable[[Answer], Result]
    ) -> Result:
        """Send a request and parse the answer; repeat the request if AWS does not answer.

        The governor sends it when AWS will accept it, and again if AWS throttles it.

        Raises:
            OutcomeUnknown: The request creates something, and one of the attempts may have succeeded.
            Error: AWS refused the request.
        """
        clients = await self.clients()
        pauses = iter(RETRY_PAUSES)
        is_repeat, outcome_unknown = False, False

        async def attempt() -> Result:
            with translate_sdk_errors(request.action, creates=request.creates):
                async with asyncio.timeout(request.timeout):
                    answer = await send(clients)
                return parse(answer)

        while True:
            try:
                return await self.governor.call(request, attempt, is_repeat=is_repeat)
            except errors.Error as error:
                outcome_unknown = outcome_unknown or isinstance(error, errors.OutcomeUnknown)
                pause = next(pauses, None)
                if not (request.repeatable and type(error) in _UNANSWERED) or pause is None:
                    if outcome_unknown and not isinstance(error, errors.OutcomeUnknown):
                        raise errors.OutcomeUnknown(
                            f"{error}; an earlier attempt got no answer and may have succeeded"
                        ) from error
                    raise
            is_repeat = True
            await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - spreads the load, protects no secret

    async def resolve_account_id(self) -> str:
        """Return the id of the account that the driver works for, twelve digits. STS is asked once, when it is needed.

        Raises:
            Error: STS refused the request or did not answer.
        """
        account = (await self.clients()).account
        if account.known_id is None:
            (account.known_id,) = await self._account_ids.look(_ACCOUNT, _LOOK_UP_ACCOUNT)
        return account.known_id

    @cached_property
    def _account_ids(self) -> SharedLooks[str]:
        """The looks of hundreds of calls that need the id at start-up: they share its failure, too."""
        return SharedLooks(_LOOK_UP_ACCOUNT, self._show_account_id)

    async def _show_account_id(self, take_keys: TakeKeys) -> tuple[tuple[str, str]]:
        def send(aws: "Clients") -> "Awaitable[GetCallerIdentityResponseTypeDef]":
            take_keys()
            return aws.sts.get_caller_identity()

        return await self.call(
            Request("GetCallerIdentity", _ACCOUNT, _LOOK_UP_ACCOUNT, service="sts"),
            send,
            lambda answer: ((_ACCOUNT, answer["Account"]),),
        )

    async def call_pages(
        self,
        request: Request,
        send: Callable[["Clients", NextPage], Awaitable[Listing]],
        parse: Callable[[Listing], Iterable[Result]],
    ) -> tuple[Result, ...]:
        """Fetch all pages of a listing, because an object on a page that was not fetched would count as deleted.

        Raises:
            Error: As `call` does.
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
