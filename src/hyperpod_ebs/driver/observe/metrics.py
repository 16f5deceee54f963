"""What Prometheus is told: upstream's names where it has them, and nothing of other libraries' registries.

Imported only where an address for metrics is given: the client library costs about
4 MiB. Calls to AWS are counted one by one, the SDK's own for credentials among them.
"""

import platform
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Self

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
"""Seconds; upstream's, so that its dashboards go on."""

CSI_BUCKETS: Final = (0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 180)
"""Seconds; a call lasts as long as AWS or a disk lets it, up to the sidecars' deadlines."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Calls:
    """Calls to AWS under one set of names."""

    seconds: Histogram
    errors: Counter | Gauge
    told: int
    """How many labels an error has: the operation, and perhaps the code."""
    throttles: Counter

    @classmethod
    def upstreams(cls, registry: CollectorRegistry) -> Self:
        """Upstream's names and labels, as its code has them."""
        name = "aws_ebs_csi_api_request"
        return cls(
            seconds=Histogram(
                f"{name}_duration_seconds",
                "AWS calls that did as asked",
                ("request",),
                buckets=AWS_BUCKETS,
                registry=registry,
            ),
            errors=Counter(f"{name}_errors_total", "AWS calls refused", ("request", "code"), registry=registry),
            told=2,
            throttles=Counter(f"{name}_throttles_total", "AWS calls throttled", ("operation_name",), registry=registry),
        )

    @classmethod
    def in_tree(cls, registry: CollectorRegistry) -> Self:
        """The names of the driver that was once in Kubernetes itself, for --deprecated-metrics."""
        name = "cloudprovider_aws_api"
        return cls(
            seconds=Histogram(
                f"{name}_request_duration_seconds",
                "AWS calls that did as asked",
                ("request",),
                buckets=AWS_BUCKETS,
                registry=registry,
            ),
            # A counter's name would get an ending that this one never had.
            errors=Gauge(f"{name}_request_errors", "AWS calls refused", ("request",), registry=registry),
            told=1,
            throttles=Counter(
                f"{name}_throttled_requests_total", "AWS calls throttled", ("operation_name",), registry=registry
            ),
        )


class Metrics:
    """The metrics of one process."""

    def __init__(self, version: str, trouble: Callable[[], str], *, deprecated: bool = False) -> None:
        """`trouble` tells what is wrong now, empty where nothing is; `deprecated` adds the in-tree driver's names."""
        disable_created_metrics()  # type: ignore[no-untyped-call] # the library left it without types
        self._registry = CollectorRegistry(auto_describe=False)
        self._csi = Histogram(
            "aws_ebs_csi_rpc_duration_seconds",
            "CSI calls answered, by method and gRPC code",
            ("method", "code"),
            buckets=CSI_BUCKETS,
            registry=self._registry,
        )
        self._aws = _Calls.upstreams(self._registry)
        self._in_tree = _Calls.in_tree(self._registry) if deprecated else None
        build = Gauge(
            "aws_ebs_csi_build_info", "1, labelled with what runs", ("version", "python"), registry=self._registry
        )
        build.labels(version, platform.python_version()).set(1)
        healthy = Gauge("aws_ebs_csi_healthy", "1 where /healthz says ok, 0 where it does not", registry=self._registry)
        healthy.set_function(lambda: 0.0 if trouble() else 1.0)

    def answered(self, method: str, code: str, seconds: float) -> None:
        """Count a CSI call."""
        self._csi.labels(method, code).observe(seconds)

    def called(self, operation: str, seconds: float, code: str = "", *, throttled: bool = False) -> None:
        """Count a call to AWS; `code` is AWS's where it refused, and empty where it did as asked."""
        for calls in filter(None, (self._aws, self._in_tree)):
            if throttled:
                calls.throttles.labels(operation).inc()
            elif code:
                calls.errors.labels(*(operation, code)[: calls.told]).inc()
            else:
                calls.seconds.labels(operation).observe(seconds)

    def page(self) -> Page:
        """All of it, as Prometheus reads it."""
        return Page(generate_latest(self._registry).decode(), form=CONTENT_TYPE_PLAIN_0_0_4)
