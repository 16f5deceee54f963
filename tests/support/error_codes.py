"""The codes of errors that each service has, for answers to damaged requests.

Sources: the services' models; the pages "Common Errors" of the API references of CloudTrail, EKS, IAM, KMS, SageMaker
and STS; EC2 API Reference, "Error codes for the Amazon EC2 API".
"""

from collections.abc import Mapping
from typing import Final

from hyperpod_ebs.emulator.wire import models

JSON_SIGNATURE_CODES: Final = frozenset(
    {
        *("IncompleteSignatureException", "InvalidSignatureException", "MissingAuthenticationTokenException"),
        *("UnrecognizedClientException", "ExpiredTokenException"),
    }
)
QUERY_SIGNATURE_CODES: Final = frozenset(
    {
        *("IncompleteSignature", "SignatureDoesNotMatch", "MissingAuthenticationToken", "InvalidClientTokenId"),
        "ExpiredToken",
    }
)
EC2_SIGNATURE_CODES: Final = frozenset({"AuthFailure", "SignatureDoesNotMatch", "MissingParameter", "RequestExpired"})

SIGNATURE_CODES: Final[Mapping[str, frozenset[str]]] = {
    **dict.fromkeys(("cloudtrail", "eks", "eks-auth", "kms", "sagemaker"), JSON_SIGNATURE_CODES),
    **dict.fromkeys(("iam", "sts"), QUERY_SIGNATURE_CODES),
    "ec2": EC2_SIGNATURE_CODES,
}
"""The codes for wrong signatures."""

_JSON_CODES: Final = frozenset(
    {"AccessDeniedException", "SerializationException", "UnknownOperationException", "ValidationException"}
)
_QUERY_CODES: Final = frozenset(
    {"AccessDenied", "InvalidAction", "MalformedQueryString", "MissingAction", "ValidationError"}
)
_EC2_CODES: Final = frozenset(
    {
        *("InvalidAction", "MalformedQueryString", "MissingAction", "MissingParameter", "UnauthorizedOperation"),
        *("UnknownParameter", "InvalidParameterValue", "InvalidParameterCombination", "InvalidParameter"),
        "InvalidParameterDependency",
        *("DryRunOperation", "IncorrectState", "IncorrectInstanceState", "UnsupportedOperation", "InvalidID"),
        *("InvalidVolume.NotFound", "InvalidVolumeID.Malformed", "InvalidVolume.ZoneMismatch", "VolumeInUse"),
        *("InvalidSnapshot.NotFound", "InvalidSnapshotID.Malformed", "InvalidSnapshot.InUse"),
        *(
            "InvalidInstanceID.NotFound",
            "InvalidInstanceID.Malformed",
            "InvalidAMIID.NotFound",
            "InvalidAMIID.Malformed",
        ),
        *(
            "InvalidAttachment.NotFound",
            "InvalidZone.NotFound",
            "InvalidInstanceType",
            "UnknownVolumeType",
            "InvalidPaginationToken",
        ),
        *("UnsupportedOperationException", "InvalidSubnetID.NotFound", "InvalidVolumeModification.NotFound"),
    }
)

TOO_LARGE: Final = "RequestEntityTooLargeException"

CODES: Final[Mapping[str, frozenset[str]]] = {
    service: frozenset(models.error_shapes(models.load(service))) | SIGNATURE_CODES[service] | common | {TOO_LARGE}
    for services, common in (
        (("cloudtrail", "eks", "eks-auth", "kms", "sagemaker"), _JSON_CODES),
        (("iam", "sts"), _QUERY_CODES),
        (("ec2",), _EC2_CODES),
    )
    for service in services
}
"""The codes by service."""
