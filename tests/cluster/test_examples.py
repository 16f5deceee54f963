"""The examples, run like a user runs them: every command of the README under "Run it", then those under "Clean up"."""

import json
import re
import shlex
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from hyperpod_ebs.kit import command
from tests.support import volume_leftovers
from tests.support.live_cluster import LiveCluster

EXAMPLES: Final = Path(__file__).parents[2] / "examples"

Line = dict[str, Any]  # an event of an example program, as JSON


@dataclass(frozen=True, slots=True)
class Example:
    """A directory with a README, and the cluster to run it on."""

    live: LiveCluster
    directory: Path
    namespace: str

    async def run(self) -> str:
        """Run the commands under "Run it" and return their output."""
        return await self._run_section("Run it")

    async def clean_up(self) -> None:
        """Run the commands under "Clean up"; fail if anything is left in Kubernetes, in the cloud or on the nodes."""
        known = await volume_leftovers.list_volumes(self.live, self.namespace)
        assert known.ids
        await self._run_section("Clean up")
        await volume_leftovers.wait_until_removed(self.live, known)
        assert await self.live.kubectl("get", "namespace", self.namespace, ok=(1,))

    async def sizes_gib(self) -> list[int]:
        """The sizes of its volumes in the cloud."""
        known = (await volume_leftovers.list_volumes(self.live, self.namespace)).ids
        return [volume["size_gib"] for volume in await self.live.cloud("volumes") if volume["id"] in known]

    async def _run_section(self, section: str) -> str:
        text = (self.directory / "README.md").read_text().partition(f"## {section}\n")[2].partition("\n## ")[0]
        script = "\n".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL))
        kubectl = self.live.kubectl
        settings = [
            f"KUBECONFIG={kubectl.kubeconfig}",
            f"KUBECACHEDIR={kubectl.cache}",
            f"PATH={Path(kubectl.program).parent}:/usr/bin:/bin",
        ]
        script = f"cd {shlex.quote(str(self.directory))}\n{script}"
        return (await command.run(["env", *settings, "sh", "-euc", script], deadline=600)).out


@pytest.fixture
async def example(request: pytest.FixtureRequest, live: LiveCluster) -> AsyncGenerator[Example]:
    """The example that the test's parameter names; its namespace and volumes are deleted also after a failure."""
    directory = EXAMPLES / request.param
    manifests = "".join(path.read_text() for path in directory.glob("*.yaml"))
    (namespace,) = re.findall(r"^kind: Namespace\nmetadata:\n  name: (\S+)", manifests, re.MULTILINE)
    found = Example(live, directory, namespace)
    yield found
    for volume in (await volume_leftovers.list_volumes(live, namespace)).existing:
        await live.kubectl("patch", "pv", volume, '--patch={"spec":{"persistentVolumeReclaimPolicy":"Delete"}}')
    await live.kubectl("delete", "namespace", namespace, "--ignore-not-found", "--wait", deadline=300)


def events_of(text: str, event: str) -> list[Line]:
    """The events of one kind that the programs printed."""
    lines: list[Line] = [json.loads(line) for line in text.splitlines() if line.startswith('{"event"')]
    return [line for line in lines if line["event"] == event]


@pytest.mark.requirement("examples.readme")
@pytest.mark.parametrize("example", ["training/dataset"], indirect=True)
async def test_a_data_set_outlives_its_pod_and_every_later_pod_reads_it(example: Example) -> None:
    output = await example.run()

    verified = events_of(output, "verified")
    assert len(verified) == 2
    assert len({line["digest"] for line in verified}) == 1
    assert (verified[0]["files"], verified[0]["bytes"]) == (16, 64 * 2**20)
    assert await example.sizes_gib() == [1]
    await example.clean_up()


@pytest.mark.requirement("examples.readme")
@pytest.mark.parametrize("example", ["training/shared-artifacts"], indirect=True)
async def test_three_jobs_read_the_snapshots_version_while_the_next_version_is_published(example: Example) -> None:
    output = await example.run()

    (published,) = events_of(output, "published")
    used = events_of(output, "used")
    assert [line["version"] for line in used] == [1, 1, 1]
    assert {line["digest"] for line in used} == {published["digest"]}
    await example.clean_up()


@pytest.mark.requirement("examples.readme")
@pytest.mark.parametrize("example", ["inference/model-store"], indirect=True)
async def test_a_mounted_claim_grows_to_fit_a_larger_model(example: Example) -> None:
    output = await example.run()

    assert [line["model"] for line in events_of(output, "serving")] == ["small", "larger"]
    assert [line["gib"] for line in events_of(output, "grown")] == [2]
    assert await example.sizes_gib() == [2]
    await example.clean_up()


@pytest.mark.requirement("examples.readme")
@pytest.mark.parametrize("example", ["inference/container-cache"], indirect=True)
async def test_the_second_start_of_a_container_is_faster_thanks_to_its_cache(
    example: Example, record_property: Callable[[str, object], None]
) -> None:
    output = await example.run()

    (compared,) = events_of(output, "compared")
    first, second = compared["first_seconds"], compared["second_seconds"]
    record_property("summary", f"container cache: first start {first} s, second {second} s")
    assert second < first / 2
    assert events_of(output, "crashing")
    await example.clean_up()


@pytest.mark.requirement("examples.readme")
@pytest.mark.parametrize("example", ["inference/event-log"], indirect=True)
async def test_no_event_is_lost_while_the_log_outgrows_its_volume(example: Example) -> None:
    output = await example.run()

    (done,), (verified,) = events_of(output, "done"), events_of(output, "verified")
    assert (verified["events"], verified["chain"]) == (70000, done["chain"])
    assert verified["segments"] > 10
    assert [line["gib"] for line in events_of(output, "grown")] == [2]
    assert await example.sizes_gib() == [2]
    await example.clean_up()


@pytest.mark.requirement("examples.readme")
@pytest.mark.usefixtures("cordon_turn")
@pytest.mark.parametrize("example", ["training/checkpoint"], indirect=True)
async def test_a_training_that_loses_its_node_ends_with_the_weights_of_an_uninterrupted_one(example: Example) -> None:
    output = await example.run()

    (resumed,) = events_of(output, "resumed")
    interrupted, whole = events_of(output, "done")
    assert resumed["step"] >= 300
    assert resumed["node"] in {node.name for node in example.live.record.nodes}
    assert f"away from {resumed['node']}\n" not in output
    assert "away from " in output
    assert interrupted["here"] == 1500 - resumed["step"]
    assert whole["here"] == 1500
    assert interrupted["weights"] == whole["weights"]
    await example.clean_up()
