"""Who may reach the pods, and who reads their metrics."""

from typing import Any, Final

import pytest

from tests.support.helm_chart import Object, render

METRICS: Final = {"controller": {"enableMetrics": True}, "node": {"enableMetrics": True}}


def ports(rule: Object) -> set[int]:
    """The TCP ports of a rule."""
    return {one["port"] for one in rule["ports"] if one["protocol"] == "TCP"}


async def test_no_policy_is_made_unasked() -> None:
    """Ours: one that a cluster's plugin enforces may cut off what it does not foresee."""
    assert not (await render()).all("NetworkPolicy")


async def test_only_metrics_come_in_and_only_to_whom_they_are_for() -> None:
    """The issue: a network policy. kubelet's probes come from the pod's own node, which none keeps out."""
    monitoring: Any = [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}]

    rendered = await render({"networkPolicy": {"enabled": True, "metricsFrom": monitoring}})

    for name, served in (("ebs-csi-controller", {3301, 3302, 3303, 3304, 3306}), ("ebs-csi-node", {3302})):
        spec = rendered.one("NetworkPolicy", name)["spec"]
        [rule] = spec["ingress"]
        assert ports(rule) == served
        assert rule["from"] == monitoring
        assert spec["policyTypes"] == ["Ingress", "Egress"]


async def test_the_embedded_clouds_port_goes_out_beside_awss() -> None:
    """Ours: else the one setting would not be the one."""
    values: Any = {"networkPolicy": {"enabled": True}, "embeddedCloud": {"endpoint": "http://10.0.0.1:4566/"}}

    [rule] = (await render(values)).one("NetworkPolicy", "ebs-csi-controller")["spec"]["egress"]

    assert ports(rule) == {53, 80, 443, 4566, 6443}


@pytest.mark.parametrize(
    ("values", "port"),
    [
        ({"embeddedCloud": {"endpoint": "http://[fd00::1]:4566"}}, 4566),
        ({"embeddedCloud": {"endpoint": "https://[fd00::1]"}}, 443),
        ({"proxy": {"http_proxy": "http://user:secret@proxy.example:3128/"}}, 3128),
        ({"proxy": {"http_proxy": "proxy.example:8080"}}, 8080),
    ],
    ids=["an address of IPv6", "none said", "the proxy's", "the proxy's without a scheme"],
)
async def test_the_port_that_goes_out_is_the_urls(values: dict[str, Any], port: int) -> None:
    """Ours."""
    rendered = await render({"networkPolicy": {"enabled": True}, **values})

    for name in ("ebs-csi-controller", "ebs-csi-node"):
        [rule] = rendered.one("NetworkPolicy", name)["spec"]["egress"]
        assert ports(rule) == {53, 80, 443, 6443, port}


async def test_metrics_are_looked_for_where_they_are() -> None:
    """Upstream: controller.httpEndpoint stands before the port of enableMetrics; its Service then points nowhere."""
    values = {"controller": {"enableMetrics": True, "httpEndpoint": ":8080"}, "networkPolicy": {"enabled": True}}

    rendered = await render(values)

    service = rendered.one("Service", "ebs-csi-controller")
    [rule] = rendered.one("NetworkPolicy", "ebs-csi-controller")["spec"]["ingress"]
    served = {one["name"]: one["containerPort"] for one in rendered.controller.containers["ebs-plugin"]["ports"]}
    assert "--http-endpoint=:8080" in rendered.controller.arguments("ebs-plugin")
    assert served["metrics"] == 8080
    assert service["spec"]["ports"][0]["targetPort"] == 8080
    assert service["metadata"]["annotations"]["prometheus.io/port"] == "8080"
    assert 8080 in ports(rule)
    assert 3301 not in ports(rule)


async def test_without_metrics_there_is_no_port_for_them() -> None:
    """Upstream: enableMetrics is false by default."""
    rendered = await render()

    assert not rendered.all("Service")
    assert set(rendered.controller.containers["ebs-plugin"]["ports"][0].values()) >= {"healthz", 9808}
    assert not [one for one in rendered.controller.arguments("csi-provisioner") if "http-endpoint" in one]


async def test_each_container_that_serves_metrics_has_a_service_that_says_where() -> None:
    """Upstream: Services and ServiceMonitors per container, annotated for Prometheus."""
    rendered = await render(METRICS, apis=("snapshot.storage.k8s.io/v1", "monitoring.coreos.com/v1"))

    served = {
        one["metadata"]["name"]: (
            one["spec"]["ports"][0]["port"],
            one["metadata"]["annotations"]["prometheus.io/port"],
        )
        for one in rendered.all("Service")
    }

    assert served == {
        "ebs-csi-controller": (3301, "3301"),
        "ebs-csi-controller-provisioner": (3302, "3302"),
        "ebs-csi-controller-attacher": (3303, "3303"),
        "ebs-csi-controller-resizer": (3304, "3304"),
        "ebs-csi-controller-snapshotter": (3306, "3306"),
        "ebs-csi-node": (3302, "3302"),
    }
    assert {one["metadata"]["name"] for one in rendered.all("ServiceMonitor")} == served.keys()
    arguments = rendered.controller.arguments("csi-provisioner")
    assert "--http-endpoint=:3302" in arguments
