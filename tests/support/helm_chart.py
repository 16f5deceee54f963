"""The chart as Helm makes objects of it, and as Helm refuses to."""

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from hyperpod_ebs.kit import command

ROOT: Final = Path(__file__).parents[2]
CHART: Final = ROOT / "charts" / "hyperpod-ebs"
HELM: Final = ROOT / ".tools" / "bin" / "helm"

SNAPSHOTS: Final = "snapshot.storage.k8s.io/v1"
KUBERNETES: Final = "1.36.3"

Object = dict[str, Any]  # what YAML holds
Values = Mapping[str, Any]  # the same


@dataclass(frozen=True, slots=True)
class Rendered:
    """Objects of one rendering."""

    objects: tuple[Object, ...]

    def all(self, kind: str) -> list[Object]:
        """Those of a kind."""
        return [one for one in self.objects if one["kind"] == kind]

    def one(self, kind: str, name: str) -> Object:
        """The one of that name."""
        [found] = [one for one in self.all(kind) if one["metadata"]["name"] == name]
        return found

    def has(self, kind: str, name: str) -> bool:
        """Whether there is one of that name."""
        return any(one["metadata"]["name"] == name for one in self.all(kind))

    def pod(self, kind: str, name: str) -> "Pod":
        """The pod that a workload makes."""
        return Pod(self.one(kind, name)["spec"]["template"])

    @property
    def controller(self) -> "Pod":
        """The controller's pod."""
        return self.pod("Deployment", "ebs-csi-controller")

    @property
    def node(self) -> "Pod":
        """The node's pod."""
        return self.pod("DaemonSet", "ebs-csi-node")

    @property
    def pods(self) -> Iterator["Pod"]:
        """Every workload's."""
        for one in [*self.all("Deployment"), *self.all("DaemonSet")]:
            yield Pod(one["spec"]["template"])


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod's template."""

    template: Object

    @property
    def spec(self) -> Object:
        """Its spec."""
        return self.template["spec"]  # type: ignore[no-any-return]  # YAML

    @property
    def containers(self) -> dict[str, Object]:
        """Its containers by name."""
        return {one["name"]: one for one in self.spec["containers"]}

    def arguments(self, container: str) -> list[str]:
        """What a container is started with."""
        return list(self.containers[container]["args"])

    def environment(self, container: str) -> dict[str, Any]:
        """A container's variables: a text, or where it comes from."""
        return {one["name"]: one.get("value", one.get("valueFrom")) for one in self.containers[container]["env"]}


def copy_chart(directory: Path, *, registry: str) -> Path:
    """A copy of the chart whose publisher has set this registry; empty for none."""
    chart = directory / "chart"
    shutil.copytree(CHART, chart)
    metadata = yaml.safe_load((chart / "Chart.yaml").read_text())
    metadata["annotations"]["image-registry"] = registry
    (chart / "Chart.yaml").write_text(yaml.safe_dump(metadata))
    return chart


async def render(
    values: Values | Path | None = None,
    *,
    chart: Path = CHART,
    apis: tuple[str, ...] = (SNAPSHOTS,),
    kubernetes: str = KUBERNETES,
) -> Rendered:
    """The objects for these values, on a cluster of this version that serves these APIs."""
    finished = await _helm("template", "ebs", str(chart), *_cluster(apis, kubernetes), values=values, ok=0)
    return Rendered(tuple(one for one in yaml.safe_load_all(finished.out) if one))


async def refused(values: Values, *, apis: tuple[str, ...] = (SNAPSHOTS,), kubernetes: str = KUBERNETES) -> str:
    """What Helm says on refusing these values."""
    finished = await _helm("template", "ebs", str(CHART), *_cluster(apis, kubernetes), values=values, ok=1)
    return finished.err


async def notes(values: Values, *, chart: Path = CHART) -> str:
    """What is shown after an installation, in a cluster that is as new as Helm is and has no CRDs."""
    words = ("install", "ebs", str(chart), "--dry-run=client", "--output=json", "--namespace=kube-system")
    finished = await _helm(*words, values=values, ok=0)
    return str(json.loads(finished.out)["info"]["notes"])


def _cluster(apis: tuple[str, ...], kubernetes: str) -> list[str]:
    return ["--namespace=kube-system", f"--kube-version={kubernetes}", *(f"--api-versions={one}" for one in apis)]


async def _helm(*words: str, values: Values | Path | None, ok: int) -> command.Finished:
    said = values.read_text() if isinstance(values, Path) else yaml.safe_dump(dict(values or {}))
    return await command.run([str(HELM), *words, "--values=-"], stdin=said.encode(), ok=frozenset({ok}))
