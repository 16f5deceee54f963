"""The doctor's Kubernetes checks and objects in which a field is absent or null: other programs write objects, too."""

import asyncio
import copy
from collections.abc import AsyncGenerator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

from hypothesis import given, settings
from hypothesis import strategies as st

from hyperpod_ebs.access.aws.session import open_aws
from hyperpod_ebs.access.doctor.checks import run_checks
from hyperpod_ebs.access.doctor.context import Context, Wanted
from hyperpod_ebs.access.doctor.kubernetes_checks.registry import CHECKS
from hyperpod_ebs.access.kubernetes.reader import Reader
from hyperpod_ebs.driver.model import errors
from tests.support.kubernetes_faults import FAULTS
from tests.support.recorded_cluster import Object, RecordedCluster

WANTED: Final = Wanted(namespace="kube-system", service_account="ebs-csi-controller-sa")


class MemoryReader:
    """Reads the objects of a recorded cluster without HTTP."""

    def __init__(self, cluster: RecordedCluster) -> None:
        self._cluster = cluster

    async def get(self, path: str, **query: str) -> Object:
        """A list, or the kinds of a group."""
        assert "continue" not in query
        if path == "/version":
            return {"gitVersion": self._cluster.version}
        if plural := self._cluster.paths.get(path):
            return {"items": self._cluster.lists[plural]}
        if kinds := [name for known, name in self._cluster.paths.items() if known.startswith(f"{path}/")]:
            return {"resources": [{"name": name} for name in kinds]}
        raise errors.NotFound(path)

    async def get_text(self, path: str, **query: str) -> str:
        """Not needed here."""
        raise errors.NotFound(f"{path} {query}")


def fields(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of each field and item of a JSON value."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in pairs:
        yield (*path, key)
        yield from fields(item, (*path, key))


async def make_faulty_cluster(index: int) -> RecordedCluster:
    """The cluster with one of the faults."""
    cluster = RecordedCluster.healthy()
    await FAULTS[index].plant(cluster)
    return cluster


def damage(cluster: RecordedCluster, data: st.DataObject) -> None:
    """Remove a field of an object, or make it null; every object keeps its name."""
    plural = data.draw(st.sampled_from(sorted(name for name, items in cluster.lists.items() if items)))
    index = data.draw(st.integers(0, len(cluster.lists[plural]) - 1))
    item = cluster.lists[plural][index] = copy.deepcopy(cluster.lists[plural][index])
    kept = {("metadata",), ("metadata", "name")}
    *parents, last = data.draw(st.sampled_from([path for path in fields(item) if path not in kept]))
    holder: Any = item
    for key in parents:
        holder = holder[key]
    if data.draw(st.booleans()):
        holder[last] = None
    else:
        del holder[last]


async def examine(cluster: RecordedCluster) -> list[str]:
    """The evidence of all findings."""

    @asynccontextmanager
    async def open_reader() -> AsyncGenerator[Reader]:
        yield MemoryReader(cluster)

    async with AsyncExitStack() as stack:
        findings = await run_checks(CHECKS, Context(WANTED, open_aws, open_reader, stack))
    return [finding.evidence for finding in findings]


def test_no_check_fails_because_a_pod_has_no_spec() -> None:
    for index in range(len(FAULTS)):
        cluster = asyncio.run(make_faulty_cluster(index))
        cluster.lists["pods"] = [{**pod, "spec": None} for pod in cluster.lists["pods"]]

        evidence = asyncio.run(examine(cluster))

        assert not [text for text in evidence if "the check itself has failed" in text]


@settings(max_examples=200)
@given(index=st.integers(0, len(FAULTS) - 1), data=st.data())
def test_no_check_fails_because_a_field_is_missing(index: int, data: st.DataObject) -> None:
    cluster = asyncio.run(make_faulty_cluster(index))
    damage(cluster, data)

    evidence = asyncio.run(examine(cluster))

    assert not [text for text in evidence if "the check itself has failed" in text]
