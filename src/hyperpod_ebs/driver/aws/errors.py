"""The driver's error for each refusal of AWS: one table, code by code.

SageMaker passes on EC2's refusals in a ValidationException that names the code only in its text:
"HyperPod - Ec2ErrCode: VolumeInUse : Ec2ErrMsg: ...". These are unwrapped first, so that
a code has the same meaning from both services.
"""

import re
from collections.abc import Mapping
from typing import Final

from botocore.exceptions import ClientError

from hyperpod_ebs.driver.aws import denials
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.volumes.cloud import TokenSpent

_WRAPPED: Final = re.compile(
    r"\bEc2ErrCode\s*[:=]\s*(?P<code>\w+(?:\.\w+)*)(?:.*?\bEc2ErrMsg\s*[:=]\s*(?P<message>.*))?",
    re.DOTALL | re.IGNORECASE,
)

# "(Service: Ec2, Status Code: 400, Request ID: 1-2-3)": SageMaker passes on messages of the AWS SDK for Java.
_REQUEST_ID: Final = re.compile(r"[;,]?\s*\brequest ?id: [\w-]+", re.IGNORECASE)

TRY_AGAIN: Final = "try again"
NOT_UNDERSTOOD: Final = "answer not understood"
"""Replaces AWS's code in a `CloudError` for an answer that cannot be parsed."""

NO_CREDENTIALS: Final = (
    "no AWS credentials; give the driver's service account a role (IRSA or Pod Identity), "
    "or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
)

THROTTLING: Final = frozenset(
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

DENIALS: Final = frozenset(
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

SERVER_ERRORS: Final = frozenset(
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
"""AWS failed internally. The request may have taken effect nevertheless."""

BY_CODE: Final[Mapping[str, type[Exception]]] = {
    # the request is wrong
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
    # no such resource
    "InvalidInstanceID.Malformed": errors.NodeNotFound,
    "InvalidInstanceID.NotFound": errors.NodeNotFound,
    "InvalidSnapshot.NotFound": errors.SnapshotNotFound,
    "InvalidSnapshotID.Malformed": errors.SnapshotNotFound,
    "InvalidVolume.NotFound": errors.VolumeNotFound,
    "InvalidVolumeID.Malformed": errors.VolumeNotFound,
    "ResourceNotFound": errors.NodeNotFound,
    "ResourceNotFoundException": errors.NodeNotFound,
    # the resource is in the wrong state
    "ConflictException": errors.NotReady,
    "EncryptedVolumesNotSupported": errors.NotReady,
    "IncorrectInstanceState": errors.NotReady,
    "IncorrectState": errors.NotReady,
    "InvalidAttachment.NotFound": errors.NotAttached,
    "InvalidSnapshot.InUse": errors.InUse,
    "InvalidVolume.ZoneMismatch": errors.NotReady,
    "OperationNotPermitted": errors.NotReady,
    "UnsupportedOperationException": errors.NotReady,
    "ValidationException": errors.NotReady,  # SageMaker's own: the cluster is updating or of the wrong kind
    "VolumeInUse": errors.InUse,
    # KMS keys
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
    # a later request may succeed
    "ConcurrentTagAccess": errors.Busy,
    "IdempotentParameterMismatch": TokenSpent,
    "IncorrectModificationState": errors.Busy,
    "InvalidNextToken": errors.Busy,
    "InvalidPaginationToken": errors.Busy,
    "SnapshotCreationPerVolumeRateExceeded": errors.RateLimited,
    "VolumeModificationRateExceeded": errors.RateLimited,
    # credentials that are renewed while the driver runs
    "ExpiredToken": errors.Unavailable,
    "ExpiredTokenException": errors.Unavailable,
    "RequestExpired": errors.Unavailable,
    **dict.fromkeys(SERVER_ERRORS, errors.Unavailable),
    **dict.fromkeys(DENIALS, errors.Denied),
    **dict.fromkeys(THROTTLING, errors.Throttled),
}
"""The driver's error for each of AWS's codes; any other code becomes a `CloudError`."""


NEXT_STEPS: Final[Mapping[type[Exception], str]] = {
    errors.KeyUnusable: (
        "check that the KMS key is enabled, and that its key policy allows the driver's role kms:CreateGrant and "
        "kms:DescribeKey"
    ),
    errors.NodeFull: "detach a volume from the node, or schedule the pod to another node",
    errors.QuotaReached: "delete what is unused, or request a higher quota at AWS Service Quotas",
    errors.ZoneFull: "use another zone or volume type",
}
"""What the user can do about an error, where AWS's own message does not say it."""


def error_for_response(error: ClientError, action: str, *, creates: bool = False) -> Exception:
    """The driver's error for a refusal by AWS."""
    code, message = code_and_message(error)
    kind = BY_CODE.get(code)
    if kind is None:
        return errors.CloudError(code, f"cannot {action}: {message}")
    if code in SERVER_ERRORS and creates:
        kind = errors.OutcomeUnknown
    if kind is errors.Denied:
        why = denials.explain(code, message, error.operation_name)
        return errors.Denied(f"cannot {action}: {why}", why=why)
    reason, next_step = message.rstrip(". "), NEXT_STEPS.get(kind, "")
    return kind(f"cannot {action}: {reason} ({code})" + (f"; {next_step}" if next_step else ""))


def code_and_message(error: ClientError) -> tuple[str, str]:
    """AWS's code and message; EC2's own if SageMaker passes them on in its message.

    The message has no request id, which differs each time: Kubernetes counts an event that repeats only if its text
    stays the same. `call_observer` logs the id.
    """
    answer = error.response.get("Error", {})
    code, message = answer.get("Code", "?"), _REQUEST_ID.sub("", answer.get("Message", ""))
    if wrapped := _WRAPPED.search(message):
        return wrapped["code"], wrapped["message"] or message
    return code, message


def parse_problem(error: LookupError | ValueError) -> str:
    """What is wrong with an answer that could not be parsed."""
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)
