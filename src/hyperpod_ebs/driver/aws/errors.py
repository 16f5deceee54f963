"""What AWS's refusals mean to the driver: one table, code by code.

SageMaker hands EC2's refusals on in a ValidationException whose text alone has the
code: "HyperPod - Ec2ErrCode: VolumeInUse : Ec2ErrMsg: ...". They are unwrapped first,
so that a code means the same by either road.
"""

import json
import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    NoCredentialsError,
    ParamValidationError,
)
from botocore.exceptions import ConnectionError as NoConnection
from botocore.parsers import ResponseParserError

from hyperpod_ebs.driver.aws.operations import CALLED
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.volumes.cloud import TokenSpent

_WRAPPED: Final = re.compile(
    r"\bEc2ErrCode\s*[:=]\s*(?P<code>\w+(?:\.\w+)*)(?:.*?\bEc2ErrMsg\s*[:=]\s*(?P<message>.*))?",
    re.DOTALL | re.IGNORECASE,
)
_DENIED: Final = re.compile(
    r"not authorized to perform:? (?P<action>[\w-]+:\w+)(?: on resource:? (?P<resource>[^\s]+))?"
)
# A blob of a thousand characters that only sts:DecodeAuthorizationMessage reads.
_ENCODED: Final = re.compile(r"\s*Encoded authorization failure message:.*", re.DOTALL)

NO_CREDENTIALS: Final = (
    "no AWS credentials; give the driver's service account a role (IRSA or Pod Identity), "
    "or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
)

THROTTLES: Final = frozenset(
    {
        "EC2ThrottledException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "Throttling",
        "ThrottledException",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)

REFUSALS: Final = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "AuthFailure",
        "InvalidClientTokenId",
        "OptInRequired",
        "SignatureDoesNotMatch",
        "UnauthorizedOperation",
        "UnrecognizedClientException",
    }
)

STRANGERS: Final = frozenset(
    {"AuthFailure", "InvalidClientTokenId", "SignatureDoesNotMatch", "UnrecognizedClientException"}
)
"""Those of the refusals that no policy mends: AWS does not know who asks."""

ROLES: Final = frozenset({"AssumeRole", "AssumeRoleWithWebIdentity"})
"""What the SDK calls for credentials; the role itself says who may have it."""

BROKEN: Final = frozenset(
    {
        "InternalError",
        "InternalFailure",
        "InternalServerError",
        "RetryableError",
        "ServerInternal",
        "ServiceUnavailable",
        "Unavailable",
    }
)
"""AWS is broken for the moment, and may have done its work all the same."""

BY_CODE: Final[Mapping[str, type[Exception]]] = {
    # the request
    "InvalidParameter": errors.InvalidRequest,
    "InvalidParameterCombination": errors.InvalidRequest,
    "InvalidParameterDependency": errors.InvalidRequest,
    "InvalidParameterValue": errors.InvalidRequest,
    "InvalidZone.NotFound": errors.InvalidRequest,
    "MissingParameter": errors.InvalidRequest,
    "TagLimitExceeded": errors.InvalidRequest,
    "TagPolicyViolation": errors.InvalidRequest,
    "UnknownParameter": errors.InvalidRequest,
    "UnknownVolumeType": errors.InvalidRequest,
    "UnsupportedOperation": errors.InvalidRequest,
    "VolumeIOPSLimit": errors.InvalidRequest,
    # what there is not
    "InvalidInstanceID.Malformed": errors.NodeNotFound,
    "InvalidInstanceID.NotFound": errors.NodeNotFound,
    "InvalidSnapshot.NotFound": errors.SnapshotNotFound,
    "InvalidSnapshotID.Malformed": errors.SnapshotNotFound,
    "InvalidVolume.NotFound": errors.VolumeNotFound,
    "InvalidVolumeID.Malformed": errors.VolumeNotFound,
    "ResourceNotFound": errors.NodeNotFound,
    "ResourceNotFoundException": errors.NodeNotFound,
    # what is not ready for it
    "ConflictException": errors.NotReady,
    "EncryptedVolumesNotSupported": errors.NotReady,
    "IncorrectInstanceState": errors.NotReady,
    "IncorrectState": errors.NotReady,
    "InvalidAttachment.NotFound": errors.NotReady,
    "InvalidSnapshot.InUse": errors.InUse,
    "InvalidVolume.ZoneMismatch": errors.NotReady,
    "OperationNotPermitted": errors.NotReady,
    "UnsupportedOperationException": errors.NotReady,
    "ValidationException": errors.NotReady,  # SageMaker's own: the cluster is updating, or not of the right kind
    "VolumeInUse": errors.InUse,
    # keys
    "CustomerKeyHasBeenRevoked": errors.KeyUnusable,
    "InvalidKmsKey.InvalidState": errors.KeyUnusable,
    "InvalidKmsKey.NotFound": errors.KeyUnusable,
    "KMS.DisabledException": errors.KeyUnusable,
    "KMS.KMSInvalidStateException": errors.KeyUnusable,
    "KMS.NotFoundException": errors.KeyUnusable,
    # limits
    "AttachmentLimitExceeded": errors.NodeFull,
    "ConcurrentSnapshotLimitExceeded": errors.QuotaReached,
    "InsufficientVolumeCapacity": errors.ZoneFull,
    "MaxIOPSLimitExceeded": errors.QuotaReached,
    "PendingSnapshotLimitExceeded": errors.QuotaReached,
    "SnapshotLimitExceeded": errors.QuotaReached,
    "VolumeLimitExceeded": errors.QuotaReached,
    "VolumeModificationSizeLimitExceeded": errors.QuotaReached,
    "VolumeTypeNotAvailableInZone": errors.ZoneFull,
    # time
    "ConcurrentTagAccess": errors.Busy,
    "IdempotentParameterMismatch": TokenSpent,
    "IncorrectModificationState": errors.Busy,
    "InvalidNextToken": errors.Busy,
    "InvalidPaginationToken": errors.Busy,
    "SnapshotCreationPerVolumeRateExceeded": errors.RateLimited,
    "VolumeModificationRateExceeded": errors.RateLimited,
    # credentials that are renewed while we run
    "ExpiredToken": errors.Unavailable,
    "ExpiredTokenException": errors.Unavailable,
    "RequestExpired": errors.Unavailable,
    **dict.fromkeys(BROKEN, errors.Unavailable),
    **dict.fromkeys(REFUSALS, errors.Denied),
    **dict.fromkeys(THROTTLES, errors.Throttled),
}
"""The driver's error for each of AWS's codes; a code that is not here becomes a `CloudError`."""


