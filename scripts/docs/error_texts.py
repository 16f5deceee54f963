"""Cause and fix of each error that a user can meet: by AWS code, by kind of error, by gRPC code, by message.

The tables are here and not next to the codes, so that no process of the driver loads them.
`tests/unit/test_error_catalogue.py` proves that they are complete. Links are relative to docs/reference/.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from grpc import StatusCode

from hyperpod_ebs.driver.aws.errors import NOT_UNDERSTOOD
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.volumes.cloud import TokenSpent
from hyperpod_ebs.kit import operations

TROUBLESHOOTING: Final = "../guides/troubleshooting.md"
_KEY: Final = "[fix the key's policy](../guides/encryption.md), or enable the key"
_PERMISSION: Final = (
    "add the statement at the end of the message to the policy that it names; "
    "[permissions](permissions.md) shows what each one is for, "
    "and `hyperpod-ebs policy driver --check ROLE` all that is missing"
)
_CREDENTIALS: Final = (
    "check the credentials, the role and the machine's clock; for the driver, "
    "[create and bind the role](../guides/install.md#2-the-role)"
)
_SLOW_DOWN: Final = (
    "wait: the call is repeated, more slowly. If it lasts, look for other programs that call the same API in this "
    "account and region, and request a higher rate from AWS"
)
_AWS_FAILED: Final = "wait: the call is repeated. If it lasts, look at the AWS Health Dashboard for the region"
_QUOTA: Final = "delete what is unused, or request a higher quota at AWS Service Quotas"
_ATTRIBUTES: Final = (
    "correct the value in the [StorageClass](../guides/storage-classes.md#parameters) or "
    "[VolumeAttributesClass](../guides/modification.md)"
)
_READ_AGAIN: Final = "list again from the start; the driver and the access tools do so on their own"
_REPORT: Final = "report a bug with the message and the log of the call"


class Text(NamedTuple):
    """Why an error occurs, and what to do."""

    cause: str
    fix: str


class Message(NamedTuple):
    """An error without a code of AWS, as the user reads it."""

    text: str
    """The message, with an ellipsis for each part that is filled in."""

    cause: str
    fix: str


BY_AWS_CODE: Final[Mapping[str, Text]] = {
    "AccessDenied": Text("No policy allows the call to the caller, or one denies it", _PERMISSION),
    "AccessDeniedException": Text(
        "As `AccessDenied`, from SageMaker, EKS or KMS. For attach and detach, the action can be "
        "`eks:DescribeCluster`, which SageMaker calls with the caller's permissions",
        _PERMISSION,
    ),
    "AttachmentLimitExceeded": Text(
        "All attach slots of the instance are in use; network interfaces take slots too on most types",
        "detach a volume from the node, or schedule the pod to another node",
    ),
    "AuthFailure": Text("AWS does not recognise the credentials, or the account is not known to EC2", _CREDENTIALS),
    "ConcurrentSnapshotLimitExceeded": Text(
        "Too many snapshots of this volume, or of this volume type, are pending", "wait until the others are completed"
    ),
    "ConcurrentTagAccess": Text("Another request changes tags of the same resource", "wait: the call is repeated"),
    "ConflictException": Text(
        "The cluster is changing, so SageMaker refuses the call",
        "wait until `aws sagemaker describe-cluster` shows `InService`",
    ),
    "CustomerKeyHasBeenRevoked": Text(
        "The volume's KMS key is disabled, waits for its deletion, or may not be used by the caller: EC2 could not "
        "create the grant",
        _KEY,
    ),
    "EC2ThrottledException": Text("SageMaker called EC2 too often", _SLOW_DOWN),
    "EncryptedVolumesNotSupported": Text(
        "The instance type cannot have encrypted volumes", "use another instance type, or a volume without encryption"
    ),
    "ExpiredToken": Text(
        "The credentials of the session have expired",
        "log in again (`aws sso login`), or check that the pod's token is renewed; the driver repeats the call with "
        "new credentials",
    ),
    "ExpiredTokenException": Text("As `ExpiredToken`, from services other than EC2", "as for `ExpiredToken`"),
    "IdempotentParameterMismatch": Text(
        "The client token belongs to a request with other parameters, or to a volume that was removed since",
        "nothing: the driver asks again with another token. Delete the claim and create it again if it stays Pending",
    ),
    "IncorrectInstanceState": Text(
        "The node is not running, or is stopping", "wait until the node runs, or use another node"
    ),
    "IncorrectModificationState": Text(
        "An earlier modification of the volume is still running", "wait until it is completed, which can take hours"
    ),
    "IncorrectState": Text(
        "The volume, snapshot or attachment is in a state that does not allow the call",
        "look at the state with `aws ec2 describe-volumes`; the driver repeats the call",
    ),
    "InsufficientVolumeCapacity": Text(
        "AWS has no capacity for this volume type in the zone", "use another zone or volume type, or try later"
    ),
    "InternalError": Text("AWS failed; the request may have taken effect", _AWS_FAILED),
    "InternalFailure": Text("AWS failed; the request may have taken effect", _AWS_FAILED),
    "InternalServerError": Text("AWS failed; the request may have taken effect", _AWS_FAILED),
    "InvalidAttachment.NotFound": Text(
        "The volume is not attached to this node", "nothing for a detach: there is nothing left to detach"
    ),
    "InvalidClientTokenId": Text("The access key does not exist, or belongs to another partition", _CREDENTIALS),
    "InvalidInstanceID.Malformed": Text(
        "The id of the node is not one of an instance", "use the id `i-…`; compare it with the node's provider id"
    ),
    "InvalidInstanceID.NotFound": Text(
        "The instance does not exist in this region, or was terminated",
        f"delete the Node object if Kubernetes still has it: [a node is gone]({TROUBLESHOOTING}#a-node-is-gone)",
    ),
    "InvalidKmsKey.InvalidState": Text("The KMS key is disabled, or waits for its deletion", _KEY),
    "InvalidKmsKey.NotFound": Text(
        "The KMS key does not exist in this region, or its ARN or alias is misspelt",
        "correct `kmsKeyId` in the StorageClass",
    ),
    "InvalidNextToken": Text("A list was continued with a token that is too old or of another list", _READ_AGAIN),
    "InvalidPaginationToken": Text("A list was continued with a token that is too old or of another list", _READ_AGAIN),
    "InvalidParameter": Text("A value of the request is wrong", _ATTRIBUTES),
    "InvalidParameterCombination": Text(
        "Two values do not fit together, such as throughput with a type other than gp3", _ATTRIBUTES
    ),
    "InvalidParameterDependency": Text(
        "A value needs another one that is missing, such as a KMS key without encryption", _ATTRIBUTES
    ),
    "InvalidParameterValue": Text("A value is out of range, or not one that AWS knows", _ATTRIBUTES),
    "InvalidSnapshot.InUse": Text(
        "An image (AMI) uses the snapshot", "deregister the image first; the driver repeats the deletion"
    ),
    "InvalidSnapshot.NotFound": Text(
        "The snapshot does not exist in this region, or belongs to an account that does not share it",
        "correct the snapshot's id, or restore from another snapshot",
    ),
    "InvalidSnapshotID.Malformed": Text("The id is not one of a snapshot", "use an id of the form `snap-…`"),
    "InvalidVolume.NotFound": Text(
        "The volume does not exist in this region or account, or AWS removed it because of its KMS key",
        "correct the volume's id; for a new encrypted volume, [fix the key's policy](../guides/encryption.md)",
    ),
    "InvalidVolume.ZoneMismatch": Text(
        "The volume and the node are in different zones; `hyperpod-ebs volume attach --dry-run` shows both",
        "use a node in the volume's zone, or restore a snapshot in the node's zone",
    ),
    "InvalidVolumeID.Malformed": Text("The id is not one of a volume", "use an id of the form `vol-…`"),
    "InvalidZone.NotFound": Text("The zone does not exist in this region", "correct the zone in the StorageClass"),
    "KMS.DisabledException": Text("The KMS key is disabled", _KEY),
    "KMS.KMSInvalidStateException": Text("The KMS key is disabled, waits for its deletion or for key material", _KEY),
    "KMS.NotFoundException": Text("The KMS key does not exist", "correct `kmsKeyId` in the StorageClass"),
    "MaxIOPSLimitExceeded": Text("The account's quota of provisioned IOPS is used up", _QUOTA),
    "MissingParameter": Text("The request lacks a value that AWS needs", _ATTRIBUTES),
    "OperationNotPermitted": Text(
        "The resource does not allow this operation, for example because AWS manages it",
        "read AWS's text in the message; use another volume or node",
    ),
    "OptInRequired": Text(
        "The account has not enabled the service or the region", "enable the region in the account's settings"
    ),
    "PendingSnapshotLimitExceeded": Text(
        "Too many snapshots of the account are pending", "wait until some are completed"
    ),
    "RequestExpired": Text(
        "The request reached AWS too late, or the clock of the machine is wrong by minutes",
        "synchronise the clock (`chronyc tracking`); the call is repeated",
    ),
    "RequestLimitExceeded": Text("The account calls this EC2 API too often", _SLOW_DOWN),
    "RequestThrottled": Text("The account calls this API too often", _SLOW_DOWN),
    "RequestThrottledException": Text("The account calls this API too often", _SLOW_DOWN),
    "ResourceNotFound": Text(
        "SageMaker does not know the cluster, or the node does not belong to it; a replaced node has another id",
        "compare the ids with `aws sagemaker list-cluster-nodes`; for a node that was replaced, see "
        f"[a node is gone]({TROUBLESHOOTING}#a-node-is-gone)",
    ),
    "ResourceNotFoundException": Text("As `ResourceNotFound`", "as for `ResourceNotFound`"),
    "RetryableError": Text("AWS failed for a moment", _AWS_FAILED),
    "ServerInternal": Text("AWS failed; the request may have taken effect", _AWS_FAILED),
    "ServiceUnavailable": Text("AWS failed or is overloaded; the request may have taken effect", _AWS_FAILED),
    "SignatureDoesNotMatch": Text(
        "The secret key is wrong, or a proxy changed the request", _CREDENTIALS + "; check proxies on the way to AWS"
    ),
    "SlowDown": Text("The account calls this API too often", _SLOW_DOWN),
    "SnapshotCreationPerVolumeRateExceeded": Text(
        "A snapshot of this volume was taken a few seconds ago", "wait 15 seconds; the driver repeats the call"
    ),
    "SnapshotLimitExceeded": Text("The account's quota of snapshots is used up", _QUOTA),
    "TagLimitExceeded": Text(
        "The resource would have more than 50 tags", "remove extra tags from the StorageClass or from `--extra-tags`"
    ),
    "TagPolicyViolation": Text(
        "A tag policy of the organization does not allow the key or the value of a tag",
        "correct the extra tags, or the tag policy",
    ),
    "Throttling": Text("The account calls this API too often", _SLOW_DOWN),
    "ThrottledException": Text("The account calls this API too often", _SLOW_DOWN),
    "ThrottlingException": Text("The account calls this API too often", _SLOW_DOWN),
    "TooManyRequestsException": Text("The account calls this API too often", _SLOW_DOWN),
    "UnauthorizedOperation": Text(
        "No policy allows the call to the caller, or one denies it. If SageMaker passes it on, the caller of attach or "
        "detach lacks `ec2:AttachVolume` or `ec2:DetachVolume` on the volume",
        _PERMISSION,
    ),
    "Unavailable": Text("AWS failed or is overloaded; the request may have taken effect", _AWS_FAILED),
    "UnknownParameter": Text("EC2 does not know a parameter of the request, in this region or at all", _REPORT),
    "UnknownVolumeType": Text("EC2 does not know the volume type", _ATTRIBUTES),
    "UnrecognizedClientException": Text("AWS does not recognise the access key or the session token", _CREDENTIALS),
    "UnsupportedOperation": Text("The combination is not supported, such as this type with multi-attach", _ATTRIBUTES),
    "UnsupportedOperationException": Text(
        "The volume is attached through HyperPod, so EC2 neither detaches nor deletes it, even with force",
        "detach it with `hyperpod-ebs volume detach`, which calls SageMaker",
    ),
    "ValidationException": Text(
        "SageMaker's own refusal: the cluster is not `InService`, is not orchestrated by EKS, or the node is in a "
        "restricted instance group. If the text names an `Ec2ErrCode`, look up that code",
        "wait until the cluster is `InService`, or use a node of another instance group",
    ),
    "VolumeInUse": Text(
        "The volume is attached to another node, or not yet detached from it",
        "end the pod that uses it on that node; if the node is gone, see "
        f"[a node is gone]({TROUBLESHOOTING}#a-node-is-gone)",
    ),
    "VolumeIOPSLimit": Text("The volume type does not allow so many IOPS", _ATTRIBUTES),
    "VolumeLimitExceeded": Text("The account's quota of storage for this volume type is used up", _QUOTA),
    "VolumeModificationRateExceeded": Text(
        "The volume was modified four times in 24 hours", "wait until the time at the end of the message"
    ),
    "VolumeModificationSizeLimitExceeded": Text(
        "The account's quota of storage in modifications of this volume type is used up", _QUOTA
    ),
    "VolumeTypeNotAvailableInZone": Text("The zone does not have this volume type", "use another zone or volume type"),
}
"""AWS's codes, those of `BY_CODE` in `hyperpod_ebs.driver.aws.errors`."""

