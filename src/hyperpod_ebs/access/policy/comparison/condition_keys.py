"""The condition keys that policies for EBS volumes use, and misspelt ones.

Source: IAM User Guide, "AWS global condition context keys"; Service Authorization Reference for Amazon EC2, AWS KMS and
Amazon SageMaker AI.
"""

from difflib import get_close_matches
from typing import Final

_KNOWN: Final = (
    "aws:CalledVia",
    "aws:CalledViaFirst",
    "aws:CalledViaLast",
    "aws:CurrentTime",
    "aws:EpochTime",
    "aws:FederatedProvider",
    "aws:MultiFactorAuthAge",
    "aws:MultiFactorAuthPresent",
    "aws:PrincipalAccount",
    "aws:PrincipalArn",
    "aws:PrincipalIsAWSService",
    "aws:PrincipalOrgID",
    "aws:PrincipalOrgPaths",
    "aws:PrincipalServiceName",
    "aws:PrincipalType",
    "aws:RequestedRegion",
    "aws:ResourceAccount",
    "aws:ResourceOrgID",
    "aws:ResourceOrgPaths",
    "aws:SecureTransport",
    "aws:SourceAccount",
    "aws:SourceArn",
    "aws:SourceIdentity",
    "aws:SourceIp",
    "aws:SourceOrgID",
    "aws:SourceVpc",
    "aws:SourceVpcArn",
    "aws:SourceVpce",
    "aws:TagKeys",
    "aws:TokenIssueTime",
    "aws:UserAgent",
    "aws:ViaAWSService",
    "aws:VpcSourceIp",
    "aws:userid",
    "aws:username",
    "ec2:Attribute",
    "ec2:AvailabilityZone",
    "ec2:AvailabilityZoneId",
    "ec2:CreateAction",
    "ec2:Encrypted",
    "ec2:InstanceID",
    "ec2:InstanceProfile",
    "ec2:InstanceType",
    "ec2:KmsKeyId",
    "ec2:Owner",
    "ec2:ParentSnapshot",
    "ec2:ParentVolume",
    "ec2:Region",
    "ec2:RootDeviceType",
    "ec2:SnapshotID",
    "ec2:SnapshotTime",
    "ec2:SourceAvailabilityZone",
    "ec2:SourceInstanceARN",
    "ec2:Tenancy",
    "ec2:VolumeID",
    "ec2:VolumeInitializationRate",
    "ec2:VolumeIops",
    "ec2:VolumeSize",
    "ec2:VolumeThroughput",
    "ec2:VolumeType",
    "ec2:Vpc",
    "iam:PassedToService",
    "iam:ResourceTag",
    "kms:CallerAccount",
    "kms:EncryptionAlgorithm",
    "kms:EncryptionContextKeys",
    "kms:GrantConstraintSourceArn",
    "kms:GrantConstraintType",
    "kms:GrantIsForAWSResource",
    "kms:GrantOperations",
    "kms:GranteePrincipal",
    "kms:KeyOrigin",
    "kms:KeySpec",
    "kms:KeyUsage",
    "kms:MultiRegion",
    "kms:MultiRegionKeyType",
    "kms:ReEncryptOnSameKey",
    "kms:RequestAlias",
    "kms:ResourceAliases",
    "kms:RetiringPrincipal",
    "kms:ViaService",
)

_PREFIXES: Final = (
    "aws:PrincipalTag/",
    "aws:RequestTag/",
    "aws:ResourceTag/",
    "ec2:Attribute/",
    "ec2:ResourceTag/",
    "eks:ResourceTag/",
    "kms:EncryptionContext:",
    "sagemaker:ResourceTag/",
)
"""How keys begin that end with a name of the user's."""

SEVERAL_VALUES: Final = frozenset(
    {"aws:calledvia", "aws:tagkeys", "kms:encryptioncontextkeys", "kms:grantoperations", "kms:resourcealiases"}
)
"""The keys that may have several values in a request, in lower case."""

_OF_ENVIRONMENT: Final = frozenset(
    {
        "aws:currenttime",
        "aws:epochtime",
        "aws:multifactorauthage",
        "aws:principalorgid",
        "aws:principalorgpaths",
        "aws:resourceorgid",
        "aws:resourceorgpaths",
        "aws:sourceidentity",
        "aws:sourceip",
        "aws:sourcevpc",
        "aws:sourcevpcarn",
        "aws:sourcevpce",
        "aws:tokenissuetime",
        "aws:useragent",
        "aws:vpcsourceip",
    }
)
"""The keys whose values depend on where and when a request is made, in lower case."""

_BY_LOWER: Final = {key.lower(): key for key in (*_KNOWN, *_PREFIXES)}
_CLOSE: Final = 0.85


def is_of_environment(key: str) -> bool:
    """Whether a key's value depends on where and when a request is made, so that a comparison does not know it."""
    return key.lower() in _OF_ENVIRONMENT


def similar_key(key: str) -> str | None:
    """The condition key that a misspelt one probably means; None if the key is known or like no other."""
    lower = key.lower()
    if lower in _BY_LOWER or lower.startswith(tuple(prefix.lower() for prefix in _PREFIXES)):
        return None
    head, slash, tail = lower.partition("/")
    close = get_close_matches(head + slash, _BY_LOWER, n=1, cutoff=_CLOSE)
    return (
        _BY_LOWER[close[0]] + key[len(key) - len(tail) :] if close and bool(slash) == close[0].endswith("/") else None
    )
