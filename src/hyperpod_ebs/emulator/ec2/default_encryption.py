"""Encryption by default: whether new volumes are encrypted, and with which key."""

from dataclasses import dataclass, replace

from hyperpod_ebs.emulator.ec2 import request_checks
from hyperpod_ebs.emulator.kms.keyring import EBS_ALIAS
from hyperpod_ebs.emulator.kms.volume_keys import VolumeKeys
from hyperpod_ebs.emulator.state.world import World
from hyperpod_ebs.emulator.wire.operations import Answer, Call, Operations, Parameters


@dataclass(frozen=True, slots=True)
class DefaultEncryption:
    """The account's settings for the encryption of new volumes."""

    world: World
    keys: VolumeKeys

    operations = Operations["DefaultEncryption"]()

    @operations("GetEbsEncryptionByDefault")
    async def is_default(self, parameters: Parameters, _: Call) -> Answer:
        """Whether all new volumes are encrypted."""
        request_checks.refuse_dry_run(parameters)
        is_default = self.keys.settings.is_default
        return {"EbsEncryptionByDefault": is_default, "SseType": "sse-kms" if is_default else "none"}

    @operations("EnableEbsEncryptionByDefault")
    async def enable(self, parameters: Parameters, _: Call) -> Answer:
        """Encrypt all new volumes."""
        return await self._set_default(parameters, is_default=True)

    @operations("DisableEbsEncryptionByDefault")
    async def disable(self, parameters: Parameters, _: Call) -> Answer:
        """Encrypt only the volumes whose request asks for it."""
        return await self._set_default(parameters, is_default=False)

    @operations("GetEbsDefaultKmsKeyId")
    async def default_key(self, parameters: Parameters, _: Call) -> Answer:
        """The key of encrypted volumes whose request names none."""
        request_checks.refuse_dry_run(parameters)
        return {"KmsKeyId": self.keys.settings.key or EBS_ALIAS}

    @operations("ModifyEbsDefaultKmsKeyId")
    async def modify_key(self, parameters: Parameters, _: Call) -> Answer:
        """Change the default key; EC2 accepts any key here, because it validates keys with KMS only later."""
        request_checks.require(parameters, "KmsKeyId")
        request_checks.refuse_dry_run(parameters)
        key = self.keys.key_arn(parameters["KmsKeyId"])
        self.world.store.ebs_encryption.put(replace(self.keys.settings, key=key))
        return await self.world.acknowledge({"KmsKeyId": key})

    @operations("ResetEbsDefaultKmsKeyId")
    async def reset_key(self, parameters: Parameters, _: Call) -> Answer:
        """Make the key aws/ebs the default again."""
        request_checks.refuse_dry_run(parameters)
        self.world.store.ebs_encryption.put(replace(self.keys.settings, key=""))
        return await self.world.acknowledge({"KmsKeyId": self.keys.managed_key})

    async def _set_default(self, parameters: Parameters, *, is_default: bool) -> Answer:
        request_checks.refuse_dry_run(parameters)
        self.world.store.ebs_encryption.put(replace(self.keys.settings, is_default=is_default))
        return await self.world.acknowledge({"EbsEncryptionByDefault": is_default})