BY_KIND: Final[Mapping[type[BaseException], Text]] = {
    errors.InvalidRequest: Text(
        "A StorageClass, a claim, a flag or an argument has a value that cannot work", "correct the value and try again"
    ),
    errors.OutOfRange: Text(
        "The volume type or the filesystem does not allow the requested size",
        "ask for a size in the range that the message names",
    ),
    errors.NotFound: Text("The object was deleted, or its id is misspelt", "correct the id"),
    errors.VolumeNotFound: Text(
        "The volume was deleted, or belongs to another region or account", "correct the id; recreate the claim"
    ),
    errors.SnapshotNotFound: Text(
        "The snapshot was deleted, or belongs to another region or account", "correct the id; take another snapshot"
    ),
    errors.NodeNotFound: Text(
        "The node was replaced or terminated, or belongs to another cluster",
        f"see [a node is gone]({TROUBLESHOOTING}#a-node-is-gone)",
    ),
    errors.Conflict: Text(
        "A volume or snapshot of this name exists with other parameters, or a path has another mount",
        "use another name, or end what uses the path, as the message says",
    ),
    errors.Refused: Text(
        "The state of the object or of the machine forbids the request", "do what the end of the message says"
    ),
    errors.InUse: Text(
        "Another node has the volume, or a process on the node has files open",
        f"end that pod or process; see [a volume is not detached]({TROUBLESHOOTING}#a-volume-is-not-detached)",
    ),
    errors.QuotaReached: Text("A quota of the account is used up", _QUOTA),
    errors.KeyUnusable: Text("The KMS key is disabled, deleted, or the caller may not use it", _KEY),
    errors.NotReady: Text(
        "The volume, snapshot, node or cluster is in a state that does not allow the request",
        "wait until the state changes; the driver repeats the call",
    ),
    errors.NotAttached: Text("The volume is attached to another node, or to none", "nothing for a detach"),
    errors.NoRoom: Text("The zone or the node is full", "use another zone or node"),
    errors.ZoneFull: Text("AWS has no capacity for the volume type in the zone", "use another zone or volume type"),
    errors.NodeFull: Text(
        "All attach slots of the node are in use", "detach a volume from the node, or use another node"
    ),
    errors.Denied: Text("An IAM policy or a key policy does not allow the call", _PERMISSION),
    errors.Busy: Text("Another operation on the same object has not finished", "wait: the call is repeated"),
    operations.Busy: Text(
        "A different call for the same object is running in the driver", "wait: the caller repeats the call"
    ),
    errors.TimedOut: Text(
        "AWS or the node needed longer than the caller waits; the operation continues",
        "wait: the repeated call joins the operation",
    ),
    TimeoutError: Text("The caller's deadline passed", "wait: the caller repeats the call"),
    errors.Unavailable: Text("AWS or the API server did not answer, or not yet", _AWS_FAILED),
    errors.Throttled: Text("The account calls an API of AWS too often", _SLOW_DOWN),
    errors.RateLimited: Text(
        "AWS limits how often a volume is modified or a snapshot is taken of it",
        "wait until the time in the message",
    ),
    errors.DeviceNotReady: Text(
        "The kernel has not shown the device of the volume yet, or not in its new size",
        f"see [a pod stays ContainerCreating]({TROUBLESHOOTING}#a-pod-stays-containercreating)",
    ),
    errors.OutcomeUnknown: Text(
        "No answer came to a create request, which may have succeeded",
        "wait: the repeated call finds what was created",
    ),
    errors.CloudError: Text(
        "AWS answered with a code that the table above does not have, or the answer cannot be parsed",
        "read AWS's text in the message; the call is repeated",
    ),
    TokenSpent: Text(
        "The client token of a create request was used before", "nothing: the driver asks again with another token"
    ),
    NotImplementedError: Text("The driver does not have this CSI call", "do not use the feature; " + _REPORT),
}
"""The kinds of errors: the tree in `hyperpod_ebs.driver.model.errors`, and the other keys of the tables of codes."""

