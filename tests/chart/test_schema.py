"""values.schema.json: whoever misspells a value or gives it the wrong type hears its name."""

import json
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import jsonschema
import pytest
import yaml

from tests.support.helm_chart import CHART, ROOT, Values, refused, render

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


def over(defaults: Any, said: Any) -> Any:
    """The defaults with what is said, as Helm puts them together: a null takes a value out."""
    if not (isinstance(defaults, dict) and isinstance(said, dict)):
        return said
    names = [name for name in {**defaults, **said} if said.get(name, "") is not None]
    return {name: over(defaults.get(name), said[name]) if name in said else defaults[name] for name in names}


def judge(said: Values) -> None:
    """Hold what Helm would to the schema.

    Raises:
        ValidationError: It is refused.
    """
    jsonschema.validate(over(VALUES, said), SCHEMA, cls=jsonschema.Draft7Validator)


def needed(schema: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The path of each value that cannot do without one."""
    for name, inner in schema.get("properties", {}).items():
        if name in schema.get("required", ()):
            yield (*path, name)
        yield from needed(inner, (*path, name))


def spared(values: Any, schema: dict[str, Any]) -> Values:
    """Null for each value that can be."""
    inner = schema.get("properties", {})
    return {
        name: spared(value, inner[name]) if name in schema.get("required", ()) and isinstance(value, dict) else None
        for name, value in values.items()
        if name not in schema.get("required", ()) or isinstance(value, dict)
    }


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


@pytest.mark.requirement("chart.upstream-values")
@pytest.mark.parametrize("path", GROUPS, ids=lambda path: ".".join(path) or "top")
def test_a_misspelt_value_is_refused_in_every_group(path: tuple[str, ...]) -> None:
    """The issue: values.schema.json complete."""
    with pytest.raises(jsonschema.ValidationError, match="misspelt"):
        judge(at((*path, "misspelt"), 1))


@pytest.mark.requirement("chart.null-refused")
@pytest.mark.parametrize("path", list(needed(SCHEMA)), ids=".".join)
def test_a_value_that_is_needed_is_missed(path: tuple[str, ...]) -> None:
    """Ours: null takes a default out, and would be a panic of Helm's or a broken object."""
    with pytest.raises(jsonschema.ValidationError, match=f"'{path[-1]}' is a required property"):
        judge(at(path, None))


@pytest.mark.requirement("chart.null-refused")
async def test_helm_names_a_value_that_is_missed() -> None:
    """Ours: what a user sees."""
    said = await refused({"controller": {"batching": None, "serviceAccount": {"name": ""}}, "sidecars": None})

    assert "missing property 'batching'" in said
    assert "missing property 'sidecars'" in said
    assert "/controller/serviceAccount/name" in said


@pytest.mark.requirement("chart.null-refused")
async def test_every_other_value_can_be_null() -> None:
    """Upstream's files leave empty what they do not say, which is null; nothing of it is rendered as such."""
    apis = ("snapshot.storage.k8s.io/v1", "monitoring.coreos.com/v1")
    switched_on = {
        "controller": {"enableMetrics": True},
        "node": {"enableMetrics": True},
        "networkPolicy": {"enabled": True},
        "sidecars": {"nodeDriverRegistrar": {"enabled": True}, "livenessProbe": {"enabled": True}},
        "snapshotController": {"enabled": True},
    }

    rendered = await render(over(spared(VALUES, SCHEMA), switched_on), apis=apis)

    text = yaml.safe_dump(list(rendered.objects))
    assert "%!" not in text
    assert "<nil>" not in text
    assert "no value" not in text
    assert rendered.controller.spec["volumes"][0] == {"name": "socket-dir", "emptyDir": {}}


def test_a_further_daemonset_says_only_what_differs() -> None:
    """Upstream: the rest is the node's."""
    judge({"additionalDaemonSets": {"big": {"serviceMonitor": {"interval": "30s"}}, "plain": None}})


@pytest.mark.requirement("chart.upstream-values")
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
    Wrong("controller.serviceAccount.name", ""),
    Wrong("awsAccessSecret.name", ""),
    Wrong("controller.httpEndpoint", "localhost"),
    Wrong("sidecars.attacher.leaderElection.leaseDuration", "15"),
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
        judge(at(tuple(case.path.split(".")), case.value))


@pytest.mark.parametrize(
    "said",
    [
        {"sidecars": {"attacher": {"leaderElection": {"leaseDuration": "1.5m", "retryPeriod": "1m30s"}}}},
        {"storageClasses": [{"name": "a", "reclaimPolicy": None, "allowVolumeExpansion": None, "mountOptions": None}]},
        {"controller": {"httpEndpoint": "[::]:8080"}},
    ],
    ids=["durations as Go has them", "a class that leaves things open", "an address of IPv6"],
)
def test_what_is_right_is_taken(said: Values) -> None:
    """Ours: a schema that refuses what works is no help."""
    judge(said)


def test_every_value_is_documented() -> None:
    """Ours: a value without a word about it is one that nobody can use."""
    page = (ROOT / "docs" / "reference" / "chart-values.md").read_text()
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| `")]

    undocumented = [row[0] for row in rows if len(row[-1].removesuffix("|").strip()) < len("On.")]

    assert not undocumented
