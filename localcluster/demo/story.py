"""The demo's story: a training job writes checkpoints, loses its node, and gets the same weights on another node."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import aiohttp

from hyperpod_ebs.demo.emulator_client import EmulatorClient
from hyperpod_ebs.demo.steps import Result, Steps
from hyperpod_ebs.kit import command
from hyperpod_ebs.sandbox.failures import DataMismatch
from localcluster.demo.cluster_state import ClusterState, Pod, log_events
from localcluster.kubernetes.chart import ROOT
from localcluster.kubernetes.kubectl import Kubectl

T = TypeVar("T")

NAMESPACE: Final = "example-checkpoint"
EXAMPLE: Final = ROOT / "examples" / "training" / "checkpoint"

CHECKPOINTS: Final = 6
"""Checkpoints that the job writes before it loses its node."""

_POLL: Final = 0.5
_TIMEOUT: Final = 300.0
_UNCORDON_TIMEOUT: Final = 10.0


@dataclass(slots=True)
class Story:
    """Plays the story on a cluster."""

    kubectl: Kubectl
    emulator: EmulatorClient
    steps: Steps
    update_cluster: Callable[[ClusterState, str], None]
    """Is called repeatedly with the state of the cluster and the training job's latest event."""
    _events: list[dict[str, Any]] = field(default_factory=list)  # from the log of the job's latest pod

    async def run(self) -> None:
        """Run all steps; delete what they created, also after a failure.

        Raises:
            Failure: A step failed, or the result is wrong.
        """
        self.steps.count_calls(self.emulator.call_counts)
        async with self._update_continuously():
            try:
                node = await self._start_jobs()
                first = await self._wait_for_checkpoints()
                async with self._uncordon_at_end(node):
                    await self._lose_node(node, first)
                    await self._wait_until_resumed(node)
                await self._compare_weights()
            finally:
                await self._delete_everything()

    async def _start_jobs(self) -> str:
        """Start the jobs; the node of the first."""
        async with self._step("start two training jobs") as result:
            for document in ("train.yaml", "uninterrupted.yaml"):
                await self.kubectl("apply", "--filename", str(EXAMPLE / document))
            pod = await self._poll(self._running_pod)
            result(f"{pod.name} runs on {pod.node} with a new volume; the other job will not be interrupted")
        return pod.node

    async def _wait_for_checkpoints(self) -> Pod:
        async with self._step(f"wait until {CHECKPOINTS} checkpoints are written") as result:
            pod = await self._poll(self._running_pod)

            async def checkpoints() -> list[dict[str, Any]]:
                found = [event for event in await self._read_events(pod) if event["event"] == "checkpoint"]
                return found if len(found) >= CHECKPOINTS else []

            last = (await self._poll(checkpoints))[-1]
            result(f"step {last['step']}, loss {last['loss']}, in {last['file']}")
        return pod

    async def _lose_node(self, node: str, first: Pod) -> None:
        async with self._step("cordon the node and delete the pod") as result:
            await self.kubectl("cordon", node)
            await self.kubectl("delete", "pod", first.name, f"--namespace={NAMESPACE}", "--grace-period=1")
            result(f"{first.name} is deleted, and {node} accepts no pods")

    async def _wait_until_resumed(self, node: str) -> None:
        async with self._step("wait for the job on another node") as result:
            pod = await self._poll(self._running_pod)

            async def resume_event() -> dict[str, Any] | None:
                return next((event for event in await self._read_events(pod) if event["event"] == "resumed"), None)

            event = await self._poll(resume_event)
            if pod.node == node:
                raise DataMismatch(f"pod {pod.name} runs on node {node} again, although the node is cordoned")
            result(f"{pod.name} resumed at step {event['step']} on {pod.node}")

    async def _compare_weights(self) -> None:
        async with self._step("compare the weights of both jobs") as result:
            jobs = ("job/train", "job/uninterrupted")
            await self.kubectl(
                *("wait", "--for=condition=complete", *jobs, f"--namespace={NAMESPACE}", f"--timeout={_TIMEOUT:g}s"),
                deadline=_TIMEOUT + 10,
            )
            logs = [(await self.kubectl("logs", job, f"--namespace={NAMESPACE}")).out for job in jobs]
            interrupted, uninterrupted = (log_events(log)[-1] for log in logs)
            weights, expected = interrupted["weights"], uninterrupted["weights"]
            if weights != expected:
                raise DataMismatch(f"the job's weights are {weights}, but those of the uninterrupted job {expected}")
            result(f"identical to the last bit, accuracy {interrupted['accuracy']}: {weights[:16]}…")

    async def _delete_everything(self) -> None:
        async with self._step("delete everything") as result:
            volumes = {claim.volume for claim in (await self._read_state()).claims if claim.volume}
            for document in ("uninterrupted.yaml", "train.yaml"):
                await self.kubectl("delete", "--ignore-not-found", "--filename", str(EXAMPLE / document))

            async def are_volumes_deleted() -> bool:
                return not volumes & {row["id"] for row in (await self.emulator.status())["volumes"]}

            await self._poll(are_volumes_deleted)
            result(f"deleted in the cloud: {', '.join(sorted(volumes)) or 'no volumes'}")

    @asynccontextmanager
    async def _step(self, name: str) -> AsyncGenerator[Result]:
        """A step; the state of the cluster is shown when it ends."""
        async with self.steps.step(name) as result:
            yield result
            await self._update()

    @asynccontextmanager
    async def _uncordon_at_end(self, node: str) -> AsyncGenerator[None]:
        """A block that can cordon the node, which is uncordoned at the end, also after an error."""
        try:
            yield
        except BaseException:
            with suppress(command.CommandFailed):  # the first error is reported
                await self.kubectl("uncordon", node, deadline=_UNCORDON_TIMEOUT)
            raise
        await self.kubectl("uncordon", node)

    async def _running_pod(self) -> Pod | None:
        """The running pod of the training job."""
        pods = [pod for pod in (await self._read_state()).pods if pod.name.startswith("train-")]
        return next((pod for pod in pods if pod.state == "Running"), None)

    async def _read_events(self, pod: Pod) -> list[dict[str, Any]]:
        """The events in the log of a pod; the last one is shown."""
        events = log_events((await self.kubectl("logs", pod.name, f"--namespace={NAMESPACE}", ok=(0, 1))).out)
        self._events = events or self._events
        return events

    async def _read_state(self) -> ClusterState:
        return await ClusterState.read(self.kubectl, self.emulator, NAMESPACE)

    async def _update(self) -> None:
        """Show the state of the cluster, unless it cannot be read now."""
        last = self._events[-1] if self._events else {}
        training = ", ".join(f"{key} {value}" for key, value in last.items() if key != "event")
        with suppress(command.CommandFailed, aiohttp.ClientError, TimeoutError):
            self.update_cluster(await self._read_state(), training)

    @asynccontextmanager
    async def _update_continuously(self) -> AsyncGenerator[None]:
        """Show the state of the cluster repeatedly until the block ends."""

        async def update() -> None:
            while True:
                await self._update()
                await asyncio.sleep(_POLL)

        async with asyncio.TaskGroup() as group:
            updating = group.create_task(update())
            yield
            updating.cancel()

    async def _poll(self, query: Callable[[], Awaitable[T | None]]) -> T:
        """Repeat the query until its answer is true; the answer."""
        async with asyncio.timeout(_TIMEOUT):
            while not (answer := await query()):  # noqa: ASYNC110 - kubectl and the emulator are polled
                await asyncio.sleep(_POLL)
            return answer