@contextmanager
def translated(doing: str, *, creates: bool = False) -> Generator[None]:
    """Let no exception of the SDK out of the block.

    Args:
        doing: What is being done, for the message: "attach volume vol-1 to i-1".
        creates: Whether something may come into being: then no answer is no proof.

    Raises:
        Error: The driver's error for AWS's code.
        TokenSpent: The client token belongs to something else.
        OutcomeUnknown: No answer of AWS's came, and it may have been made.
        Unavailable: No answer of AWS's came.
    """
    try:
        yield
    except ClientError as error:
        raise of_answer(error, doing, creates=creates) from error
    except ParamValidationError as error:
        raise errors.InvalidRequest(f"{doing}: {error}") from error
    except (NoConnection, HTTPClientError) as error:
        kind = errors.OutcomeUnknown if creates else errors.Unavailable
        raise kind(f"{doing}: no answer from AWS ({error}); ask again") from error
    except NoCredentialsError as error:
        raise errors.Unavailable(f"{doing}: {NO_CREDENTIALS}; ask again") from error
    except ResponseParserError as error:  # what stands before AWS has answered: a proxy, a balancer
        kind = errors.OutcomeUnknown if creates else errors.Unavailable
        raise kind(f"{doing}: the answer is not AWS's ({error}); ask again") from error
    except (BotoCoreError, OSError) as error:  # before anything was sent: credentials and their files, endpoints
        raise errors.Unavailable(f"{doing}: AWS cannot be asked ({error})") from error
    except (LookupError, ValueError) as error:  # read by `codec`: a member left out, a word that is new
        raise errors.CloudError("answer not understood", f"{doing}: {error!r}") from error


def of_answer(error: ClientError, doing: str, *, creates: bool = False) -> Exception:
    """The driver's error for one of AWS's."""
    code, message = code_of(error)
    answer: Any = error.response  # the SDK's type leaves out what a broken proxy may answer
    request_id = answer.get("ResponseMetadata", {}).get("RequestId", "?")
    kind = BY_CODE.get(code)
    if kind is None:
        return errors.CloudError(code, f"{doing}: {message}", request_id=request_id)
    if code in BROKEN and creates:
        kind = errors.OutcomeUnknown
    if kind is errors.Denied:
        message = _allowing(code, message, error.operation_name)
    return kind(f"{doing}: {message} ({code}, request {request_id})")


def code_of(error: ClientError) -> tuple[str, str]:
    """The code that tells what happened, EC2's where SageMaker wraps it, and what AWS says about it."""
    answer = error.response.get("Error", {})
    code, message = answer.get("Code", "?"), answer.get("Message", "")
    if wrapped := _WRAPPED.search(message):
        return wrapped["code"], wrapped["message"] or message
    return code, message


def _allowing(code: str, message: str, operation: str) -> str:
    """Who is refused what, and the statement that would allow it, or what else would."""
    service = next((name for name, called in CALLED.items() if operation in called), "ec2")
    action, resource = f"{service}:{operation}", "*"
    if match := _DENIED.search(message):
        action, resource = match["action"], match["resource"] or "*"
    statement = json.dumps({"Effect": "Allow", "Action": action, "Resource": resource})
    said = _ENCODED.sub("", message).rstrip(". ")
    if code in STRANGERS:
        return f"{action} is refused: {said}; give the driver a role or keys that AWS knows, and the machine the time"
    if operation in ROLES:
        return (
            f"{action} is denied: {said}; the role's trust policy must name the cluster's OIDC provider and the "
            "driver's service account, and its ARN must be the one in the account's annotation"
        )
    return f"{action} on {resource} is denied: {said}; let the driver's role have {statement}"
