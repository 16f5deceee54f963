"""AddTags, ListTags and DeleteTags, for HyperPod clusters."""

from dataclasses import dataclass, replace
from typing import Final

from hyperpod_ebs.emulator.records import Cluster, Tags
from hyperpod_ebs.emulator.sagemaker.clusters import Clusters
from hyperpod_ebs.emulator.state.world import World
from hyperpod_ebs.emulator.wire.operations import Answer, AwsFault, Call, Operations, Parameters

MAX_TAGS: Final = 50
"""Tags of a cluster (SageMaker API reference, AddTags)."""

PAGE_SIZE: Final = 50


@dataclass(frozen=True, slots=True)
class ClusterTags:
    """The tags of HyperPod clusters."""

    world: World
    clusters: Clusters

    operations = Operations["ClusterTags"]()

    @operations("AddTags")
    async def add(self, parameters: Parameters, _: Call) -> Answer:
        """Add tags to a cluster, or overwrite those with the same keys; return the tags of the request."""
        cluster = self._find(parameters)
        new = {tag["Key"]: tag["Value"] for tag in parameters["Tags"]}
        if reserved := [key for key in new if key.lower().startswith("aws:")]:
            text = f"Tag key {reserved[0]} is reserved: keys must not start with aws:"
            raise AwsFault("ValidationException", text)
        if len(tags := {**cluster.tags, **new}) > MAX_TAGS:
            raise AwsFault("ResourceLimitExceeded", f"The resource has {len(tags)} tags; the limit is {MAX_TAGS}")
        self.world.store.clusters.put(replace(cluster, tags=tags))
        return await self.world.acknowledge({"Tags": _render(new)})

    @operations("ListTags")
    async def list_tags(self, parameters: Parameters, _: Call) -> Answer:
        """List the tags of a cluster, page by page."""
        tags = _render(self._find(parameters).tags)
        token = parameters.get("NextToken", "0")
        if not token.isdecimal() or not token.isascii() or len(token) > len(str(MAX_TAGS)):
            raise AwsFault("ValidationException", f"NextToken {token} is not valid")
        start = int(token)
        end = start + parameters.get("MaxResults", PAGE_SIZE)
        return {"Tags": tags[start:end], "NextToken": str(end) if end < len(tags) else None}

    @operations("DeleteTags")
    async def delete(self, parameters: Parameters, _: Call) -> Answer:
        """Delete the tags with these keys; keys that the cluster lacks are ignored."""
        cluster = self._find(parameters)
        tags = {key: value for key, value in cluster.tags.items() if key not in parameters["TagKeys"]}
        self.world.store.clusters.put(replace(cluster, tags=tags))
        return await self.world.acknowledge({})

    def _find(self, parameters: Parameters) -> Cluster:
        """The cluster with the requested ARN.

        Raises:
            AwsFault: The ARN is not that of a cluster.
        """
        arn = parameters["ResourceArn"]
        cluster = self.world.store.clusters.get(arn.rpartition("/")[2])
        if cluster is None or arn != self.clusters.arn(cluster):
            raise AwsFault("ValidationException", f"Resource {arn} not found: the emulator has tags only of clusters")
        return cluster


def _render(tags: Tags) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]
