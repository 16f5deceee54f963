"""Tables of the doctor's Kubernetes checks against the chart, and the scheduler's rules for a DaemonSet."""

from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from hyperpod_ebs.access.doctor.kubernetes_checks.rights import RIGHTS
from hyperpod_ebs.access.doctor.kubernetes_checks.scheduling import selects_node, taints_not_tolerated
from hyperpod_ebs.access.doctor.kubernetes_checks.tested_versions import (
    OLDEST_KUBERNETES,
    TESTED,
    difference,
    parse_version,
)
from hyperpod_ebs.access.doctor.kubernetes_checks.workloads import image_name, image_tag

ROOT: Final = Path(__file__).parent.parent.parent
CHART: Final = ROOT / "charts" / "hyperpod-ebs"
ROLES: Final = {
    "csi-provisioner": "ebs-external-provisioner-role",
    "csi-attacher": "ebs-external-attacher-role",
    "csi-resizer": "ebs-external-resizer-role",
    "csi-snapshotter": "ebs-external-snapshotter-role",
    "node": "ebs-csi-node-role",
}


def test_the_tested_versions_are_those_of_the_chart() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    images = [sidecar["image"] for sidecar in values["sidecars"].values() if "image" in sidecar]
    images.append(values["snapshotController"]["image"])

    assert {image_name(image["repository"]): image["tag"] for image in images} == TESTED


def test_the_oldest_kubernetes_is_that_of_the_chart() -> None:
    wanted = yaml.safe_load((CHART / "Chart.yaml").read_text())["kubeVersion"]

    assert parse_version(wanted.removeprefix(">=")) == OLDEST_KUBERNETES


@pytest.mark.parametrize("container", RIGHTS)
def test_the_rights_are_those_that_the_chart_grants(container: str) -> None:
    snapshot = (ROOT / "tests" / "chart" / "snapshots" / "hyperpod.yaml").read_text()
    documents = [document for document in yaml.safe_load_all(snapshot) if document]
    role = next(document for document in documents if document["metadata"]["name"] == ROLES[container])
    granted = {(group, resource, verb) for rule in role["rules"] for group, resource, verb in triples(rule)}

    needed = {(right.group, right.resource, verb) for right in RIGHTS[container] for verb in right.verbs.split()}

    assert needed == granted


def triples(rule: dict[str, list[str]]) -> list[tuple[str, str, str]]:
    """The group, resource and verb of everything that a rule grants."""
    return [
        (group, resource, verb)
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    ]


@pytest.mark.parametrize(
    ("image", "name", "tag"),
    [
        ("csi-attacher:v4.12.0", "csi-attacher", "v4.12.0"),
        ("registry:5000/a/csi-attacher", "csi-attacher", ""),
        ("registry:5000/a/csi-attacher:v1@sha256:ab", "csi-attacher", "v1"),
        ("", "", ""),
    ],
)
def test_an_image_has_a_name_and_a_tag(image: str, name: str, tag: str) -> None:
    assert (image_name(image), image_tag(image)) == (name, tag)


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ("v4.12.3-eks-1-33-3", ""),
        ("v4.13.0", ""),
        ("v4.9.0", "older than"),
        ("v5.0.0", "a later major version than"),
        ("latest", ""),
        ("", ""),
    ],
)
def test_a_sidecar_differs_if_it_is_older_or_of_another_major_version(tag: str, expected: str) -> None:
    assert difference("csi-attacher", tag) == expected


NODE: Final[dict[str, Any]] = {
    "metadata": {"name": "n", "labels": {"type": "gpu", "cores": "8"}},
    "spec": {"taints": [{"key": "a", "value": "b", "effect": "NoExecute"}, {"key": "c", "effect": "PreferNoSchedule"}]},
}


def affinity(*expressions: dict[str, Any]) -> dict[str, Any]:
    """A pod spec whose node affinity has these expressions."""
    required = {"nodeSelectorTerms": [{"matchExpressions": list(expressions)}]}
    return {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}}


@pytest.mark.parametrize(
    ("pod_spec", "expected"),
    [
        ({}, True),
        ({"nodeSelector": {"type": "gpu"}}, True),
        ({"nodeSelector": {"type": "cpu"}}, False),
        (affinity({"key": "type", "operator": "In", "values": ["gpu"]}), True),
        (affinity({"key": "type", "operator": "NotIn", "values": ["gpu"]}), False),
        (affinity({"key": "other", "operator": "NotIn", "values": ["gpu"]}), True),
        (affinity({"key": "type", "operator": "Exists"}), True),
        (affinity({"key": "type", "operator": "DoesNotExist"}), False),
        (affinity({"key": "cores", "operator": "Gt", "values": ["7"]}), True),
        (affinity({"key": "cores", "operator": "Gt", "values": ["8"]}), False),
        (affinity({"key": "cores", "operator": "Lt", "values": ["9"]}), True),
        (affinity({"key": "type", "operator": "Lt", "values": ["9"]}), False),
        (affinity(), False),
        (affinity({"key": "type", "operator": "Unknown"}), False),
    ],
)
def test_a_selector_matches_as_in_the_scheduler(pod_spec: dict[str, Any], expected: object) -> None:
    """Kubernetes documentation, Assigning Pods to Nodes."""
    assert selects_node(pod_spec, NODE) is expected


@pytest.mark.parametrize(
    ("tolerations", "expected"),
    [
        ([], ["a=b:NoExecute"]),
        ([{"operator": "Exists"}], []),
        ([{"key": "a", "operator": "Exists", "effect": "NoExecute"}], []),
        ([{"key": "a", "operator": "Exists", "effect": "NoSchedule"}], ["a=b:NoExecute"]),
        ([{"key": "a", "value": "b"}], []),
        ([{"key": "a", "value": "x"}], ["a=b:NoExecute"]),
    ],
)
def test_a_taint_is_tolerated_as_in_the_scheduler(tolerations: list[dict[str, str]], expected: list[str]) -> None:
    """Kubernetes documentation, Taints and Tolerations."""
    assert taints_not_tolerated({"tolerations": tolerations}, NODE) == expected
