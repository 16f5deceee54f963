"""The gRPC code and the message of each error: one table, looked up by ancestry.

A code is an instruction to the sidecars and to kubelet, so some calls map an error differently from the others
(`IN_CALL`). After FAILED_PRECONDITION, the resizer stops growing the claim while a pod uses it; after
RESOURCE_EXHAUSTED, it never tries another size. The snapshotter reads RESOURCE_EXHAUSTED as "the snapshot may exist",
and then blocks its deletion.

An error that is in no table is a bug in the driver. Its code is INTERNAL, except for the calls in `MAY_HAVE_BEGUN`:
after INTERNAL, the provisioner forgets the claim, and with it a volume that may exist already; after a final code,
kubelet never unstages a volume that may be mounted already. These calls answer UNAVAILABLE, so that the caller retries.
"""

from collections.abc import Mapping
from typing import Final

from grpc import StatusCode

from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.kit import operations

Codes = Mapping[type[BaseException], StatusCode]

CODES: Final[Codes] = {
    errors.InvalidRequest: StatusCode.INVALID_ARGUMENT,
    errors.OutOfRange: StatusCode.OUT_OF_RANGE,
    errors.NotFound: StatusCode.NOT_FOUND,
    errors.Conflict: StatusCode.ALREADY_EXISTS,
    errors.Refused: StatusCode.FAILED_PRECONDITION,
    errors.NoRoom: StatusCode.RESOURCE_EXHAUSTED,
    errors.Denied: StatusCode.PERMISSION_DENIED,
    errors.Busy: StatusCode.ABORTED,
    operations.Busy: StatusCode.ABORTED,
    errors.TimedOut: StatusCode.DEADLINE_EXCEEDED,
    TimeoutError: StatusCode.DEADLINE_EXCEEDED,
    errors.Unavailable: StatusCode.UNAVAILABLE,
    NotImplementedError: StatusCode.UNIMPLEMENTED,
}
"""The code of each error; an error that is not here has the code of its nearest ancestor."""

IN_CALL: Final[Mapping[str, Codes]] = {
    "ControllerExpandVolume": {
        errors.QuotaReached: StatusCode.OUT_OF_RANGE,
        errors.Refused: StatusCode.UNAVAILABLE,
        errors.NoRoom: StatusCode.OUT_OF_RANGE,
    },
    "ControllerModifyVolume": {
        errors.OutOfRange: StatusCode.INVALID_ARGUMENT,
        errors.NoRoom: StatusCode.FAILED_PRECONDITION,
    },
    "CreateSnapshot": {errors.NoRoom: StatusCode.FAILED_PRECONDITION},
    "NodeExpandVolume": {errors.Refused: StatusCode.UNAVAILABLE},
}
"""The codes of calls whose usual caller would misread the code in `CODES`."""

MAY_HAVE_BEGUN: Final = frozenset({"CreateVolume", "CreateSnapshot", "NodeStageVolume", "NodePublishVolume"})
"""Calls whose caller forgets, after a final code, what the call may have created."""

MAX_MESSAGE_BYTES: Final = 900
"""Bytes of a message: Kubernetes refuses a VolumeAttachment with more than 1,024, and then shows none of it."""

_START_BYTES: Final = 350
_ELLIPSIS: Final = " … "


def is_expected(error: BaseException) -> bool:
    """Whether the error is in the table; any other error is a bug in the driver."""
    return any(cls in CODES for cls in type(error).__mro__)


def code_for(error: BaseException, call: str = "") -> StatusCode:
    """The code of the error's nearest ancestor that has one, in this call or in general."""
    in_call = IN_CALL.get(call, {})
    for cls in type(error).__mro__:
        if code := in_call.get(cls) or CODES.get(cls):
            return code
    return StatusCode.UNAVAILABLE if call in MAY_HAVE_BEGUN else StatusCode.INTERNAL


def message_for(error: BaseException, call: str) -> str:
    """The message for the caller: the error's own text, or where to find that of a bug."""
    if not is_expected(error):
        return f"{call} failed because of a bug in the driver; see the driver's log for the traceback, and report it"
    if isinstance(error, NotImplementedError):
        return f"{call} is not implemented by this driver"
    return short_message(str(error) or f"{call} failed: {code_for(error, call).name}")


def short_message(text: str) -> str:
    """`text` on one line, without its middle if it is too long: the start names the object, the end the next step."""
    raw = " ".join(text.split()).encode(errors="replace")
    if len(raw) <= MAX_MESSAGE_BYTES:
        return raw.decode()
    end = MAX_MESSAGE_BYTES - _START_BYTES - len(_ELLIPSIS.encode())
    return raw[:_START_BYTES].decode(errors="ignore") + _ELLIPSIS + raw[-end:].decode(errors="ignore")
