"""Everything that can go wrong, as the driver sees it.

errors.Error
├── InvalidRequest          the caller must change the request
│   └── OutOfRange          the capacity asked for cannot be had
├── NotFound                no such object, or an id that nothing can have
│   ├── VolumeNotFound
│   ├── SnapshotNotFound
│   └── NodeNotFound
├── Conflict                the name, path or attachment is taken on other terms
├── Refused                 the world is not ready for it, and may heal without a new request
│   ├── InUse               the volume is attached elsewhere, or still mounted
│   ├── QuotaReached        a limit of the account
│   ├── KeyUnusable         the KMS key is disabled, gone or not granted
│   └── NotReady            the source or the object is in a state that forbids it
├── NoRoom                  try another place
│   ├── ZoneFull            no capacity in this zone, and nothing was created
│   └── NodeFull            the node's attachment limit
├── Denied                  IAM or KMS said no, before anything was made
├── Busy                    another operation holds the object, or a page token is stale
├── TimedOut                the caller's deadline passed
└── Unavailable             try again: nothing is known to be wrong with the request
    ├── Throttled           AWS asked for a slower pace
    ├── RateLimited         a modification has to wait; carries the earliest time
    ├── DeviceNotReady      the device or its size is not there yet
    ├── OutcomeUnknown      a create was sent and is not yet proved void
    └── CloudError          AWS answered with something not in this tree

No class here knows gRPC: `hyperpod_ebs.driver.csi.status` gives each its code.
"""

from datetime import datetime


class Error(Exception):
    """The root. Its text is for the CO and the operator: object, both values, cause, what to do."""


class InvalidRequest(Error):  # noqa: N818 - named for what is so, all through the tree
    """The request is wrong and will stay wrong."""


class OutOfRange(InvalidRequest):
    """The capacity asked for cannot be had. Only ever for a capacity range."""


class NotFound(Error):  # noqa: N818 - as above
    """No such object, or an id that nothing can have."""


class VolumeNotFound(NotFound):
    """No such volume."""


class SnapshotNotFound(NotFound):
    """No such snapshot."""


class NodeNotFound(NotFound):
    """No such node, or no such cluster."""


class Conflict(Error):  # noqa: N818 - as above
    """The name, path or attachment is taken on other terms."""


class Refused(Error):  # noqa: N818 - as above
    """The world is not ready for it, and may heal without a new request."""


class InUse(Refused):
    """The volume is attached elsewhere, or still mounted."""


class QuotaReached(Refused):
    """A limit of the account is reached."""


class KeyUnusable(Refused):
    """The KMS key is disabled, gone or not granted."""


class NotReady(Refused):
    """The source, or the object itself, is in a state that forbids it."""


class NoRoom(Error):  # noqa: N818 - as above
    """This place is full; another may not be."""


class ZoneFull(NoRoom):
    """No capacity in this zone, and nothing was created."""


class NodeFull(NoRoom):
    """The node's attachment limit is reached."""


class Denied(Error):  # noqa: N818 - as above
    """IAM or KMS said no, before anything was made."""


class Busy(Error):  # noqa: N818 - as above
    """Another operation holds the object, or a page token is stale."""


class TimedOut(Error):  # noqa: N818 - as above
    """The caller's deadline passed."""


class Unavailable(Error):  # noqa: N818 - as above
    """Nothing is known to be wrong with the request: the caller should try it again."""


class Throttled(Unavailable):
    """AWS asked for a slower pace."""


class RateLimited(Unavailable):
    """A modification has to wait for the volume's rate limit."""

    def __init__(self, message: str, *, earliest: datetime | None = None) -> None:
        """`earliest` is when AWS would take it, where that is known."""
        self.earliest = earliest
        super().__init__(message + (f"; earliest at {earliest:%Y-%m-%dT%H:%M:%SZ}" if earliest else ""))


class DeviceNotReady(Unavailable):
    """The device, or its new size, is not there yet."""


class OutcomeUnknown(Unavailable):
    """A create was sent and is not yet proved void."""


class CloudError(Unavailable):
    """AWS answered with something not in this tree. It may have done its work."""

    def __init__(self, code: str, message: str, *, request_id: str = "") -> None:
        """`code` and `request_id` are AWS's own; `request_id` is empty if the answer could not be parsed."""
        self.code = code
        self.request_id = request_id
        super().__init__(f"{message} ({code}, request {request_id})" if request_id else f"{message} ({code})")
