"""The ids of EBS volumes."""

import re
from typing import Final

from hyperpod_ebs.driver.model import errors

_VOLUME_ID: Final = re.compile(r"vol-[0-9a-f]{8}(?:[0-9a-f]{9})?")


def check_volume_id(text: str) -> None:
    """Refuse what no volume can have as its id.

    Raises:
        InvalidRequest: The text is not `vol-` and 8 or 17 hexadecimal digits.
    """
    if not _VOLUME_ID.fullmatch(text):
        raise errors.InvalidRequest(f"no volume can have the id {text!r}: give vol- and 8 or 17 hexadecimal digits")


def find_volume_id(text: str) -> str:
    """The first volume id in a text, such as the volume handle of a persistent volume; empty if there is none."""
    return match[0] if (match := _VOLUME_ID.search(text)) else ""
