"""What the temporary credentials of a user cannot do, even if policies allow it.

Source: AWS STS API Reference, GetSessionToken: no IAM operations without MFA, and of STS's
operations only AssumeRole and GetCallerIdentity.
"""

from typing import Final

from hyperpod_ebs.emulator.identity.identities import Identity
from hyperpod_ebs.emulator.wire.operations import AwsFault, Call

_STS: Final = frozenset({"AssumeRole", "GetCallerIdentity"})
"""The operations of STS that a user's temporary credentials can call."""


def require_service(call: Call, identity: Identity) -> None:
    """Refuse a call that temporary credentials of a user cannot make.

    Raises:
        AwsFault: The call is one of these.
    """
    if identity.session is None or not identity.session.user:
        return
    if call.service == "iam" and not identity.session.has_mfa:
        raise AwsFault("InvalidClientTokenId", "The security token included in the request is invalid", 403)
    if call.service == "sts" and call.operation not in _STS:
        raise AwsFault("AccessDenied", f"Cannot call {call.operation} with session credentials", 403)
