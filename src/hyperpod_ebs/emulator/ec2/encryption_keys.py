"""Which KMS key a new volume and the copy of a snapshot get.

Sources: EC2 API reference, CreateVolume and CopySnapshot; Amazon EBS User Guide, "Copy an
Amazon EBS snapshot", "Encryption outcomes for snapshot copies".
"""

from hyperpod_ebs.emulator.kms.volume_keys import VolumeKeys
from hyperpod_ebs.emulator.records import Snapshot
from hyperpod_ebs.emulator.wire.operations import AwsFault, Parameters


def key_of_volume(keys: VolumeKeys, parameters: Parameters, snapshot: Snapshot | None) -> str | None:
    """The ARN of the key of a volume; None for a volume without encryption.

    Args:
        keys: The keys and settings of the account.
        parameters: The members Encrypted and KmsKeyId of CreateVolume or of a block device mapping.
        snapshot: The snapshot that the volume is created from.

    Raises:
        AwsFault: The request names a key for a volume that is not to be encrypted.
    """
    is_encrypted = bool(parameters.get("Encrypted")) or keys.settings.is_default
    if name := parameters.get("KmsKeyId"):
        return _named_key(keys, name, is_encrypted=is_encrypted)
    if snapshot is not None and snapshot.encrypted:
        return snapshot.key
    return keys.default_key if is_encrypted else None


def key_of_copy(keys: VolumeKeys, parameters: Parameters, source: Snapshot) -> str | None:
    """The ARN of the key of a copy of a snapshot; None for a copy without encryption.

    Raises:
        AwsFault: The request names a key for a copy that is not to be encrypted, or wants a copy without encryption.
    """
    if parameters.get("Encrypted") is False:
        text = "Value (false) for parameter encrypted is invalid. The parameter can only be true."
        raise AwsFault("InvalidParameterValue", text)
    is_default = keys.settings.is_default
    is_encrypted = "Encrypted" in parameters or is_default or source.encrypted
    if name := parameters.get("KmsKeyId"):
        return _named_key(keys, name, is_encrypted=is_encrypted)
    if source.encrypted and not is_default:
        return keys.managed_key
    return keys.default_key if is_encrypted else None


def _named_key(keys: VolumeKeys, name: str, *, is_encrypted: bool) -> str:
    if not is_encrypted:
        text = "The parameter KmsKeyId requires the parameter Encrypted to be set."
        raise AwsFault("InvalidParameterDependency", text)
    return keys.key_arn(name)
