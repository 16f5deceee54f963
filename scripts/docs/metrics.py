"""The page of all metrics, made from a process' own metrics."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from hyperpod_ebs.driver.model.aws_request import LineState
from hyperpod_ebs.driver.observe.metrics import Metrics

PAGE: Final = "docs/reference/metrics.md"
LINE: Final = LineState(
    operation="CreateVolume",
    tokens=1.0,
    capacity=1.0,
    rate=1.0,
    documented_rate=1.0,
    waiting=0,
    on_the_way=0,
    throttled=0,
    next_subjects=(),
)
HEAD: Final = """\
<!-- Made from src/hyperpod_ebs/driver/observe/metrics.py by make generate; do not edit. -->

# Metrics

Each process serves its metrics as Prometheus text at `/metrics` of `--http-endpoint`. The names are the upstream
driver's where it has the metric. The names `cloudprovider_aws_*` are served only with `--deprecated-metrics`.

| metric | type | labels | meaning |
|---|---|---|---|
"""
BUCKETS: Final = """
## Buckets

Upper bounds in seconds; the last bucket has none.

| metric | buckets |
|---|---|
"""


def page() -> str:
    """The whole page."""
    families = list(_families())
    return HEAD + "".join(map(_row, families)) + BUCKETS + "".join(_buckets(family) for family in families)


def _families() -> Iterator[Metric]:
    """Every metric, with a sample: labels show only on samples."""
    metrics = Metrics("0", lambda: "", deprecated=True)
    metrics.count_csi_call("CreateVolume", "OK", 0.0)
    metrics.count_aws_call("CreateVolume", 0.0)
    metrics.count_aws_call("CreateVolume", 0.0, "VolumeLimitExceeded")
    metrics.count_aws_call("CreateVolume", 0.0, "RequestLimitExceeded", throttled=True)
    metrics.measure_turn("CreateVolume", 0.0)
    metrics.show_lines(lambda: [LINE])
    yield from text_string_to_metric_families(metrics.page().text)


def _row(family: Metric) -> str:
    labels = ", ".join(f"`{label}`" for label in family.samples[0].labels if label != "le")
    name = family.samples[0].name if family.type == "counter" else family.name
    return f"| `{name}` | {family.type} | {labels} | {family.documentation} |\n"


def _buckets(family: Metric) -> str:
    bounds = [sample.labels["le"] for sample in family.samples if "le" in sample.labels]
    return f"| `{family.name}` | {', '.join(bounds[:-1])} |\n" if bounds else ""


def write(root: Path) -> None:
    """Write the page below a directory."""
    (root / PAGE).parent.mkdir(parents=True, exist_ok=True)
    (root / PAGE).write_text(page())
