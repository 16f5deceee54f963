"""CreateTags and DeleteTags, and EC2's rules for tags."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from hyperpod_ebs.emulator.ec2 import request_checks, resource_ids
from hyperpod_ebs.emulator.records import Instance, Snapshot, Volume
from hyperpod_ebs.emulator.state.world import World
from hyperpod_ebs.emulator.wire.operations import Answer, AwsFault, Call, Operations, Parameters

MAX_TAGS: Final = 50
MAX_KEY_LENGTH: Final = 128
MAX_VALUE_LENGTH: Final = 256


def merge_tags(tags: Mapping[str, str], new: list[Mapping[str, str]]) -> dict[str, str]:
    """`tags` with the tags of `new` (EC2's TagList) added or replaced.

    Raises:
        AwsFault: A tag is invalid, or the result has too many tags.
    """
    keys = [tag.get("Key", "") for tag in new]
    if len(set(keys)) < len(keys):
        repeated = next(key for key in keys if keys.count(key) > 1)
        raise AwsFault("InvalidParameterValue", f"Duplicate tag key '{repeated}' specified.")
    for tag in new:
        _check_tag(tag.get("Key", ""), tag.get("Value", ""))
    result = {**tags, **{tag["Key"]: tag.get("Value", "") for tag in new}}
    if len(result) > MAX_TAGS:
        raise _too_many_tags(len(result))
    return result


def check_size(parameters: Parameters) -> None:
    """Check the size of a request that changes tags, before the decision, whose time grows with the size.

    Raises:
        AwsFault: There are too many resources or tags, or a key or value is too long.
    """
    request_checks.refuse_many_ids(parameters.get("Resources", []))
    tags = parameters.get("Tags", [])
    if len(tags) > MAX_TAGS:
        raise _too_many_tags(len(tags))
    for tag in tags:
        _check_lengths(tag.get("Key", ""), tag.get("Value", ""))


def requested_tags(parameters: Parameters, resource: str) -> dict[str, str]:
    """The tags in the TagSpecifications of a request that creates a resource of the type `resource`.

    Raises:
        AwsFault: A specification is for another type of resource or has no tags, or a tag is invalid.
    """
    tags: list[Mapping[str, str]] = []
    for specification in parameters.get("TagSpecifications", []):
        if (kind := specification.get("ResourceType")) != resource:
            text = f"'{kind}' is not a valid taggable resource type for this operation."
            raise AwsFault("InvalidParameterValue", text)
        if not (new := specification.get("Tags")):
            raise AwsFault("InvalidParameterValue", "Tag specification must have at least one tag")
        tags += new
    return merge_tags({}, tags)


def _too_many_tags(count: int) -> AwsFault:
    return AwsFault("TagLimitExceeded", f"The number of tags {count} exceeds the limit of {MAX_TAGS}")


def _check_tag(key: str, value: str) -> None:
    if not key:
        raise _invalid_key(key)
    _check_lengths(key, value)
    if key.lower().startswith("aws:"):
        raise AwsFault("InvalidParameterValue", "Tag keys starting with 'aws:' are reserved for internal use")


def _check_lengths(key: str, value: str) -> None:
    if len(key) > MAX_KEY_LENGTH:
        raise _invalid_key(key)
    if len(value) > MAX_VALUE_LENGTH:
        raise AwsFault(
            "InvalidParameterValue", f"Tag value of key '{key}' exceeds the maximum length of {MAX_VALUE_LENGTH}"
        )


def _invalid_key(key: str) -> AwsFault:
    return AwsFault("InvalidParameterValue", f"Tag key '{key}' must have 1 to {MAX_KEY_LENGTH} characters")


@dataclass(frozen=True, slots=True)
class Tagging:
    """Tags of existing volumes, snapshots and instances."""

    world: World

    operations = Operations["Tagging"]()

    @operations("CreateTags")
    async def create(self, parameters: Parameters, _: Call) -> Answer:
        """Set tags on all of the resources, or on none if one of them is unknown."""
        _require_resources(parameters)
        if not parameters.get("Tags"):
            text = "Value ( empty ) for parameter tagSet is invalid. You must specify one or more tags to create"
            raise AwsFault("InvalidParameterValue", text)
        self._change(
            parameters,
            {id_: merge_tags(tags, parameters["Tags"]) for id_, tags in self._current_tags(parameters).items()},
        )
        return await self.world.acknowledge({})

    @operations("DeleteTags")
    async def delete(self, parameters: Parameters, _: Call) -> Answer:
        """Delete tags: all of them if the request names none, and a tag with a value only if it has that value."""
        _require_resources(parameters)
        self._change(
            parameters,
            {
                id_: _remaining_tags(tags, parameters.get("Tags"))
                for id_, tags in self._current_tags(parameters).items()
            },
        )
        return await self.world.acknowledge({})

    def _current_tags(self, parameters: Parameters) -> dict[str, Mapping[str, str]]:
        return {id_: self._find(id_).tags for id_ in parameters["Resources"]}

    def _find(self, id_: str) -> Volume | Snapshot | Instance:
        match id_.partition("-")[0]:
            case "vol":
                return resource_ids.find_volume(self.world, id_)
            case "snap":
                return resource_ids.find_snapshot(self.world, id_)
            case "i":  # HyperPod nodes belong to the service, and EC2 does not show them to the customer
                return resource_ids.find_instances(self.world, [id_])[0]
            case _:
                raise AwsFault("InvalidID", f"The ID '{id_}' is not valid")

    def _change(self, parameters: Parameters, tags: Mapping[str, Mapping[str, str]]) -> None:
        request_checks.refuse_dry_run(parameters)
        store = self.world.store
        tables: tuple[Any, ...] = (store.volumes, store.snapshots, store.instances)  # three kinds of records
        for table in tables:
            for id_ in [id_ for id_ in tags if id_ in table]:
                table.put(replace(table[id_], tags=dict(tags[id_])))


def _require_resources(parameters: Parameters) -> None:
    if not parameters.get("Resources"):
        raise AwsFault("MissingParameter", "The request must contain the parameter resourceIdSet")


def _remaining_tags(tags: Mapping[str, str], to_delete: list[Mapping[str, str]] | None) -> dict[str, str]:
    if to_delete is None:
        return {}
    deleted_keys = {tag.get("Key") for tag in to_delete if tag.get("Value") in {None, tags.get(tag.get("Key", ""))}}
    return {key: value for key, value in tags.items() if key not in deleted_keys}
