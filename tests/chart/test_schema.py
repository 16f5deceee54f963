"""values.schema.json: whoever misspells a value or gives it the wrong type hears its name."""

import json
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import jsonschema
import pytest
import yaml

from charted import CHART, ROOT, Values, refused

SCHEMA: Final = json.loads((CHART / "values.schema.json").read_text())
VALUES: Final = yaml.safe_load((CHART / "values.yaml").read_text())


def groups(schema: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The path of each group of values that is ours to name."""
    if schema.get("additionalProperties") is False:
        yield path
    for name, inner in schema.get("properties", {}).items():
        yield from groups(inner, (*path, name))


GROUPS: Final = list(groups(SCHEMA))


def at(path: tuple[str, ...], value: Any) -> Values:
    """Values with one thing said."""
    for name in reversed(path):
        value = {name: value}
    return value  # type: ignore[no-any-return]  # a map, for every path here has a name


def test_the_defaults_keep_to_the_schema() -> None:
    """Ours: walked whole, nulls included."""
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    jsonschema.validate(VALUES, SCHEMA, cls=jsonschema.Draft7Validator)


def test_every_default_has_its_place_in_the_schema() -> None:
    """Ours: a value that the schema does not know would be refused by name; this says so before a user does."""

    def walk(values: Any, schema: dict[str, Any], path: str) -> None:
        if not isinstance(values, dict) or schema.get("additionalProperties") is not False:
            return
        assert set(values) <= set(schema["properties"]), path
        for name, inner in values.items():
            walk(inner, schema["properties"][name], f"{path}.{name}")

    walk(VALUES, SCHEMA, "")


@pytest.mark.parametrize("path", GROUPS, ids=lambda path: ".".join(path) or "top")
def test_a_misspelt_value_is_refused_in_every_group(path: tuple[str, ...]) -> None:
    """The issue: values.schema.json complete."""
    with pytest.raises(jsonschema.ValidationError, match="misspelt"):
        jsonschema.validate(at((*path, "misspelt"), 1), SCHEMA, cls=jsonschema.Draft7Validator)


async def test_helm_names_a_misspelt_value() -> None:
    """Ours: what a user sees, by Helm's own validator."""
    said = await refused({"controller": {"replicas": 3}})

    assert "/controller" in said
    assert "replicas" in said


class Wrong(NamedTuple):
    """A value of a wrong type or out of range."""

    path: str
    value: Any

    @property
    def id(self) -> str:
        """What is wrong, as a phrase."""
        return f"{self.path} is {self.value!r}"


WRONG: Final = [
    Wrong("controller.replicaCount", 0),
    Wrong("controller.loggingFormat", "xml"),
    Wrong("controller.logLevel", "high"),
    Wrong("hyperpod.account", 111122223333),
    Wrong("hyperpod.account", "1111"),
    Wrong("hyperpod.clusterArn", "arn:aws:eks:us-west-2:111122223333:cluster/training"),
    Wrong("hyperpod.role.through", "magic"),
    Wrong("embeddedCloud.endpoint", "10.0.0.1:4566"),
    Wrong("node.volumeAttachLimit", -1),
    Wrong("node.kubeletPath", "var/lib/kubelet"),
    Wrong("nodeAllocatableUpdatePeriodSeconds", 5),
    Wrong("controller.extraVolumeTags", {"team": 42}),
    Wrong("storageClasses", [{"parameters": {}}]),
    Wrong("storageClasses", [{"name": "a", "reclaimpolicy": "Retain"}]),
    Wrong("volumeSnapshotClasses", [{"name": "a"}]),
    Wrong("additionalDaemonSets", {"big": {"volumeAttachLimits": 3}}),
    Wrong("networkPolicy.egressPorts", [0]),
]


@pytest.mark.parametrize("case", WRONG, ids=lambda case: case.id)
def test_a_wrong_value_is_refused(case: Wrong) -> None:
    """Ours."""
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(at(tuple(case.path.split(".")), case.value), SCHEMA, cls=jsonschema.Draft7Validator)


def test_every_value_is_documented() -> None:
    """Ours: a value without a word about it is one that nobody can use."""
    page = (ROOT / "docs" / "reference" / "chart-values.md").read_text()
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| `")]

    undocumented = [row[0] for row in rows if len(row[-1].removesuffix("|").strip()) < len("On.")]

    assert not undocumented
