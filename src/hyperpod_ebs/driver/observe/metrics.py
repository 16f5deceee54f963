"""Prometheus metrics. A metric that the upstream driver has too has the same name here.

Only a process that serves metrics imports this module: the client library takes about 4 MiB of memory.
Calls to AWS are counted one by one, including those that the SDK makes on its own for credentials.
The library's metrics of the Python process are left out.
"""

import platform
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Protocol, Self

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from hyperpod_ebs.driver.observe.httpd import Page

AWS_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
"""Seconds. The same as upstream's, so that its dashboards keep working."""

CSI_BUCKETS: Final = (0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 180)
"""Seconds. A call lasts as long as AWS or a disk takes, up to the sidecars' deadlines."""


WAIT_BUCKETS: Final = (0.005, 0.05, 0.25, 1, 5, 15, 30, 60, 120, 300, 900)
"""Seconds. A call goes at once, or waits for as long as the account's budget takes."""


class CallLine(Protocol):
    """The calls of one AWS operation that wait for their turn, and what is known of the operation's budget."""

    @property
    def operation(self) -> str:
        """AWS's name of the operation."""
        ...

    @property
    def waiting(self) -> int:
        """The calls that wait."""
        ...

    @property
    def tokens(self) -> float:
        """The calls that can be sent at once; negative if more are on the way than AWS accepts."""
        ...

    @property
    def rate(self) -> float:
        """The calls a second that the budget allows."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _AwsMetrics:
    """Metrics of the calls to AWS, under one set of names."""

    seconds: Histogram
    errors: Counter | Gauge
    error_label_count: int
    """2 if an error has the labels operation and code, 1 if it has only the operation."""
    throttles: Counter

    @classmethod
    def with_upstream_names(cls, registry: CollectorRegistry) -> Self:
        """Create the metrics with the names and labels of the upstream driver's code."""
        name = "aws_ebs_csi_api_request"
        return cls(
            seconds=Histogram(
                f"{name}_duration_seconds",
                "Duration of successful AWS calls",
                ("request",),
                buckets=AWS_BUCKETS,
                registry=registry,
            ),
            errors=Counter(f"{name}_errors_total", "Failed AWS calls", ("request", "code"), registry=registry),
            error_label_count=2,
            throttles=Counter(f"{name}_throttles_total", "Throttled AWS calls", ("operation_name",), registry=registry),
        )

    @classmethod
    def with_in_tree_names(cls, registry: CollectorRegistry) -> Self:
        """Create the metrics with the names of Kubernetes' former in-tree driver, for --deprecated-metrics."""
        name = "cloudprovider_aws_api"
        return cls(
            seconds=Histogram(
                f"{name}_request_duration_seconds",
                "Duration of successful AWS calls",
                ("request",),
                buckets=AWS_BUCKETS,
                registry=registry,
            ),
            # Not a Counter: the library would append _total, which this name never had.
            errors=Gauge(f"{name}_request_errors", "Failed AWS calls", ("request",), registry=registry),
            error_label_count=1,
            throttles=Counter(
                f"{name}_throttled_requests_total", "Throttled AWS calls", ("operation_name",), registry=registry
            ),
        )


class Metrics:
    """The metrics of one process."""

    def __init__(self, version: str, problem: Callable[[], str], *, deprecated: bool = False) -> None:
        """`problem` returns what is wrong now, or ""; `deprecated` adds the in-tree driver's names."""
        disable_created_metrics()  # type: ignore[no-untyped-call] # the library does not annotate it
        self._registry = CollectorRegistry(auto_describe=False)
        self._csi_seconds = Histogram(
            "aws_ebs_csi_rpc_duration_seconds",
            "Duration of CSI calls, by method and gRPC code",
            ("method", "code"),
            buckets=CSI_BUCKETS,
            registry=self._registry,
        )
        self._aws = [_AwsMetrics.with_upstream_names(self._registry)]
        if deprecated:
            self._aws.append(_AwsMetrics.with_in_tree_names(self._registry))
        name = "aws_ebs_csi_api"
        self._wait_seconds = Histogram(
            f"{name}_wait_seconds",
            "Time for which AWS calls waited for their turn",
            ("request",),
            buckets=WAIT_BUCKETS,
            registry=self._registry,
        )
        self._waiting = Gauge(
            f"{name}_waiting_calls", "AWS calls that wait for their turn", ("request",), registry=self._registry
        )
        self._tokens = Gauge(
            f"{name}_budget_calls",
            "AWS calls that the driver can send at once, as far as it knows",
            ("request",),
            registry=self._registry,
        )
        self._rate = Gauge(
            f"{name}_budget_calls_per_second",
            "AWS calls a second that the account's limit allows the driver, as it has learned",
            ("request",),
            registry=self._registry,
        )
        self._lines: Callable[[], Iterable[CallLine]] = tuple
        build = Gauge(
            "aws_ebs_csi_build_info",
            "Always 1; the labels are the versions",
            ("version", "python"),
            registry=self._registry,
        )
        build.labels(version, platform.python_version()).set(1)
        healthy = Gauge("aws_ebs_csi_healthy", "1 if /healthz returns ok, otherwise 0", registry=self._registry)
        healthy.set_function(lambda: 0.0 if problem() else 1.0)

    def show_lines(self, lines: Callable[[], Iterable[CallLine]]) -> None:
        """Show the lines of AWS calls that `lines` returns."""
        self._lines = lines

    def measure_turn(self, operation: str, seconds: float) -> None:
        """Measure an AWS call that was sent after waiting for `seconds`."""
        self._wait_seconds.labels(operation).observe(seconds)

    def count_csi_call(self, method: str, code: str, seconds: float) -> None:
        """Count a CSI call that ended with the gRPC code `code`."""
        self._csi_seconds.labels(method, code).observe(seconds)

    def count_aws_call(self, operation: str, seconds: float, code: str = "", *, throttled: bool = False) -> None:
        """Count a call to AWS; `code` is AWS's error code, or the SDK's error if AWS did not answer, or ""."""
        for metrics in self._aws:
            if throttled:
                metrics.throttles.labels(operation).inc()
            elif code:
                metrics.errors.labels(*(operation, code)[: metrics.error_label_count]).inc()
            else:
                metrics.seconds.labels(operation).observe(seconds)

    def page(self) -> Page:
        """All metrics in Prometheus' text format."""
        for line in self._lines():
            self._waiting.labels(line.operation).set(line.waiting)
            self._tokens.labels(line.operation).set(max(line.tokens, 0.0))
            self._rate.labels(line.operation).set(line.rate)
        return Page(generate_latest(self._registry).decode(), media_type=CONTENT_TYPE_PLAIN_0_0_4)
