"""Answers with temporary credentials, and how long these are valid."""

import math
from typing import Any, Final

from hyperpod_ebs.emulator.identity.sessions import MAX_TOKEN
from hyperpod_ebs.emulator.identity_records import Role, Session
from hyperpod_ebs.emulator.state.world import to_datetime
from hyperpod_ebs.emulator.wire.operations import AwsFault, Parameters

ROLE_SECONDS: Final = 3600
"""The default duration of a role session, and the longest of a chained one."""


def role_seconds(parameters: Parameters, role: Role, *, is_chained: bool) -> int:
    """The duration of a new role session, in seconds.

    Raises:
        AwsFault: The request wants more than the role or role chaining allows.
    """
    seconds: int = parameters.get("DurationSeconds", ROLE_SECONDS)
    if is_chained and seconds > ROLE_SECONDS:
        raise AwsFault(
            "ValidationError",
            "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining",
        )
    if seconds > role.max_session_seconds:
        raise AwsFault(
            "ValidationError", "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."
        )
    return seconds


def credentials_answer(session: Session) -> dict[str, Any]:  # Any: members of an answer
    """The credentials of a session, and the size of its token."""
    size = len(session.token)
    return {
        "Credentials": {
            "AccessKeyId": session.id,
            "SecretAccessKey": session.secret,
            "SessionToken": session.token,
            "Expiration": to_datetime(session.expires),
        },
        "SessionTokenSize": size,
        "SessionTokenUtilization": math.ceil(100 * size / MAX_TOKEN),
    }


def require_no_mfa(parameters: Parameters) -> None:
    """Refuse a request with the code of an MFA device: no user of the emulator has one.

    Raises:
        AwsFault: The request names a device or has a code.
    """
    given = [bool(parameters.get(name)) for name in ("SerialNumber", "TokenCode")]
    if all(given):
        text = (
            "MultiFactorAuthentication failed, unable to validate MFA code.  Please verify your MFA serial number is "
            "valid and associated with this user."
        )
    elif any(given):
        text = "MultiFactorAuthentication failed, must provide both MFA serial number and one time pass code."
    else:
        return
    raise AwsFault("AccessDenied", text, 403)
