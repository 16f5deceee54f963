"""Base64 for URLs and file names, without padding (RFC 4648, section 5; RFC 7515, section 2)."""

import base64
import binascii


def encode(content: bytes) -> str:
    """The text that stands for these bytes."""
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def decode(text: str) -> bytes:
    """The bytes that a text stands for.

    Raises:
        ValueError: `encode` does not give this text. Python's own decoder ignores characters that are not of the
            alphabet, and all that follows the padding.
    """
    try:
        content = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error as error:
        raise ValueError("not base64url") from error
    if encode(content) != text:
        raise ValueError("not base64url")
    return content
