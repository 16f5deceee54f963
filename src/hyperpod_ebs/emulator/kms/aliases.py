"""CreateAlias, UpdateAlias, DeleteAlias and ListAliases."""

from dataclasses import dataclass, replace
from typing import Any, Final

from hyperpod_ebs.emulator.kms import pages
from hyperpod_ebs.emulator.kms.keyring import Keyring
from hyperpod_ebs.emulator.kms_records import Alias, Key
from hyperpod_ebs.emulator.state.world import World, now, to_datetime
from hyperpod_ebs.emulator.wire.operations import Answer, AwsFault, Call, Operations, Parameters

MAX_ALIASES: Final = 50
"""The quota "Aliases per KMS key"."""

RESERVED: Final = "alias/aws/"


@dataclass(frozen=True, slots=True)
class Aliases:
    """The operations on aliases."""

    world: World
    keyring: Keyring

    operations = Operations["Aliases"]()

    @operations("CreateAlias")
    async def create(self, parameters: Parameters, call: Call) -> Answer:
        """Give a key another name."""
        name = parameters["AliasName"]
        _check_name(name)
        key = self._target(parameters, call)
        if name in self.world.store.kms_aliases:
            text = f"An alias with the name {self.keyring.alias_arn(name)} already exists"
            raise AwsFault("AlreadyExistsException", text)
        self._check_count(key)
        created = now()
        self.world.store.kms_aliases.put(Alias(id=name, key=key.id, created=created, updated=created))
        return await self.world.acknowledge({})

    @operations("UpdateAlias")
    async def update(self, parameters: Parameters, call: Call) -> Answer:
        """Give the name to another key."""
        alias = self._find(parameters["AliasName"])
        key = self._target(parameters, call)
        if key.id != alias.key:
            self._check_count(key)
        self.world.store.kms_aliases.put(replace(alias, key=key.id, updated=now()))
        return await self.world.acknowledge({})

    @operations("DeleteAlias")
    async def delete(self, parameters: Parameters, _: Call) -> Answer:
        """Delete the name; the key stays."""
        alias = self._find(parameters["AliasName"])
        self.world.store.kms_aliases.drop(alias.id)
        return await self.world.acknowledge({})

    @operations("ListAliases")
    async def list_aliases(self, parameters: Parameters, call: Call) -> Answer:
        """List all aliases, or those of one key."""
        aliases = list(self.world.store.kms_aliases.values())
        if "KeyId" in parameters:
            key = self.keyring.find(parameters["KeyId"], call, by_alias=False)
            aliases = self.world.store.kms_aliases.where("key", key.id)
        listed, more = pages.page(aliases, parameters, default=50)
        return await self.world.acknowledge({"Aliases": [self._members(alias) for alias in listed], **more})

    def _find(self, name: str) -> Alias:
        _check_name(name)
        if (alias := self.world.store.kms_aliases.get(name)) is None:
            raise AwsFault("NotFoundException", f"Alias {self.keyring.alias_arn(name)} is not found.")
        return alias

    def _target(self, parameters: Parameters, call: Call) -> Key:
        key = self.keyring.find(parameters["TargetKeyId"], call, by_alias=False)
        self.keyring.require_customer_key(key)
        self.keyring.require_not_pending_deletion(key)
        return key

    def _check_count(self, key: Key) -> None:
        if len(self.keyring.aliases(key)) >= MAX_ALIASES:
            text = f"{self.keyring.arn(key.id)} has {MAX_ALIASES} aliases already."
            raise AwsFault("LimitExceededException", text)

    def _members(self, alias: Alias) -> dict[str, Any]:  # the members of KMS's AliasListEntry
        return {
            "AliasName": alias.id,
            "AliasArn": self.keyring.alias_arn(alias.id),
            "TargetKeyId": alias.key,
            "CreationDate": to_datetime(alias.created),
            "LastUpdatedDate": to_datetime(alias.updated),
        }


def _check_name(name: str) -> None:
    if not name.startswith("alias/") or ":" in name or not name.removeprefix("alias/"):
        raise AwsFault("InvalidAliasNameException", "Invalid alias name: it must begin with alias/ and be no ARN.")
    if name.startswith(RESERVED):
        raise AwsFault("InvalidAliasNameException", f"Alias names must not begin with {RESERVED}.")
