"""IAM's rules for tags (IAM User Guide, "Tags for AWS Identity and Access Management resources")."""

from collections.abc import Mapping, Sequence
from typing import Final

from hyperpod_ebs.emulator.iam_api import faults

MAX_TAGS: Final = 50


def merge_tags(tags: Mapping[str, str], new: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Tags with new ones added or replaced; keys are the same without regard to case.

    Raises:
        AwsFault: Two new tags have the same key, a key is reserved, or there are too many tags.
    """
    lower = [tag["Key"].lower() for tag in new]
    if len({*lower}) < len(lower):
        raise faults.invalid_input("Duplicate tag keys found. Please note that Tag keys are case insensitive.")
    if any(key.startswith("aws:") for key in lower):
        raise faults.invalid_input("Tag keys starting with 'aws:' are reserved for system use.")
    result = {key: value for key, value in tags.items() if key.lower() not in lower}
    result |= {tag["Key"]: tag["Value"] for tag in new}
    if len(result) > MAX_TAGS:
        raise faults.limit_exceeded("TagsPerResource", MAX_TAGS)
    return result


def remaining_tags(tags: Mapping[str, str], keys: Sequence[str]) -> dict[str, str]:
    """Tags without those of these keys."""
    lower = {key.lower() for key in keys}
    return {key: value for key, value in tags.items() if key.lower() not in lower}
