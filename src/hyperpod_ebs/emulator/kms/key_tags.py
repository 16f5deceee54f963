"""TagResource, UntagResource and ListResourceTags."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from hyperpod_ebs.emulator.kms import pages
from hyperpod_ebs.emulator.kms.keyring import Keyring
from hyperpod_ebs.emulator.kms_records import Key
from hyperpod_ebs.emulator.state.world import World
from hyperpod_ebs.emulator.wire.operations import Answer, AwsFault, Call, Operations, Parameters

MAX_TAGS: Final = 50
"""Tags of one key."""


@dataclass(frozen=True, slots=True)
class _Tag:
    """A tag, for the pages of a listing."""

    id: str
    value: str


@dataclass(frozen=True, slots=True)
class KeyTags:
    """The operations on a key's tags."""

    world: World
    keyring: Keyring

    operations = Operations["KeyTags"]()

    @operations("TagResource")
    async def tag(self, parameters: Parameters, call: Call) -> Answer:
        """Add tags, or change their values."""
        key = self._key_to_change(parameters, call)
        tags = added_tags(key.tags, parameters["Tags"])
        self.world.store.kms_keys.put(replace(key, tags=tags))
        return await self.world.acknowledge({})

    @operations("UntagResource")
    async def untag(self, parameters: Parameters, call: Call) -> Answer:
        """Remove the tags with these keys, if the key has them."""
        key = self._key_to_change(parameters, call)
        tags = {name: value for name, value in key.tags.items() if name not in parameters["TagKeys"]}
        self.world.store.kms_keys.put(replace(key, tags=tags))
        return await self.world.acknowledge({})

    @operations("ListResourceTags")
    async def list_tags(self, parameters: Parameters, call: Call) -> Answer:
        """List the key's tags."""
        key = self.keyring.find(parameters["KeyId"], call, by_alias=False)
        tags, more = pages.page([_Tag(*each) for each in key.tags.items()], parameters, default=MAX_TAGS)
        listed = [{"TagKey": tag.id, "TagValue": tag.value} for tag in tags]
        return await self.world.acknowledge({"Tags": listed, **more})

    def _key_to_change(self, parameters: Parameters, call: Call) -> Key:
        key = self.keyring.find(parameters["KeyId"], call, by_alias=False)
        self.keyring.require_customer_key(key)
        self.keyring.require_not_pending_deletion(key)
        return key


def added_tags(tags: Mapping[str, str], new: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """The tags of a key after new ones were added.

    Raises:
        AwsFault: A tag is reserved or given twice, or the key would have too many.
    """
    keys = [tag["TagKey"] for tag in new]
    if len({*keys}) < len(keys):
        raise AwsFault("TagException", "Duplicate tag keys")
    if any(key.lower().startswith("aws:") for key in keys):
        raise AwsFault("TagException", "aws: prefixed tag key names are not allowed for external use.")
    together = {**tags, **{tag["TagKey"]: tag["TagValue"] for tag in new}}
    if len(together) > MAX_TAGS:
        raise AwsFault("LimitExceededException", f"Too many tags: a key has at most {MAX_TAGS}.")
    return together
