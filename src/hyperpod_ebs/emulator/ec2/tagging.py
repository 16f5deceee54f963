"""Tags as EC2 takes them: with a resource that is made, on one that exists, and off again."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from hyperpod_ebs.emulator.ec2 import naming
from hyperpod_ebs.emulator.nodes.machines import own_instances
from hyperpod_ebs.emulator.state.store import Table
from hyperpod_ebs.emulator.state.world import World
from hyperpod_ebs.emulator.wire.operations import Answer, Asked, AwsFault, Call, Operations

MOST: Final = 50
KEY: Final = 128
VALUE: Final = 256


def merged(tags: Mapping[str, str], wanted: list[Mapping[str, str]]) -> dict[str, str]:
    """`tags` with those `wanted` (as EC2's TagList) set.

    Raises:
        AwsFault: One of them may not be, or there are too many.
    """
    keys = [tag.get("Key", "") for tag in wanted]
    if len(set(keys)) < len(keys):
        twice = next(key for key in keys if keys.count(key) > 1)
        raise AwsFault("InvalidParameterValue", f"Duplicate tag key '{twice}' specified.")
    for tag in wanted:
        _check(tag.get("Key", ""), tag.get("Value", ""))
    result = {**tags, **{tag["Key"]: tag.get("Value", "") for tag in wanted}}
    if len(result) > MOST:
        raise AwsFault("TagLimitExceeded", f"The number of tags {len(result)} exceeds the limit of {MOST}")
    return result


def of_new(asked: Asked, resource: str) -> dict[str, str]:
    """The tags for the `resource` that a request makes, from its TagSpecifications.

    Raises:
        AwsFault: They name another kind of resource, or may not be.
    """
    wanted: list[Mapping[str, str]] = []
    for specification in asked.get("TagSpecifications", []):
        if (kind := specification.get("ResourceType")) != resource:
            text = f"'{kind}' is not a valid taggable resource type for this operation."
            raise AwsFault("InvalidParameterValue", text)
        wanted += specification.get("Tags", [])
    return merged({}, wanted)


def _check(key: str, value: str) -> None:
    if not key or len(key) > KEY:
        raise AwsFault("InvalidParameterValue", f"Tag key '{key}' must have 1 to {KEY} characters")
    if len(value) > VALUE:
        raise AwsFault("InvalidParameterValue", f"Tag value of key '{key}' exceeds the maximum length of {VALUE}")
    if key.lower().startswith("aws:"):
        raise AwsFault("InvalidParameterValue", "Tag keys starting with 'aws:' are reserved for internal use")


@dataclass(frozen=True, slots=True)
class Tagging:
    """CreateTags and DeleteTags."""

    world: World

    name = "ec2"
    operations = Operations["Tagging"]()

    @operations("CreateTags")
    async def create(self, asked: Asked, _: Call) -> Answer:
        """Set tags on each of several resources, or on none."""
        naming.needed(asked, "Resources", "Tags")
        await self.world.clock.run_due_steps()
        self._change(asked, {id_: merged(tags, asked["Tags"]) for id_, tags in self._tags(asked).items()})
        return await self.world.acknowledge({})

    @operations("DeleteTags")
    async def delete(self, asked: Asked, _: Call) -> Answer:
        """Take tags off; without tags all of them, with a value only where it is that."""
        naming.needed(asked, "Resources")
        await self.world.clock.run_due_steps()
        self._change(asked, {id_: _without(tags, asked.get("Tags")) for id_, tags in self._tags(asked).items()})
        return await self.world.acknowledge({})

    def _tags(self, asked: Asked) -> dict[str, Mapping[str, str]]:
        tables = {noun.prefix: (noun, table) for noun, table in self._tables()}
        result = {}
        for id_ in asked["Resources"]:
            prefix = f"{id_.partition('-')[0]}-"
            if prefix not in tables:
                raise AwsFault("InvalidID", f"The ID '{id_}' is not valid")
            noun, table = tables[prefix]
            # HyperPod's nodes are instances of the service's, of which EC2 does not tell the customer.
            known = own_instances(self.world) if noun is naming.INSTANCE else table
            result[id_] = naming.found(known, id_, noun).tags
        return result

    def _change(self, asked: Asked, tags: Mapping[str, Mapping[str, str]]) -> None:
        naming.dry_run(asked)
        for _, table in self._tables():
            for id_ in [id_ for id_ in tags if id_ in table]:
                table.put(replace(table[id_], tags=dict(tags[id_])))

    def _tables(self) -> list[tuple[naming.Noun, Table[Any]]]:  # three kinds of records
        store = self.world.store
        return [
            (naming.VOLUME, store.volumes),
            (naming.SNAPSHOT, store.snapshots),
            (naming.INSTANCE, store.instances),
        ]


def _without(tags: Mapping[str, str], unwanted: list[Mapping[str, str]] | None) -> dict[str, str]:
    if unwanted is None:
        return {}
    gone = {tag.get("Key") for tag in unwanted if tag.get("Value") in {None, tags.get(tag.get("Key", ""))}}
    return {key: value for key, value in tags.items() if key not in gone}
