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

EVERY_SIDECAR: Final = {
    "sidecars": {name: {"enabled": True} for name in ("livenessProbe", "nodeDriverRegistrar")},
    "snapshotController": {"enabled": True},
}
"""Values that enable the containers that are off by default."""

Object = dict[str, Any]  # what YAML holds
Values = Mapping[str, Any]  # the same


@dataclass(frozen=True, slots=True)
class Rendered:
    """The objects that the chart renders for one set of values."""

    objects: tuple[Object, ...]

    def all(self, kind: str) -> list[Object]:
        """The objects of a kind."""
        return [item for item in self.objects if item["kind"] == kind]

    def get(self, kind: str, name: str) -> Object:
        """The object of this kind and name."""
        [match] = [item for item in self.all(kind) if item["metadata"]["name"] == name]
        return match

    def has(self, kind: str, name: str) -> bool:
        """Whether there is an object of this kind and name."""
        return any(item["metadata"]["name"] == name for item in self.all(kind))

    def pod(self, kind: str, name: str) -> "Pod":
        """The pod template of a workload."""
        return Pod(self.get(kind, name)["spec"]["template"])

    @property
    def controller(self) -> "Pod":
        """The pod template of the controller."""
        return self.pod("Deployment", "ebs-csi-controller")

    @property
    def node(self) -> "Pod":
        """The pod template of the node process."""
        return self.pod("DaemonSet", "ebs-csi-node")

    @property
    def pods(self) -> Iterator["Pod"]:
        """The pod templates of all workloads."""
        for workload in [*self.all("Deployment"), *self.all("DaemonSet")]:
            yield Pod(workload["spec"]["template"])


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod template."""

    template: Object

    @property
    def spec(self) -> Object:
        """Its spec."""
        return self.template["spec"]  # type: ignore[no-any-return]  # YAML

    @property
    def containers(self) -> dict[str, Object]:
        """Its containers by name."""
        return {container["name"]: container for container in self.spec["containers"]}

    @property
    def images(self) -> dict[str, str]:
        """The image of each container."""
        return {name: container["image"] for name, container in self.containers.items()}

    def arguments(self, container: str) -> list[str]:
        """The arguments of a container."""
        return list(self.containers[container]["args"])

    def environment(self, container: str) -> dict[str, Any]:
        """The environment variables of a container: the value of each, or where Kubernetes gets it from."""
        variables = self.containers[container]["env"]
        return {variable["name"]: variable.get("value", variable.get("valueFrom")) for variable in variables}


def copy_chart(directory: Path, *, registry: str) -> Path:
    """Copy the chart into a directory, and set the publisher's registry in it; empty for none."""
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
    """Render the chart with these values, for a cluster of this version that serves these APIs."""
    finished = await _helm("template", "ebs", str(chart), *_cluster(apis, kubernetes), values=values, ok=0)
    return Rendered(tuple(document for document in yaml.safe_load_all(finished.out) if document))


async def get_refusal(values: Values, *, apis: tuple[str, ...] = (SNAPSHOTS,), kubernetes: str = KUBERNETES) -> str:
    """Render the chart with values that it must refuse; Helm's error."""
    finished = await _helm("template", "ebs", str(CHART), *_cluster(apis, kubernetes), values=values, ok=1)
    return finished.err


async def get_notes(values: Values, *, chart: Path = CHART) -> str:
    """The notes of an installation, for a cluster of Helm's default version without CRDs."""
    return (await get_release(values, chart=chart))[1]


async def get_release(values: Values, *, chart: Path = CHART) -> tuple[str, str]:
    """The manifest of an installation, with its hooks, and its notes, for a cluster as in `get_notes`."""
    words = ("install", "ebs", str(chart), "--dry-run=client", "--output=json", "--namespace=kube-system")
    release = json.loads((await _helm(*words, values=values, ok=0)).out)
    hooks = [hook["manifest"] for hook in release.get("hooks") or ()]
    return "---\n".join([release["manifest"], *hooks]), str(release["info"]["notes"])


def _cluster(apis: tuple[str, ...], kubernetes: str) -> list[str]:
    return ["--namespace=kube-system", f"--kube-version={kubernetes}", *(f"--api-versions={api}" for api in apis)]


async def _helm(*words: str, values: Values | Path | None, ok: int) -> command.Finished:
    text = values.read_text() if isinstance(values, Path) else yaml.safe_dump(dict(values or {}))
    return await command.run([str(HELM), *words, "--values=-"], stdin=text.encode(), ok=frozenset({ok}))
