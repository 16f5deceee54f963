"""values.schema.json: a misspelt value, or one of the wrong type, is refused by its name."""

import json
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import jsonschema
import pytest
import yaml

from tests.support.helm_chart import CHART, ROOT, Values, get_refusal, render

SCHEMA: Final = json.loads((CHART / "values.schema.json").read_text())
VALUES: Final = yaml.safe_load((CHART / "values.yaml").read_text())


def groups(schema: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The path of each group whose value names are fixed."""
    if schema.get("additionalProperties") is False:
        yield path
    for name, inner in schema.get("properties", {}).items():
        yield from groups(inner, (*path, name))


GROUPS: Final = list(groups(SCHEMA))


def values_with(path: tuple[str, ...], value: Any) -> Values:
    """Values with only the value at this path."""
    for name in reversed(path):
        value = {name: value}
    return value  # type: ignore[no-any-return]  # a map, for every path here has a name


def merge(defaults: Any, values: Any) -> Any:
    """The defaults overridden by `values`, as Helm merges them: null removes a value."""
    if not (isinstance(defaults, dict) and isinstance(values, dict)):
        return values
    names = [name for name in {**defaults, **values} if values.get(name, "") is not None]
    return {name: merge(defaults.get(name), values[name]) if name in values else defaults[name] for name in names}


def validate(values: Values) -> None:
    """Validate the merged values as Helm does.

    Raises:
        ValidationError: The schema refuses them.
    """
    jsonschema.validate(merge(VALUES, values), SCHEMA, cls=jsonschema.Draft7Validator)


def required_paths(schema: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The path of each value that cannot be null."""
    for name, inner in schema.get("properties", {}).items():
        if name in schema.get("required", ()):
            yield (*path, name)
        yield from required_paths(inner, (*path, name))


def nulls(values: Any, schema: dict[str, Any]) -> Values:
    """Null for each value that can be null."""
    inner = schema.get("properties", {})
    return {
        name: nulls(value, inner[name]) if name in schema.get("required", ()) and isinstance(value, dict) else None
        for name, value in values.items()
        if name not in schema.get("required", ()) or isinstance(value, dict)
    }


def test_the_schema_accepts_the_defaults() -> None:
    """Several defaults are null."""
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    jsonschema.validate(VALUES, SCHEMA, cls=jsonschema.Draft7Validator)


def test_the_schema_has_every_default() -> None:
    """The schema refuses a value that it does not define."""

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
    """A misspelt value would have no effect without a schema for its group."""
    with pytest.raises(jsonschema.ValidationError, match="misspelt"):
        validate(values_with((*path, "misspelt"), 1))


@pytest.mark.requirement("chart.null-refused")
@pytest.mark.parametrize("path", list(required_paths(SCHEMA)), ids=".".join)
def test_null_is_refused_where_a_value_is_required(path: tuple[str, ...]) -> None:
    """Null removes a default; the template would panic or render a broken object."""
    with pytest.raises(jsonschema.ValidationError, match=f"'{path[-1]}' is a required property"):
        validate(values_with(path, None))


@pytest.mark.requirement("chart.null-refused")
async def test_helm_names_a_missing_value() -> None:
    """Helm's own validator writes the error that a user sees."""
    refusal = await get_refusal({"controller": {"batching": None, "serviceAccount": {"name": ""}}, "sidecars": None})

    assert "missing property 'batching'" in refusal
    assert "missing property 'sidecars'" in refusal
    assert "/controller/serviceAccount/name" in refusal


@pytest.mark.requirement("chart.null-refused")
async def test_every_other_value_can_be_null() -> None:
    """Upstream's files have empty values, which are null; none is rendered as null."""
    apis = ("snapshot.storage.k8s.io/v1", "monitoring.coreos.com/v1")
    switched_on = {
        "controller": {"enableMetrics": True},
        "node": {"enableMetrics": True},
        "networkPolicy": {"enabled": True},
        "sidecars": {"nodeDriverRegistrar": {"enabled": True}, "livenessProbe": {"enabled": True}},
        "snapshotController": {"enabled": True},
    }

    rendered = await render(merge(nulls(VALUES, SCHEMA), switched_on), apis=apis)

    text = yaml.safe_dump(list(rendered.objects))
    assert "%!" not in text
    assert "<nil>" not in text
    assert "no value" not in text
    assert rendered.controller.spec["volumes"][0] == {"name": "socket-dir", "emptyDir": {}}


def test_an_additional_daemonset_needs_only_the_values_that_differ() -> None:
    """Upstream's value additionalDaemonSets: the values that it omits are those of `node`."""
    validate({"additionalDaemonSets": {"big": {"serviceMonitor": {"interval": "30s"}}, "plain": None}})


@pytest.mark.requirement("chart.upstream-values")
async def test_helm_names_a_misspelt_value() -> None:
    """Helm's own validator writes the error that a user sees."""
    refusal = await get_refusal({"controller": {"replicas": 3}})

    assert "/controller" in refusal
    assert "replicas" in refusal


class WrongValue(NamedTuple):
    """A value of a wrong type or out of range."""

    path: str
    value: Any

    @property
    def id(self) -> str:
        """The value as a phrase."""
        return f"{self.path} is {self.value!r:.60}"


WRONG_VALUES: Final = [
    WrongValue("controller.replicaCount", 0),
    WrongValue("controller.loggingFormat", "xml"),
    WrongValue("controller.logLevel", "high"),
    WrongValue("hyperpod.account", 111122223333),
    WrongValue("hyperpod.account", "1111"),
    WrongValue("hyperpod.clusterArn", "arn:aws:eks:us-west-2:111122223333:cluster/training"),
    WrongValue("hyperpod.eksClusterName", "arn:aws:eks:us-west-2:111122223333:cluster/training"),
    WrongValue("controller.k8sTagClusterId", 107 * "a"),
    WrongValue("hyperpod.role.through", "magic"),
    WrongValue("embeddedCloud.endpoint", "10.0.0.1:4566"),
    WrongValue("node.volumeAttachLimit", -1),
    WrongValue("node.kubeletPath", "var/lib/kubelet"),
    WrongValue("nodeAllocatableUpdatePeriodSeconds", 5),
    WrongValue("controller.extraVolumeTags", {"team": 42}),
    WrongValue("controller.serviceAccount.name", ""),
    WrongValue("awsAccessSecret.name", ""),
    WrongValue("controller.httpEndpoint", "localhost"),
    WrongValue("sidecars.attacher.leaderElection.leaseDuration", "15"),
    WrongValue("storageClasses", [{"parameters": {}}]),
    WrongValue("storageClasses", [{"name": "a", "reclaimpolicy": "Retain"}]),
    WrongValue("volumeSnapshotClasses", [{"name": "a"}]),
    WrongValue("additionalDaemonSets", {"big": {"volumeAttachLimits": 3}}),
    WrongValue("networkPolicy.egressPorts", [0]),
]


@pytest.mark.parametrize("case", WRONG_VALUES, ids=lambda case: case.id)
def test_a_wrong_value_is_refused(case: WrongValue) -> None:
    """Without the schema, Kubernetes or the driver would report an error without the value's name."""
    with pytest.raises(jsonschema.ValidationError):
        validate(values_with(tuple(case.path.split(".")), case.value))


@pytest.mark.parametrize(
    "values",
    [
        {"sidecars": {"attacher": {"leaderElection": {"leaseDuration": "1.5m", "retryPeriod": "1m30s"}}}},
        {"storageClasses": [{"name": "a", "reclaimPolicy": None, "allowVolumeExpansion": None, "mountOptions": None}]},
        {"controller": {"httpEndpoint": "[::]:8080"}},
    ],
    ids=["durations of Go", "a class with nulls", "an IPv6 address"],
)
def test_a_right_value_is_accepted(values: Values) -> None:
    """A schema must not refuse what works."""
    validate(values)


def test_every_value_is_documented() -> None:
    """A user cannot use a value without a description."""
    page = (ROOT / "docs" / "reference" / "chart-values.md").read_text()
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| `")]

    undocumented = [row[0] for row in rows if len(row[-1].removesuffix("|").strip()) < len("On.")]

    assert not undocumented
