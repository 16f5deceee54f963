"""Render the chart with Helm: its objects, its refusals and its notes."""

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
    """The objects of one rendering."""

    objects: tuple[Object, ...]

    def all(self, kind: str) -> list[Object]:
        """The objects of a kind."""
        return [found for found in self.objects if found["kind"] == kind]

    def get(self, kind: str, name: str) -> Object:
        """The object of this kind and name."""
        [found] = [each for each in self.all(kind) if each["metadata"]["name"] == name]
        return found

    def has(self, kind: str, name: str) -> bool:
        """Whether there is an object of this kind and name."""
        return any(found["metadata"]["name"] == name for found in self.all(kind))

    def pod(self, kind: str, name: str) -> "Pod":
        """The pod of a workload."""
        return Pod(self.get(kind, name)["spec"]["template"])

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
        """The pods of all workloads."""
        for workload in [*self.all("Deployment"), *self.all("DaemonSet")]:
            yield Pod(workload["spec"]["template"])


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
        return {container["name"]: container for container in self.spec["containers"]}

    def arguments(self, container: str) -> list[str]:
        """The arguments of a container."""
        return list(self.containers[container]["args"])

    def environment(self, container: str) -> dict[str, Any]:
        """A container's environment variables: a value, or its source."""
        return {each["name"]: each.get("value", each.get("valueFrom")) for each in self.containers[container]["env"]}


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
    return Rendered(tuple(document for document in yaml.safe_load_all(finished.out) if document))


async def get_refusal(values: Values, *, apis: tuple[str, ...] = (SNAPSHOTS,), kubernetes: str = KUBERNETES) -> str:
    """Helm's error for values that the chart refuses."""
    finished = await _helm("template", "ebs", str(CHART), *_cluster(apis, kubernetes), values=values, ok=1)
    return finished.err


async def get_notes(values: Values, *, chart: Path = CHART) -> str:
    """The notes of an installation, on a cluster of Helm's default version without CRDs."""
    words = ("install", "ebs", str(chart), "--dry-run=client", "--output=json", "--namespace=kube-system")
    finished = await _helm(*words, values=values, ok=0)
    return str(json.loads(finished.out)["info"]["notes"])


def _cluster(apis: tuple[str, ...], kubernetes: str) -> list[str]:
    return ["--namespace=kube-system", f"--kube-version={kubernetes}", *(f"--api-versions={api}" for api in apis)]


async def _helm(*words: str, values: Values | Path | None, ok: int) -> command.Finished:
    text = values.read_text() if isinstance(values, Path) else yaml.safe_dump(dict(values or {}))
    return await command.run([str(HELM), *words, "--values=-"], stdin=text.encode(), ok=frozenset({ok}))
