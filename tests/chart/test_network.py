"""The network policies, and the Services for metrics."""

from typing import Any, Final

import pytest

from tests.support.helm_chart import Object, render

METRICS: Final = {"controller": {"enableMetrics": True}, "node": {"enableMetrics": True}}


def ports(rule: Object) -> set[int]:
    """The TCP ports of a rule."""
    return {each["port"] for each in rule["ports"] if each["protocol"] == "TCP"}


async def test_by_default_there_is_no_network_policy() -> None:
    """An enforced policy could cut off traffic that it does not foresee."""
    assert not (await render()).all("NetworkPolicy")


async def test_only_the_given_clients_reach_only_the_metrics() -> None:
    """Kubelet's probes come from the pod's own node, which no policy blocks."""
    monitoring: Any = [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}]

    rendered = await render({"networkPolicy": {"enabled": True, "metricsFrom": monitoring}})

    for name, served in (("ebs-csi-controller", {3301, 3302, 3303, 3304, 3306}), ("ebs-csi-node", {3302})):
        spec = rendered.get("NetworkPolicy", name)["spec"]
        [rule] = spec["ingress"]
        assert ports(rule) == served
        assert rule["from"] == monitoring
        assert spec["policyTypes"] == ["Ingress", "Egress"]


async def test_the_controller_may_connect_to_the_embedded_clouds_port() -> None:
    """One value switches to the embedded cloud; the policy must follow it."""
    values: Any = {"networkPolicy": {"enabled": True}, "embeddedCloud": {"endpoint": "http://10.0.0.1:4566/"}}

    [rule] = (await render(values)).get("NetworkPolicy", "ebs-csi-controller")["spec"]["egress"]

    assert ports(rule) == {53, 80, 443, 4566, 6443}


@pytest.mark.parametrize(
    ("values", "port"),
    [
        ({"embeddedCloud": {"endpoint": "http://[fd00::1]:4566"}}, 4566),
        ({"embeddedCloud": {"endpoint": "https://[fd00::1]"}}, 443),
        ({"proxy": {"http_proxy": "http://user:secret@proxy.example:3128/"}}, 3128),
        ({"proxy": {"http_proxy": "proxy.example:8080"}}, 8080),
    ],
    ids=["an IPv6 address", "no port", "a proxy", "a proxy without a scheme"],
)
async def test_the_pods_may_connect_to_the_port_of_the_url(values: dict[str, Any], port: int) -> None:
    """The embedded cloud and the proxy may have any port."""
    rendered = await render({"networkPolicy": {"enabled": True}, **values})

    for name in ("ebs-csi-controller", "ebs-csi-node"):
        [rule] = rendered.get("NetworkPolicy", name)["spec"]["egress"]
        assert ports(rule) == {53, 80, 443, 6443, port}


async def test_service_and_policy_use_the_port_of_the_http_endpoint() -> None:
    """With httpEndpoint set, upstream's Service still has the port of enableMetrics, where no process listens."""
    values = {"controller": {"enableMetrics": True, "httpEndpoint": ":8080"}, "networkPolicy": {"enabled": True}}

    rendered = await render(values)

    service = rendered.get("Service", "ebs-csi-controller")
    [rule] = rendered.get("NetworkPolicy", "ebs-csi-controller")["spec"]["ingress"]
    served = {each["name"]: each["containerPort"] for each in rendered.controller.containers["ebs-plugin"]["ports"]}
    assert "--http-endpoint=:8080" in rendered.controller.arguments("ebs-plugin")
    assert served["metrics"] == 8080
    assert service["spec"]["ports"][0]["targetPort"] == 8080
    assert service["metadata"]["annotations"]["prometheus.io/port"] == "8080"
    assert 8080 in ports(rule)
    assert 3301 not in ports(rule)


async def test_without_metrics_there_is_no_service_and_no_port() -> None:
    """Upstream: enableMetrics is false by default."""
    rendered = await render()

    assert not rendered.all("Service")
    assert set(rendered.controller.containers["ebs-plugin"]["ports"][0].values()) >= {"healthz", 9808}
    assert not [each for each in rendered.controller.arguments("csi-provisioner") if "http-endpoint" in each]


async def test_each_container_that_serves_metrics_has_a_service_and_a_monitor() -> None:
    """Upstream: Services and ServiceMonitors per container, annotated for Prometheus."""
    rendered = await render(METRICS, apis=("snapshot.storage.k8s.io/v1", "monitoring.coreos.com/v1"))

    served = {
        each["metadata"]["name"]: (
            each["spec"]["ports"][0]["port"],
            each["metadata"]["annotations"]["prometheus.io/port"],
        )
        for each in rendered.all("Service")
    }

    assert served == {
        "ebs-csi-controller": (3301, "3301"),
        "ebs-csi-controller-provisioner": (3302, "3302"),
        "ebs-csi-controller-attacher": (3303, "3303"),
        "ebs-csi-controller-resizer": (3304, "3304"),
        "ebs-csi-controller-snapshotter": (3306, "3306"),
        "ebs-csi-node": (3302, "3302"),
    }
    assert {each["metadata"]["name"] for each in rendered.all("ServiceMonitor")} == served.keys()
    arguments = rendered.controller.arguments("csi-provisioner")
    assert "--http-endpoint=:3302" in arguments
