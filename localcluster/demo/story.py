"""The demo's story: a training writes checkpoints, loses its node, and ends with the same weights on another."""

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
from localcluster.demo.scene import Pod, Scene, lines
from localcluster.kubernetes.chart import ROOT
from localcluster.kubernetes.kubectl import Kubectl

T = TypeVar("T")

NAMESPACE: Final = "example-checkpoint"
EXAMPLE: Final = ROOT / "examples" / "training" / "checkpoint"

CHECKPOINTS: Final = 6
"""So many are written before the node is taken away."""

_LOOK: Final = 0.5
_PATIENCE: Final = 300.0
_LAST_TRY: Final = 10.0


@dataclass(slots=True)
class Story:
    """What is told, and what it is told about."""

    kubectl: Kubectl
    cloud: EmulatorClient
    steps: Steps
    looked: Callable[[Scene, str], None]
    """Is told what the cluster looks like, and what the training has said last, again and again."""
    _said: list[dict[str, Any]] = field(default_factory=list)  # what the training's latest pod said

    async def tell(self) -> None:
        """All of it; what it made is deleted also when it cannot be told to the end.

        Raises:
            Failure: It did not come out as it should.
        """
        self.steps.count_calls(self.cloud.call_counts)
        async with self._looking():
            try:
                node = await self._begin()
                first = await self._train_a_while()
                async with self._cordoned(node):
                    await self._take_away(node, first)
                    await self._resume(node)
                await self._compare()
            finally:
                await self._clear()

    async def _begin(self) -> str:
        async with self._step("start the training, and one that nobody will disturb") as result:
            for document in ("train.yaml", "uninterrupted.yaml"):
                await self.kubectl("apply", "--filename", str(EXAMPLE / document))
            pod = await self._until(self._running)
            result(f"{pod.name} runs on {pod.node}, with a volume that was made for it")
        return pod.node

    async def _train_a_while(self) -> Pod:
        async with self._step(f"wait until {CHECKPOINTS} checkpoints are written") as result:
            pod = await self._until(self._running)

            async def written() -> list[dict[str, Any]]:
                found = [one for one in await self._log(pod) if one["event"] == "checkpoint"]
                return found if len(found) >= CHECKPOINTS else []

            last = (await self._until(written))[-1]
            result(f"step {last['step']}, loss {last['loss']}, in {last['file']}")
        return pod

    async def _take_away(self, node: str, first: Pod) -> None:
        async with self._step("take the node away: cordon it, kill the training's pod") as result:
            await self.kubectl("cordon", node)
            await self.kubectl("delete", "pod", first.name, f"--namespace={NAMESPACE}", "--grace-period=1")
            result(f"{first.name} is gone, {node} takes no pods")

    async def _resume(self, node: str) -> None:
        async with self._step("see the volume move, and the training go on elsewhere") as result:
            pod = await self._until(self._running)

            async def resumed() -> dict[str, Any] | None:
                return next((one for one in await self._log(pod) if one["event"] == "resumed"), None)

            found = await self._until(resumed)
            if pod.node == node:
                raise DataMismatch(f"{pod.name} runs on {node} again, which is cordoned")
            result(f"{pod.name} resumed at step {found['step']} on {pod.node}")

    async def _compare(self) -> None:
        async with self._step("train to the end, and compare the weights") as result:
            jobs = ("job/train", "job/uninterrupted")
            await self.kubectl(
                *("wait", "--for=condition=complete", *jobs, f"--namespace={NAMESPACE}", f"--timeout={_PATIENCE:g}s"),
                deadline=_PATIENCE + 10,
            )
            ends = [lines((await self.kubectl("logs", job, f"--namespace={NAMESPACE}")).out)[-1] for job in jobs]
            ours, theirs = (end["weights"] for end in ends)
            if ours != theirs:
                raise DataMismatch(f"the training's weights are {ours}, those of the undisturbed one {theirs}")
            result(f"the same to the last bit, accuracy {ends[0]['accuracy']}: {ours[:16]}…")

    async def _clear(self) -> None:
        async with self._step("delete all of it, and look what is left at the cloud") as result:
            handles = {claim.volume for claim in (await self._scene()).claims if claim.volume}
            for document in ("uninterrupted.yaml", "train.yaml"):
                await self.kubectl("delete", "--ignore-not-found", "--filename", str(EXAMPLE / document))

            async def gone() -> bool:
                return not handles & {one["id"] for one in (await self.cloud.status())["volumes"]}

            await self._until(gone)
            result(f"nothing of {', '.join(sorted(handles)) or 'it'}")

    @asynccontextmanager
    async def _step(self, name: str) -> AsyncGenerator[Result]:
        """A step, shown with the cluster as it is when it ends."""
        async with self.steps.step(name) as result:
            yield result
            await self._look()

    @asynccontextmanager
    async def _cordoned(self, node: str) -> AsyncGenerator[None]:
        """The node, which may be cordoned, and takes pods again when the block ends, however it does."""
        try:
            yield
        except BaseException:
            with suppress(command.CommandFailed):  # what is wrong is being told
                await self.kubectl("uncordon", node, deadline=_LAST_TRY)
            raise
        await self.kubectl("uncordon", node)

    async def _running(self) -> Pod | None:
        """The training's pod that runs."""
        pods = [pod for pod in (await self._scene()).pods if pod.name.startswith("train-")]
        return next((pod for pod in pods if pod.state == "Running"), None)

    async def _log(self, pod: Pod) -> list[dict[str, Any]]:
        found = await self.kubectl("logs", pod.name, f"--namespace={NAMESPACE}", ok=(0, 1))
        self._said = lines(found.out) or self._said
        return lines(found.out)

    async def _scene(self) -> Scene:
        return await Scene.seen(self.kubectl, self.cloud, NAMESPACE)

    async def _look(self) -> None:
        """Show how the cluster looks; where it cannot be seen, there is a picture less."""
        with suppress(command.CommandFailed, aiohttp.ClientError, TimeoutError):
            self.looked(await self._scene(), _words(self._said))

    @asynccontextmanager
    async def _looking(self) -> AsyncGenerator[None]:
        async def look() -> None:
            while True:
                await self._look()
                await asyncio.sleep(_LOOK)

        async with asyncio.TaskGroup() as group:
            looking = group.create_task(look())
            yield
            looking.cancel()

    async def _until(self, true: Callable[[], Awaitable[T | None]]) -> T:
        """The first thing that is true; kubectl tells what is, and not what has become."""
        async with asyncio.timeout(_PATIENCE):
            while not (found := await true()):  # noqa: ASYNC110 - see above
                await asyncio.sleep(_LOOK)
            return found


def _words(said: list[dict[str, Any]]) -> str:
    return ", ".join(f"{key} {value}" for key, value in said[-1].items() if key != "event") if said else ""
