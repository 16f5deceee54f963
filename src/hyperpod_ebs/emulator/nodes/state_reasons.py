"""The reasons why instances are in their states, by EC2's codes (EC2 API reference, StateReason)."""

from collections.abc import Mapping
from typing import Final

CLIENT_ERROR: Final = "Client.InternalError"
"""The caller of a start may not use the key of a volume."""

INVALID_KEY: Final = "Client.InvalidKMSKey.InvalidState"
"""The key of a volume does not exist or cannot be used."""

USER_SHUTDOWN: Final = "Client.UserInitiatedShutdown"

TEXTS: Final[Mapping[str, str]] = {
    CLIENT_ERROR: "Client error on launch",
    INVALID_KEY: "The KMS key provided is in an incorrect state",
    USER_SHUTDOWN: "User initiated shutdown",
}


def message(code: str) -> str:
    """The message of a reason, which starts with its code."""
    return f"{code}: {TEXTS[code]}"
