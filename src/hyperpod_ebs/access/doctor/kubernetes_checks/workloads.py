"""The DaemonSets and Deployments of CSI drivers in the cluster, grouped by their release."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from hyperpod_ebs.access.doctor.context import Moot, Object
from hyperpod_ebs.access.doctor.kubernetes_checks.objects import ClusterObjects, full_name, labels_of
from hyperpod_ebs.driver.model.kubernetes_node import DRIVER

PLUGIN: Final = "ebs-plugin"
"""The name of the driver's container, in this driver's pods and in upstream's."""

OWN: Final = "hyperpod-ebs"
UPSTREAM: Final = "aws-ebs-csi-driver"

_SOCKET_DIRECTORY: Final = f"plugins/{DRIVER}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A DaemonSet or a Deployment."""

    kind: Literal["DaemonSet", "Deployment"]
    item: Object

    def __str__(self) -> str:
        """Its kind, namespace and name."""
        return f"{self.kind} {full_name(self.item)}"

    @property
    def namespace(self) -> str:
        """Its namespace."""
        return str(self.item["metadata"].get("namespace", ""))

    @property
    def pod_spec(self) -> Object:
        """The spec of its pods."""
        spec: Object = self.item.get("spec", {}).get("template", {}).get("spec") or {}
        return spec

    @property
    def containers(self) -> Sequence[Object]:
        """The containers of its pods."""
        return self.pod_spec.get("containers") or ()

    @property
    def service_account(self) -> str:
        """The service account of its pods."""
        return str(self.pod_spec.get("serviceAccountName") or "default")

    @property
    def images(self) -> list[str]:
        """The images of its containers."""
        return [str(container.get("image", "")) for container in self.containers]

    def container(self, name: str) -> Object | None:
        """The container with this name."""
        return next((container for container in self.containers if container.get("name") == name), None)

    @property
    def serves_driver(self) -> bool:
        """Whether its pods are controllers or node services of the driver `ebs.csi.aws.com`, on Linux."""
        if (self.pod_spec.get("nodeSelector") or {}).get("kubernetes.io/os") == "windows":
            return False
        if self.kind == "Deployment":
            has_image = any(image_name(image) in {OWN, UPSTREAM} for image in self.images)
            return has_image or self.container(PLUGIN) is not None
        paths = [(volume.get("hostPath") or {}).get("path", "") for volume in self.pod_spec.get("volumes") or ()]
        words = [word for container in self.containers for word in (*arguments(container), *commands(container))]
        return any(_SOCKET_DIRECTORY in text for text in (*paths, *words))

    @property
    def product(self) -> str:
        """The driver that it runs: this one, upstream's, or the name of its first image."""
        labels, images = labels_of(self.item), {image_name(image) for image in self.images}
        chart = labels.get("helm.sh/chart", "")
        if labels.get("app.kubernetes.io/name") == OWN or chart.startswith(f"{OWN}-") or OWN in images:
            return OWN
        if UPSTREAM in {labels.get("app.kubernetes.io/name"), *images} or chart.startswith(f"{UPSTREAM}-"):
            return UPSTREAM
        return next((image for image in self.images if image), "an unknown image")


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """The workloads of one release of a driver that is called `ebs.csi.aws.com`."""

    product: str
    release: str
    """Its Helm release or EKS add-on; empty if its labels name none."""

    workloads: tuple[Workload, ...]

    @property
    def daemonsets(self) -> list[Workload]:
        """Its DaemonSets, one for each group of nodes."""
        return [workload for workload in self.workloads if workload.kind == "DaemonSet"]

    @property
    def controllers(self) -> list[Workload]:
        """Its Deployments with the controller's containers."""
        return [workload for workload in self.workloads if workload.kind == "Deployment"]

    def __str__(self) -> str:
        """The driver and its release."""
        return f"{self.product} (release {self.release})" if self.release else self.product


def list_workloads(objects: ClusterObjects) -> list[Workload]:
    """All DaemonSets and Deployments."""
    daemonsets = [Workload(kind="DaemonSet", item=item) for item in objects["daemonsets"]]
    return [*daemonsets, *(Workload(kind="Deployment", item=item) for item in objects["deployments"])]


def list_installations(objects: ClusterObjects) -> list[Installation]:
    """Each installation of a driver with this name: this driver's first, with a controller before without one."""
    groups: dict[tuple[str, str], list[Workload]] = {}
    for workload in filter(lambda found: found.serves_driver, list_workloads(objects)):
        release = labels_of(workload.item).get("app.kubernetes.io/instance", "")
        groups.setdefault((workload.product, release or str(workload)), []).append(workload)
    found = [
        Installation(
            product=product,
            release=labels_of(workloads[0].item).get("app.kubernetes.io/instance", ""),
            workloads=tuple(workloads),
        )
        for (product, _), workloads in groups.items()
    ]
    return sorted(found, key=lambda each: (each.product != OWN, not each.controllers, not each.daemonsets))


def own_installation(objects: ClusterObjects) -> Installation | None:
    """The installation of this driver; None if the cluster has none."""
    return next((found for found in list_installations(objects) if found.product == OWN), None)


def present_installation(objects: ClusterObjects) -> Installation:
    """The installation of this driver.

    Raises:
        Moot: The cluster has none, which the check of the installation reports.
    """
    if (own := own_installation(objects)) is None:
        raise Moot
    return own


def arguments(container: Object) -> list[str]:
    """The container's arguments."""
    return [str(word) for word in container.get("args") or ()]


def commands(container: Object) -> list[str]:
    """The container's command."""
    return [str(word) for word in container.get("command") or ()]


def flags(container: Object) -> Mapping[str, str]:
    """The container's flags of the form `--name=value`; of a flag that is given twice, the last value."""
    words = [word.lstrip("-").partition("=") for word in arguments(container) if word.startswith("-")]
    return {name: value if equals else "true" for name, equals, value in words}


def image_name(image: str) -> str:
    """The last part of an image's name, without registry, tag and digest."""
    return image.partition("@")[0].rpartition("/")[2].partition(":")[0]


def image_tag(image: str) -> str:
    """The image's tag; empty if it has none."""
    return image.partition("@")[0].rpartition("/")[2].partition(":")[2]


def pods_of(workloads: Iterable[Workload], pods: Sequence[Object]) -> Iterator[tuple[Workload, list[Object]]]:
    """The pods that each workload's selector matches."""
    for workload in workloads:
        selector = (workload.item.get("spec", {}).get("selector") or {}).get("matchLabels") or {}
        matching = [
            pod
            for pod in pods
            if pod["metadata"].get("namespace", "") == workload.namespace
            and all(labels_of(pod).get(key) == value for key, value in selector.items())
        ]
        yield workload, matching if selector else []