BY_GRPC_CODE: Final[Mapping[StatusCode, Text]] = {
    StatusCode.INVALID_ARGUMENT: Text(
        "The request is wrong. The provisioner waits 30 minutes, or until there is another StorageClass of this name",
        "correct the class, then recreate the claim",
    ),
    StatusCode.OUT_OF_RANGE: Text(
        "No volume can have this size. The resizer tries again after a pause", "change the claim's size, or the quota"
    ),
    StatusCode.NOT_FOUND: Text(
        "The object does not exist. The resizer takes the growth for impossible",
        "correct the id in the persistent volume",
    ),
    StatusCode.ALREADY_EXISTS: Text(
        "The name or path is in use with other parameters. The call is repeated after a pause",
        "end the use that the message names",
    ),
    StatusCode.FAILED_PRECONDITION: Text(
        "A state forbids the call. The call is repeated after a pause", "do what the end of the message says"
    ),
    StatusCode.RESOURCE_EXHAUSTED: Text(
        "The zone or the node is full. The scheduler chooses another node", "wait, or add nodes in another zone"
    ),
    StatusCode.PERMISSION_DENIED: Text("AWS denied the call. It is repeated after a pause", _PERMISSION),
    StatusCode.ABORTED: Text("Another operation on the object is running. The call is repeated soon", "wait"),
    StatusCode.DEADLINE_EXCEEDED: Text(
        "The operation continues after the caller's deadline. The repeated call joins it", "wait"
    ),
    StatusCode.UNAVAILABLE: Text(
        "The same call may succeed. The caller keeps what may exist in mind, and repeats it after a pause",
        "wait; if it lasts, look up the message",
    ),
    StatusCode.UNIMPLEMENTED: Text("The driver does not have the call", "do not use the feature"),
    StatusCode.INTERNAL: Text("A bug in the driver, in a call that changes nothing", _REPORT),
}
"""What the caller of a CSI call does after each gRPC code, and what a person can do."""

