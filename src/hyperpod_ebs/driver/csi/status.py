"""What an error is in gRPC: one table, looked up by ancestry, and the text that goes with it.

A code is an instruction to the sidecars and to kubelet, so a few calls read an
error differently from the rest (`IN_CALL`): a resizer that hears
FAILED_PRECONDITION stops growing the claim while any pod uses it, one that hears
RESOURCE_EXHAUSTED never tries another size, and the snapshotter takes
RESOURCE_EXHAUSTED for "perhaps it was made" and then blocks deletion.

What is in no table is a bug of ours. It is INTERNAL, but for the calls in
`MAY_HAVE_BEGUN`: the provisioner forgets a claim after INTERNAL, and with it the
volume that may exist by then; kubelet after a final code never unstages what may
be mounted. Those answer UNAVAILABLE, which keeps the caller at it.
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
"""The code of each error; one that is not here has the code of its nearest ancestor."""

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
"""Where a call's usual caller would take the usual code for something else."""

MAY_HAVE_BEGUN: Final = frozenset({"CreateVolume", "CreateSnapshot", "NodeStageVolume", "NodePublishVolume"})
"""Calls after whose final codes the caller forgets what may be there."""

LONGEST: Final = 900
"""Bytes of a message: a VolumeAttachment refuses more than 1,024, and then shows nothing."""

_HEAD: Final = 350
_CUT: Final = " … "


def known(error: BaseException) -> bool:
    """Whether the error is one that we raise on purpose."""
    return any(cls in CODES for cls in type(error).__mro__)


def code_for(error: BaseException, call: str = "") -> StatusCode:
    """The code of the nearest ancestor that has one, in this call or at all."""
    here = IN_CALL.get(call, {})
    for cls in type(error).__mro__:
        if code := here.get(cls) or CODES.get(cls):
            return code
    return StatusCode.UNAVAILABLE if call in MAY_HAVE_BEGUN else StatusCode.INTERNAL


def message_for(error: BaseException, call: str, request: str) -> str:
    """What the caller is told: the error's own text, or where to look for that of a bug."""
    if not known(error):
        return f"{call} failed by a fault of the driver itself; its log tells more, under request={request}"
    if isinstance(error, NotImplementedError):
        return f"{call} is not offered by this driver"
    return cut(str(error) or f"{call} failed: {code_for(error, call).name}")


def cut(text: str) -> str:
    """`text` on one line and in at most `LONGEST` bytes: its beginning names the object, its end says what to do."""
    raw = " ".join(text.split()).encode(errors="replace")
    if len(raw) <= LONGEST:
        return raw.decode()
    tail = LONGEST - _HEAD - len(_CUT.encode())
    return raw[:_HEAD].decode(errors="ignore") + _CUT + raw[-tail:].decode(errors="ignore")
