"""Every error of the driver, as one tree.

errors.Error
├── InvalidRequest          the caller must change the request
│   └── OutOfRange          no volume can have the requested capacity
├── NotFound                no such object, or an id that no object can have
│   ├── VolumeNotFound
│   ├── SnapshotNotFound
│   └── NodeNotFound
├── Conflict                the name, path or attachment is in use with other parameters
├── Refused                 the current state forbids the request; the same request may succeed later
│   ├── InUse               the volume is attached elsewhere, or still mounted
│   ├── QuotaReached        a quota of the account is reached
│   ├── KeyUnusable         the KMS key is disabled, deleted or not granted
│   └── NotReady            the source or the object is in a state that forbids the request
│       └── NotAttached     the volume is not attached to the node that it is to be detached from
├── NoRoom                  another zone or node may have room
│   ├── ZoneFull            no capacity in the zone, and nothing was created
│   └── NodeFull            the node's attach limit is reached
├── Denied                  IAM or KMS denied the request, and nothing was created
├── Busy                    another operation works on the object, or a page token is stale
├── TimedOut                the caller's deadline passed
└── Unavailable             try again: the request itself may be right
    ├── Throttled           AWS throttled the request
    ├── RateLimited         a modification has to wait; the error may say until when
    ├── DeviceNotReady      the device has not appeared yet, or not in its new size
    ├── OutcomeUnknown      a create request was sent, and may have succeeded
    └── CloudError          AWS returned a code that has no class here, or an answer that cannot be parsed

No class here knows gRPC: `hyperpod_ebs.driver.csi.status` assigns the codes.
"""

from datetime import datetime
from typing import Self


class Error(Exception):
    """The root. The message is for operators: what failed with which values, why, and what to do."""

    def with_message(self, message: str) -> Self:
        """The same error with another message, for another caller of the operation that failed."""
        other = type(self).__new__(type(self), message)
        other.__dict__.update(self.__dict__)
        return other


class InvalidRequest(Error):  # noqa: N818 - the names of this tree say what happened, without "Error"
    """The request is wrong. Repeating it does not help."""


class OutOfRange(InvalidRequest):
    """No volume can have the requested capacity. Raised only for a capacity range."""


class NotFound(Error):  # noqa: N818 - as above
    """No such object, or an id that no object can have."""


class VolumeNotFound(NotFound):
    """No such volume."""


class SnapshotNotFound(NotFound):
    """No such snapshot."""


class NodeNotFound(NotFound):
    """No such node, or no such cluster."""


class Conflict(Error):  # noqa: N818 - as above
    """The name, path or attachment is in use with other parameters."""


class Refused(Error):  # noqa: N818 - as above
    """The current state forbids the request. The same request may succeed later."""


class InUse(Refused):
    """The volume is attached elsewhere, or still mounted."""


class QuotaReached(Refused):
    """A quota of the account is reached."""


class KeyUnusable(Refused):
    """The KMS key is disabled, deleted or not granted."""


class NotReady(Refused):
    """The source, or the object itself, is in a state that forbids the request."""


class NotAttached(NotReady):
    """The volume is not attached to the node that it is to be detached from."""


class NoRoom(Error):  # noqa: N818 - as above
    """The zone or node is full. Another one may have room."""


class ZoneFull(NoRoom):
    """The zone has no capacity, and nothing was created."""


class NodeFull(NoRoom):
    """The node's attach limit is reached."""


class Denied(Error):  # noqa: N818 - as above
    """IAM or KMS denied the request, and nothing was created."""

    def __init__(self, message: str, *, why: str = "") -> None:
        """`why` is the message without what the request was for."""
        self.why = why or message
        super().__init__(message)


class Busy(Error):  # noqa: N818 - as above
    """Another operation works on the object, or a page token is stale."""


class TimedOut(Error):  # noqa: N818 - as above
    """The caller's deadline passed."""


class Unavailable(Error):  # noqa: N818 - as above
    """The request itself may be right: the caller should try again."""


class Throttled(Unavailable):
    """AWS throttled the request."""


class RateLimited(Unavailable):
    """A modification has to wait for the volume's rate limit."""

    def __init__(self, message: str, *, earliest: datetime | None = None) -> None:
        """`earliest` is when AWS accepts the modification, if that is known."""
        self.earliest = earliest
        super().__init__(message + (f"; try again after {earliest:%Y-%m-%dT%H:%M:%SZ}" if earliest else ""))


class DeviceNotReady(Unavailable):
    """The device has not appeared yet, or not in its new size."""


class OutcomeUnknown(Unavailable):
    """A create request was sent, and may have succeeded."""


class CloudError(Unavailable):
    """AWS returned a code that has no class here, or an answer that cannot be parsed.

    The request may have taken effect.
    """

    def __init__(self, code: str, message: str) -> None:
        """`code` is AWS's own, or says that the answer could not be parsed."""
        self.code = code
        super().__init__(f"{message} ({code})")