WITHOUT_CODE: Final = (
    Message(
        "no AWS credentials; give the driver's service account a role (IRSA or Pod Identity), "
        "or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        "The driver's pod has no role",
        f"see [the driver and AWS]({TROUBLESHOOTING}#the-driver-and-aws)",
    ),
    Message(
        "no AWS credentials; run `aws sso login` or `aws configure`, give --profile",
        "A command of the access tools found no credentials where the AWS CLI looks for them",
        "do one of the four things that the message names",
    ),
    Message(
        "no AWS region is set; give --region",
        "Neither `--region`, the environment nor the profile names a region",
        "set one of them",
    ),
    Message(
        "…: no answer from AWS (…)",
        "The endpoint cannot be reached, or did not answer in time",
        f"see [the driver and AWS]({TROUBLESHOOTING}#the-driver-and-aws)",
    ),
    Message(
        "…: the answer does not come from AWS (…); check proxies on the way to AWS",
        "A proxy or load balancer answered in AWS's place",
        "fix the proxy, or exempt AWS's endpoints from it",
    ),
    Message(
        "…: the AWS SDK cannot send the request (…)",
        "The SDK cannot read its configuration or a token, or does not know the endpoint",
        "fix what the parentheses name",
    ),
    Message(
        "…: AWS's answer is unusable: …",
        f"AWS's answer lacks a value or has one that cannot be parsed; the code is `{NOT_UNDERSTOOD}`",
        _REPORT,
    ),
    Message(
        "…; an earlier attempt got no answer and may have succeeded",
        "A create request was repeated, and its first attempt may have created something",
        "wait: the driver finds what was created, by its client token",
    ),
    Message(
        "… failed because of a bug in the driver; see the driver's log for the traceback, and report it",
        "An error that no table of the driver has",
        _REPORT,
    ),
    Message("… is not implemented by this driver", "The driver does not have this CSI call", "do not use the feature"),
)
"""Messages that have no code of AWS."""
