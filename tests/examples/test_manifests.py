"""The examples' manifests, as far as they can be held to their word without a cluster."""

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
    """As a test's id."""
    return str(path.relative_to(EXAMPLES))


def objects(path: Path) -> list[Object]:
    """The objects of a file."""
    return list(yaml.safe_load_all(path.read_text()))


def pods(path: Path) -> Iterator[Object]:
    """The pod specs of a file."""
    return (one["spec"]["template"]["spec"] for one in objects(path) if one["kind"] in {"Job", "Deployment"})


def containers(path: Path) -> Iterator[Object]:
    """The containers of a file."""
    return (one for pod in pods(path) for one in [*pod.get("initContainers", ()), *pod["containers"]])


def test_there_are_the_six_uses_of_the_guide() -> None:
    """The guide: three of training, three of inference."""
    assert [name_of(path) for path in DIRECTORIES] == [
        "inference/container-cache",
        "inference/event-log",
        "inference/model-store",
        "training/checkpoint",
        "training/dataset",
        "training/shared-artifacts",
    ]


@pytest.mark.parametrize("path", MANIFESTS, ids=name_of)
def test_a_container_runs_a_program_that_there_is_with_words_that_it_takes(path: Path) -> None:
    """Ours: a manifest does not rot beside its program."""
    for container in containers(path):
        python, program = container["command"]
        words = [re.sub(r"\$\(\w+\)", "1", word) for word in container["args"]]

        assert (container["image"], container["imagePullPolicy"]) == (IMAGE, "IfNotPresent")
        assert python == "python3"  # wherever the image has it
        module = importlib.import_module(Path(program).stem)
        assert Path(module.__file__ or "") == EXAMPLES / "workload" / Path(program).name
        directory = getattr(asked := module.arguments().parse_args(words), "directory", None) or asked.cache
        assert str(directory) in {mount["mountPath"] for mount in container["volumeMounts"]}


@pytest.mark.parametrize("path", MANIFESTS, ids=name_of)
def test_a_pod_asks_for_no_more_rights_than_it_needs(path: Path) -> None:
    """Kubernetes: the restricted pod security standard, which the namespaces enforce."""
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
        assert with_token == container["command"][1].endswith("claim.py")
    for role in (one for one in objects(path) if one["kind"] == "Role"):
        (rule,) = role["rules"]
        assert (rule["resources"], rule["verbs"], len(rule["resourceNames"])) == (
            ["persistentvolumeclaims"],
            ["get", "patch"],
            1,
        )


@pytest.mark.parametrize("directory", DIRECTORIES, ids=name_of)
def test_an_example_is_in_a_namespace_and_a_storage_class_of_its_own(directory: Path) -> None:
    """Ours: it goes with its namespace, and harms no other."""
    all_objects = [one for path in sorted(directory.glob("*.yaml")) for one in objects(path)]
    (namespace,) = {one["metadata"]["name"] for one in all_objects if one["kind"] == "Namespace"}
    (storage_class,) = (one for one in all_objects if one["kind"] == "StorageClass")

    wide = {"Namespace", "StorageClass", "VolumeSnapshotClass"}
    assert {one["metadata"]["namespace"] for one in all_objects if one["kind"] not in wide} == {namespace}
    assert storage_class["provisioner"] == "ebs.csi.aws.com"
    used = re.findall(r"storageClassName: (\S+)", "".join(path.read_text() for path in directory.glob("*.yaml")))
    assert set(used) == {storage_class["metadata"]["name"]}


@pytest.mark.requirement("examples.readme")
@pytest.mark.parametrize("directory", DIRECTORIES, ids=name_of)
def test_a_readme_has_a_picture_and_applies_every_manifest(directory: Path) -> None:
    """The issue: manifests, one README with a picture of what happens."""
    text = (directory / "README.md").read_text()
    commands = [shlex.split(line) for line in text.splitlines() if line.startswith("kubectl ")]
    applied = {word for words in commands if words[1] == "apply" for word in words[2:] if word != "-f"}

    assert "┌" in text or "──►" in text
    assert applied == {path.name for path in directory.glob("*.yaml")}
    for heading in ("## Run it", "## For real use", "## Clean up"):
        assert heading in text
