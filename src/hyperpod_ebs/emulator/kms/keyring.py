"""The keys of the account: their ARNs, the ways to name a key, and what each state allows.

Source: KMS Developer Guide, "Key identifiers" and "Key states of AWS KMS keys".
"""

import re
import uuid
from typing import Final

from hyperpod_ebs.emulator.kms import policy_documents
from hyperpod_ebs.emulator.kms.key_material import KeyMaterials
from hyperpod_ebs.emulator.kms_records import Alias, Key
from hyperpod_ebs.emulator.state.world import World, now
from hyperpod_ebs.emulator.wire.operations import AwsFault, Call, Parameters

EBS_ALIAS: Final = "alias/aws/ebs"

EBS_KEY: Final = "00000000-0000-4000-8000-000000000eb5"
"""The id of the key aws/ebs, the same in every account, so that volumes of earlier versions keep their key."""

_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_ARN: Final = re.compile(r"arn:(?P<partition>[a-z-]+):kms:(?P<region>[^:]*):(?P<account>[^:]*):(?P<resource>.+)")


class Keyring:
    """All keys and aliases of the account."""

    def __init__(self, world: World) -> None:
        """Open the keyring; the first one of an account creates the key aws/ebs."""
        self._world = world
        self.materials: Final = KeyMaterials(world.root_key)
        if EBS_KEY not in world.store.kms_keys:
            self._create_ebs_key()

    def arn(self, key_id: str) -> str:
        """The ARN of the key with this id."""
        return self._world.region.arn("kms", f"key/{key_id}")

    def alias_arn(self, name: str) -> str:
        """The ARN of an alias."""
        return self._world.region.arn("kms", name)

    def get(self, name: str) -> Key | None:
        """The key with this id, ARN, alias or alias ARN; None if there is none in this account and region."""
        local = self._local(name)
        if (alias := self._world.store.kms_aliases.get(local)) is not None:
            return self._world.store.kms_keys.get(alias.key)
        return self._world.store.kms_keys.get(local.removeprefix("key/"))

    def alias_in(self, name: str) -> str:
        """The alias with which `name` names a key; empty if it names the key by its id or ARN."""
        local = self._local(name)
        return local if local.startswith("alias/") else ""

    def aliases(self, key: Key) -> list[str]:
        """The names of a key."""
        return sorted(alias.id for alias in self._world.store.kms_aliases.where("key", key.id))

    def find(self, name: str, call: Call, *, by_alias: bool = True) -> Key:
        """The key that a request names.

        Args:
            name: The key's id, ARN, alias or alias ARN.
            call: The call, for the error of a key in another account.
            by_alias: Whether the operation accepts aliases.

        Raises:
            AwsFault: The key does not exist, or the name is malformed.
        """
        self._check_arn(name, call)
        local = self._local(name)
        if local.startswith("alias/"):
            if not by_alias:
                raise AwsFault("NotFoundException", f"Invalid keyId '{name}'")
            if (key := self.get(name)) is None:
                raise AwsFault("NotFoundException", f"Alias {self.alias_arn(local)} is not found.")
            return key
        key_id = local.removeprefix("key/")
        if not _UUID.fullmatch(key_id):
            raise AwsFault("NotFoundException", f"Invalid keyId '{name}'")
        if (key := self._world.store.kms_keys.get(key_id)) is None:
            raise AwsFault("NotFoundException", f"Key '{self.arn(key_id)}' does not exist")
        return key

    def new_key(self, *, policy: str, description: str, tags: dict[str, str]) -> Key:
        """A new key with material of its own, which is not stored yet."""
        id_ = str(uuid.uuid4())
        return Key(
            id=id_,
            created=now(),
            materials=(self.materials.generate(id_),),
            policy=policy,
            description=description,
            tags=tags,
        )

    def check_tokens(self, parameters: Parameters) -> None:
        """Check the grant tokens of a request; grants count at once, so the tokens add nothing.

        Raises:
            AwsFault: KMS did not make one of the tokens.
        """
        for token in parameters.get("GrantTokens", []):
            if self.materials.grant_id_of(token) is None:
                raise AwsFault("InvalidGrantTokenException", "Invalid grant token")

    def require_usable(self, key: Key) -> None:
        """Check that the key can encrypt and decrypt.

        Raises:
            AwsFault: The key is disabled or pending deletion.
        """
        if key.state == "Disabled":
            raise AwsFault("DisabledException", f"{self.arn(key.id)} is disabled.")
        self.require_not_pending_deletion(key)

    def require_not_pending_deletion(self, key: Key) -> None:
        """Check that the key is not pending deletion.

        Raises:
            AwsFault: The key is pending deletion.
        """
        if key.state == "PendingDeletion":
            raise AwsFault("KMSInvalidStateException", f"{self.arn(key.id)} is pending deletion.")

    def require_customer_key(self, key: Key) -> None:
        """Check that the caller may change the key; keys that AWS manages do not change.

        Raises:
            AwsFault: AWS manages the key.
        """
        if key.manager == "AWS":
            raise AwsFault("AccessDeniedException", f"{self.arn(key.id)} is managed by AWS and cannot be changed.")

    def _check_arn(self, name: str, call: Call) -> None:
        if not name.startswith("arn:"):
            return
        region = self._world.region
        if (match := _ARN.fullmatch(name)) is None or match["partition"] != region.partition:
            raise AwsFault("InvalidArnException", f"Invalid arn {name}")
        if match["region"] != region.name:
            raise AwsFault("NotFoundException", f"Invalid arn {match['region']}")
        if match["account"] != region.account:
            text = (
                f"User: {call.arn} is not authorized to perform: kms:{call.operation} on resource: {name} because the "
                "resource does not exist in this Region, no resource-based policies allow access, or a resource-based "
                "policy explicitly denies access"
            )
            raise AwsFault("AccessDeniedException", text)

    def _local(self, name: str) -> str:
        """The name without the part of the ARN that is the same for all keys of the account."""
        return name.removeprefix(self._world.region.arn("kms", ""))

    def _create_ebs_key(self) -> None:
        created = now()
        self._world.store.kms_keys.put(
            Key(
                id=EBS_KEY,
                created=created,
                materials=(self.materials.generate(EBS_KEY),),
                policy=policy_documents.ebs_policy(self._world.region),
                description="Default key that protects my EBS volumes when no other key is defined",
                manager="AWS",
            )
        )
        self._world.store.kms_aliases.put(Alias(id=EBS_ALIAS, key=EBS_KEY, created=created, updated=created))
