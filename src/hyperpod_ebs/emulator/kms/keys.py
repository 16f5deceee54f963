"""Keys: creation, description, state, deletion and rotation."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from hyperpod_ebs.emulator.kms import key_tags, pages, policy_documents
from hyperpod_ebs.emulator.kms.key_policies import PolicyCheck
from hyperpod_ebs.emulator.kms.keyring import Keyring
from hyperpod_ebs.emulator.kms_records import Key
from hyperpod_ebs.emulator.state.world import World, now, to_datetime
from hyperpod_ebs.emulator.wire import constraints
from hyperpod_ebs.emulator.wire.operations import Answer, AwsFault, Call, Operations, Parameters

DAY: Final = 86_400.0

DELETION_DAYS: Final = (7, 30)
"""The shortest and the longest waiting period of a deletion; the longest is the default."""

ROTATION_DAYS: Final = 365

MAX_KEYS: Final = 100_000
"""The quota "AWS KMS keys" of an account and Region."""


class Keys:
    """The operations on keys."""

    operations = Operations["Keys"]()

    def __init__(self, world: World, keyring: Keyring, policy_check: PolicyCheck) -> None:
        self._world = world
        self._store = world.store
        self._keyring = keyring
        self._policy_check = policy_check
        world.clock.register("key deleted", self._delete)
        world.clock.register("key rotated", self._rotate)

    @operations("CreateKey")
    async def create(self, parameters: Parameters, call: Call) -> Answer:
        """Create a key for symmetric encryption."""
        _refuse_unsupported_error(parameters)
        if sum(1 for key in self._store.kms_keys.values() if key.manager == "CUSTOMER") >= MAX_KEYS:
            raise AwsFault("LimitExceededException", f"The account has {MAX_KEYS} keys already.")
        tags = key_tags.added_tags({}, parameters.get("Tags", []))
        key = self._keyring.new_key(
            policy=parameters.get("Policy") or policy_documents.default_policy(self._world.region),
            description=parameters.get("Description", ""),
            tags=tags,
        )
        if "Policy" in parameters:
            self._policy_check.check(key, parameters, call)
        self._store.kms_keys.put(key)
        return await self._world.acknowledge({"KeyMetadata": self._metadata(key)})

    @operations("DescribeKey")
    async def describe(self, parameters: Parameters, call: Call) -> Answer:
        """Describe a key, which may be named by an alias."""
        key = self._keyring.find(parameters["KeyId"], call)
        self._keyring.check_tokens(parameters)
        return await self._world.acknowledge({"KeyMetadata": self._metadata(key)})

    @operations("ListKeys")
    async def list_keys(self, parameters: Parameters, _: Call) -> Answer:
        """List all keys, those that AWS manages included."""
        keys, more = pages.page(self._store.kms_keys.values(), parameters, default=100)
        listed = [{"KeyId": key.id, "KeyArn": self._keyring.arn(key.id)} for key in keys]
        return await self._world.acknowledge({"Keys": listed, **more})

    @operations("EnableKey")
    async def enable(self, parameters: Parameters, call: Call) -> Answer:
        """Enable a key."""
        return await self._put(replace(self._key_to_change(parameters, call), state="Enabled"))

    @operations("DisableKey")
    async def disable(self, parameters: Parameters, call: Call) -> Answer:
        """Disable a key; what it has encrypted cannot be decrypted until the key is enabled."""
        return await self._put(replace(self._key_to_change(parameters, call), state="Disabled"))

    @operations("UpdateKeyDescription")
    async def update_description(self, parameters: Parameters, call: Call) -> Answer:
        """Change the description."""
        key = self._key_to_change(parameters, call)
        return await self._put(replace(key, description=parameters["Description"]))

    @operations("ScheduleKeyDeletion")
    async def schedule_deletion(self, parameters: Parameters, call: Call) -> Answer:
        """Delete the key after a waiting period of 7 to 30 days."""
        days = parameters.get("PendingWindowInDays", DELETION_DAYS[1])
        _check_days(days)
        key = self._key_to_change(parameters, call)
        deletion = now() + days * DAY
        self._store.kms_keys.put(replace(key, state="PendingDeletion", deletion=deletion))
        self._world.clock.schedule_at(f"key-deletion/{key.id}", "key deleted", deletion)
        answer = {
            "KeyId": self._keyring.arn(key.id),
            "DeletionDate": to_datetime(deletion),
            "KeyState": "PendingDeletion",
            "PendingWindowInDays": days,
        }
        return await self._world.acknowledge(answer)

    @operations("CancelKeyDeletion")
    async def cancel_deletion(self, parameters: Parameters, call: Call) -> Answer:
        """Keep the key; it is disabled."""
        key = self._keyring.find(parameters["KeyId"], call, by_alias=False)
        if key.state != "PendingDeletion":
            raise AwsFault("KMSInvalidStateException", f"{self._keyring.arn(key.id)} is not pending deletion.")
        self._store.kms_keys.put(replace(key, state="Disabled", deletion=None))
        self._world.clock.cancel(f"key-deletion/{key.id}")
        return await self._world.acknowledge({"KeyId": self._keyring.arn(key.id)})

    @operations("GetKeyRotationStatus")
    async def rotation_status(self, parameters: Parameters, call: Call) -> Answer:
        """Whether the key is rotated, and when."""
        key = self._keyring.find(parameters["KeyId"], call, by_alias=False)
        is_rotated = bool(key.rotation_days) and key.state != "PendingDeletion"
        answer: dict[str, Any] = {"KeyId": self._keyring.arn(key.id), "KeyRotationEnabled": is_rotated}  # of the shape
        if is_rotated:
            answer |= {"RotationPeriodInDays": key.rotation_days, "NextRotationDate": to_datetime(key.next_rotation)}
        return await self._world.acknowledge(answer)

    @operations("EnableKeyRotation")
    async def enable_rotation(self, parameters: Parameters, call: Call) -> Answer:
        """Rotate the key every year, or in the given period."""
        key = self._key_to_change(parameters, call)
        self._keyring.require_usable(key)
        days = parameters.get("RotationPeriodInDays", ROTATION_DAYS)
        if key.rotation_days != days:
            self._schedule_rotation(key, days)
        return await self._world.acknowledge({})

    @operations("DisableKeyRotation")
    async def disable_rotation(self, parameters: Parameters, call: Call) -> Answer:
        """Stop the rotation."""
        key = self._key_to_change(parameters, call)
        self._keyring.require_usable(key)
        self._store.kms_keys.put(replace(key, rotation_days=0, next_rotation=None))
        self._world.clock.cancel(f"key-rotation/{key.id}")
        return await self._world.acknowledge({})

    async def _put(self, key: Key) -> Answer:
        self._store.kms_keys.put(key)
        return await self._world.acknowledge({})

    def _key_to_change(self, parameters: Parameters, call: Call) -> Key:
        key = self._keyring.find(parameters["KeyId"], call, by_alias=False)
        self._keyring.require_customer_key(key)
        self._keyring.require_not_pending_deletion(key)
        return key

    def _schedule_rotation(self, key: Key, days: int) -> None:
        at = now() + days * DAY
        self._store.kms_keys.put(replace(key, rotation_days=days, next_rotation=at))
        self._world.clock.schedule_at(f"key-rotation/{key.id}", "key rotated", at)

    async def _rotate(self, subject: str) -> None:
        key = self._store.kms_keys[subject.removeprefix("key-rotation/")]
        rotated = replace(key, materials=(*key.materials, self._keyring.materials.generate(key.id)))
        self._schedule_rotation(rotated, key.rotation_days)

    async def _delete(self, subject: str) -> None:
        key_id = subject.removeprefix("key-deletion/")
        for alias in self._store.kms_aliases.where("key", key_id):
            self._store.kms_aliases.drop(alias.id)
        for grant in self._store.kms_grants.where("key", key_id):
            self._store.kms_grants.drop(grant.id)
        self._world.clock.cancel(f"key-rotation/{key_id}")
        self._store.kms_keys.drop(key_id)

    def _metadata(self, key: Key) -> Mapping[str, Any]:  # the members of KMS's KeyMetadata
        return {
            "AWSAccountId": self._world.region.account,
            "KeyId": key.id,
            "Arn": self._keyring.arn(key.id),
            "CreationDate": to_datetime(key.created),
            "Enabled": key.state == "Enabled",
            "Description": key.description,
            "KeyUsage": "ENCRYPT_DECRYPT",
            "KeyState": key.state,
            "DeletionDate": to_datetime(key.deletion),
            "Origin": "AWS_KMS",
            "KeyManager": key.manager,
            "CustomerMasterKeySpec": "SYMMETRIC_DEFAULT",
            "KeySpec": "SYMMETRIC_DEFAULT",
            "EncryptionAlgorithms": ["SYMMETRIC_DEFAULT"],
            "MultiRegion": False,
            "CurrentKeyMaterialId": self._keyring.materials.material_id(key),
        }


def _refuse_unsupported_error(parameters: Parameters) -> None:
    """Refuse keys other than those of one Region for symmetric encryption with material that KMS generates."""
    if "KeySpec" in parameters and "CustomerMasterKeySpec" in parameters:
        text = (
            "You cannot specify KeySpec and CustomerMasterKeySpec in the same request. CustomerMasterKeySpec is "
            "deprecated."
        )
        raise AwsFault("ValidationException", text)
    spec = parameters.get("KeySpec", parameters.get("CustomerMasterKeySpec", "SYMMETRIC_DEFAULT"))
    if spec != "SYMMETRIC_DEFAULT":
        raise _unsupported_error(f"keys of the spec {spec}")
    if (usage := parameters.get("KeyUsage", "ENCRYPT_DECRYPT")) != "ENCRYPT_DECRYPT":
        raise AwsFault("ValidationException", f"KeyUsage {usage} is not compatible with KeySpec {spec}")
    if (origin := parameters.get("Origin", "AWS_KMS")) != "AWS_KMS":
        raise _unsupported_error(f"keys of the origin {origin}")
    if parameters.get("MultiRegion"):
        raise _unsupported_error("multi-Region keys")
    if given := [name for name in ("CustomKeyStoreId", "XksKeyId") if name in parameters]:
        raise _unsupported_error(f"the parameter {given[0]}")


def _unsupported_error(what: str) -> AwsFault:
    return AwsFault("UnsupportedOperationException", f"The emulator does not support {what}.")


def _check_days(days: int) -> None:
    least, most = DELETION_DAYS
    if least <= days <= most:
        return
    bound = f"greater than or equal to {least}" if days < least else f"less than or equal to {most}"
    text = f"Value '{days}' at 'pendingWindowInDays' failed to satisfy constraint: Member must have value {bound}"
    raise constraints.validation_fault([text])
