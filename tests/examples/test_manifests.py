"""The examples' manifests and READMEs, checked without a cluster."""

import importlib
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

EXAMPLES: Final = Path(__file__).parents[2] / "examples"
IMAGE: Final = "localhost/hyperpod-ebs-workload:latest"
MANIFESTS: Final = sorted(EXAMPLES.glob("*/*/*.yaml"))
DIRECTORIES: Final = sorted({path.parent for path in MANIFESTS})

Object = Mapping[str, Any]  # a Kubernetes object as JSON has it


def name_of(path: Path) -> str:
    """The path below examples/, as the id of a test."""
    return str(path.relative_to(EXAMPLES))


def objects(path: Path) -> list[Object]:
    """The objects of a file."""
    return list(yaml.safe_load_all(path.read_text()))


def pods(path: Path) -> Iterator[Object]:
    """The pod specs of a file."""
    return (found["spec"]["template"]["spec"] for found in objects(path) if found["kind"] in {"Job", "Deployment"})


def containers(path: Path) -> Iterator[Object]:
    """The containers of a file."""
    return (container for pod in pods(path) for container in [*pod.get("initContainers", ()), *pod["containers"]])


def test_there_are_six_examples() -> None:
    """AWS describes three uses for training and three for inference."""
    assert [name_of(path) for path in DIRECTORIES] == [
        "inference/container-cache",
        "inference/event-log",
        "inference/model-store",
        "training/checkpoint",
        "training/dataset",
        "training/shared-artifacts",
    ]


@pytest.mark.parametrize("path", MANIFESTS, ids=name_of)
def test_a_container_runs_an_existing_program_with_valid_arguments(path: Path) -> None:
    """A program can change without its manifest."""
    for container in containers(path):
        python, program = container["command"]
        words = [re.sub(r"\$\(\w+\)", "1", word) for word in container["args"]]

        assert (container["image"], container["imagePullPolicy"]) == (IMAGE, "IfNotPresent")
        assert python == "python3"
        module = importlib.import_module(Path(program).stem)
        assert Path(module.__file__ or "") == EXAMPLES / "workload" / Path(program).name
        options = module.arguments().parse_args(words)
        directory = getattr(options, "directory", None) or options.cache
        assert str(directory) in {mount["mountPath"] for mount in container["volumeMounts"]}


@pytest.mark.parametrize("path", MANIFESTS, ids=name_of)
def test_a_pod_has_only_the_rights_that_it_needs(path: Path) -> None:
    """Kubernetes documentation, "Pod Security Standards": restricted, which the namespaces enforce."""
    for pod in pods(path):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
    for container in containers(path):
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}
        with_token = any(mount["name"] == "account" for mount in container["volumeMounts"])
        assert with_token == container["command"][1].endswith("grow_claim.py")
    for role in (found for found in objects(path) if found["kind"] == "Role"):
        (rule,) = role["rules"]
        assert (rule["resources"], rule["verbs"], len(rule["resourceNames"])) == (
            ["persistentvolumeclaims"],
            ["get", "patch"],
            1,
        )


@pytest.mark.parametrize("directory", DIRECTORIES, ids=name_of)
def test_an_example_has_its_own_namespace_and_storage_class(directory: Path) -> None:
    """An example is deleted with its namespace, and does not affect the others."""
    all_objects = [found for path in sorted(directory.glob("*.yaml")) for found in objects(path)]
    (namespace,) = {found["metadata"]["name"] for found in all_objects if found["kind"] == "Namespace"}
    (storage_class,) = (found for found in all_objects if found["kind"] == "StorageClass")

    cluster_scoped = {"Namespace", "StorageClass", "VolumeSnapshotClass"}
    assert {found["metadata"]["namespace"] for found in all_objects if found["kind"] not in cluster_scoped} == {
        namespace
    }
    assert storage_class["provisioner"] == "ebs.csi.aws.com"
    used = re.findall(r"storageClassName: (\S+)", "".join(path.read_text() for path in directory.glob("*.yaml")))
    assert set(used) == {storage_class["metadata"]["name"]}


@pytest.mark.requirement("examples.readme")
@pytest.mark.parametrize("directory", DIRECTORIES, ids=name_of)
def test_a_readme_has_a_diagram_and_applies_every_manifest(directory: Path) -> None:
    """examples/README.md: manifests, and a README with a diagram, the commands and their output."""
    text = (directory / "README.md").read_text()
    commands = [shlex.split(line) for line in text.splitlines() if line.startswith("kubectl ")]
    applied = {word for words in commands if words[1] == "apply" for word in words[2:] if word != "-f"}

    assert "┌" in text or "──►" in text
    assert applied == {path.name for path in directory.glob("*.yaml")}
    for heading in ("## Run it", "## For real use", "## Clean up"):
        assert heading in text
