"""DescribeTags: the tags of all resources in one list."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from hyperpod_ebs.emulator.ec2 import filters, pages, request_checks
from hyperpod_ebs.emulator.nodes.machines import customer_instances
from hyperpod_ebs.emulator.records import Instance, Snapshot, Volume
from hyperpod_ebs.emulator.state.world import World
from hyperpod_ebs.emulator.wire.operations import Answer, Call, Operations, Parameters

PAGE_SIZES: Final = (5, 1000)


@dataclass(frozen=True, slots=True)
class _Tag:
    """A tag of a resource."""

    resource: str
    kind: str
    """volume, snapshot or instance."""

    key: str
    value: str


@dataclass(frozen=True, slots=True)
class DescribeTags:
    """The operation DescribeTags."""

    world: World

    operations = Operations["DescribeTags"]()

    @operations("DescribeTags")
    async def describe(self, parameters: Parameters, _: Call) -> Answer:
        """List the tags of volumes, snapshots and instances, by filter."""
        request_checks.refuse_dry_run(parameters)
        known = {_position(tag): tag for tag in self._all_tags()}
        matching = filters.matching(known, parameters, _FIELDS, by_id="", tags=lambda tag: {tag.key: tag.value})
        this_page, token = pages.page(matching, parameters, PAGE_SIZES, key=_position)
        members = [
            {"Key": tag.key, "Value": tag.value, "ResourceId": tag.resource, "ResourceType": tag.kind}
            for tag in this_page
        ]
        return await self.world.acknowledge({"Tags": members, "NextToken": token})

    def _all_tags(self) -> Iterator[_Tag]:
        shown = self.world.shown
        yield from _tags_of("volume", shown.volumes.values())
        yield from _tags_of("snapshot", shown.snapshots.values())
        yield from _tags_of("instance", customer_instances(shown.instances).values())


def _tags_of(kind: str, resources: Iterable[Volume | Snapshot | Instance]) -> Iterator[_Tag]:
    for resource in resources:
        for key, value in resource.tags.items():
            yield _Tag(resource.id, kind, key, value)


def _position(tag: _Tag) -> str:
    """A short name of the tag for page tokens, in which keys of tags are not allowed."""
    return f"{tag.resource}.{hashlib.sha256(tag.key.encode()).hexdigest()[:16]}"


_FIELDS: Final[dict[str, filters.Field[_Tag]]] = {
    "key": lambda tag: [tag.key],
    "resource-id": lambda tag: [tag.resource],
    "resource-type": lambda tag: [tag.kind],
    "value": lambda tag: [tag.value],
}
