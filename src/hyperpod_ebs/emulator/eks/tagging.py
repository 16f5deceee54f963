"""TagResource, UntagResource and ListTagsForResource for clusters, associations, access entries and add-ons."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TypeVar

from hyperpod_ebs.emulator.eks.arns import addon_arn, association_arn, cluster_arn, entry_arn
from hyperpod_ebs.emulator.eks.lookup import check_tags
from hyperpod_ebs.emulator.eks_records import AccessEntry, Addon, PodIdentityAssociation
from hyperpod_ebs.emulator.records import EksCluster
from hyperpod_ebs.emulator.state.region import Region
from hyperpod_ebs.emulator.state.store import Store, Table
from hyperpod_ebs.emulator.state.world import World
from hyperpod_ebs.emulator.wire.operations import Answer, AwsFault, Call, Operations, Parameters

Tags = Mapping[str, str]


class Tagging:
    """The operations on tags."""

    operations = Operations["Tagging"]()

    def __init__(self, world: World) -> None:
        self._world = world

    @operations("TagResource")
    async def tag(self, parameters: Parameters, _: Call) -> Answer:
        """Add tags to a resource, or replace their values."""
        resource = self._find(parameters)
        check_tags(parameters["tags"], code="BadRequestException")
        tags = {**resource.tags, **parameters["tags"]}
        check_tags(tags, code="BadRequestException")
        resource.save(tags)
        return await self._world.acknowledge({})

    @operations("UntagResource")
    async def untag(self, parameters: Parameters, _: Call) -> Answer:
        """Remove tags from a resource; keys that it does not have are ignored."""
        resource = self._find(parameters)
        resource.save({key: value for key, value in resource.tags.items() if key not in parameters["tagKeys"]})
        return await self._world.acknowledge({})

    @operations("ListTagsForResource")
    async def list_tags(self, parameters: Parameters, _: Call) -> Answer:
        """List the tags of a resource."""
        resource = self._find(parameters)
        return await self._world.acknowledge({"tags": dict(resource.tags)})

    def _find(self, parameters: Parameters) -> "TaggedResource":
        """The resource that a request names.

        Raises:
            AwsFault: It does not exist.
        """
        arn = parameters["resourceArn"]
        if (resource := find_resource(self._world.store, self._world.region, arn)) is None:
            raise AwsFault("NotFoundException", f"The specified resource ARN could not be found: {arn}", 404)
        return resource


class TaggedResource:
    """The tags of one resource, and how to replace them."""

    def __init__(self, tags: Tags, save: Callable[[Tags], object]) -> None:
        self.tags = tags
        self.save = save


def find_resource(store: Store, region: Region, arn: str) -> TaggedResource | None:
    """The tags of the resource with this ARN; None if it does not exist."""
    return (
        _find(store.eks_clusters, lambda cluster: cluster_arn(region, cluster.id), arn)
        or _find(store.pod_identity_associations, partial(association_arn, region), arn)
        or _find(store.access_entries, partial(entry_arn, region), arn)
        or _find(store.addons, partial(addon_arn, region), arn)
    )


R = TypeVar("R", EksCluster, PodIdentityAssociation, AccessEntry, Addon)


def _find(table: Table[R], arn_of: Callable[[R], str], arn: str) -> TaggedResource | None:
    """The tags of the record with this ARN in one table."""
    if (record := next((each for each in table.values() if arn_of(each) == arn), None)) is None:
        return None
    found = record
    return TaggedResource(found.tags, lambda tags: table.put(replace(found, tags=dict(tags))))
