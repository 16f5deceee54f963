"""Every flag of upstream's is taken with its meaning, or with a notice, or refused with a sentence."""

from typing import Final

import pytest

from hyperpod_ebs import cli
from hyperpod_ebs.driver.app import upstream_flags
from hyperpod_ebs.driver.app.options import SERVING, ControllerOptions, ServingOptions
from hyperpod_ebs.driver.model import errors
from tests.support.command_line import read

UPSTREAM: Final = (
    "--kubeconfig=/etc/kubeconfig",
    "--endpoint=unix:///csi.sock",
    "--http-endpoint=:3301",
    "--metrics-cert-file=/tls/tls.crt",
    "--metrics-key-file=/tls/tls.key",
    "--enable-otel-tracing=false",
    "--logtostderr",
    "-v=5",
    "--vmodule=cloud=9",
    "--logging-format=json",
    "--log-flush-frequency=5s",
    "--log-json-info-buffer-size=1Ki",
    "--log-json-split-stream=true",
    "--log-text-info-buffer-size=1Ki",
    "--log-text-split-stream=true",
    "--user-agent-extra=helm",
    "--aws-sdk-debug-log=true",
    "--extra-tags=a=b,c=d",
    "--extra-volume-tags=e=f",
    "--k8s-tag-cluster-id=mine",
    "--warn-on-invalid-tag=true",
    "--batching=false",
    "--modify-volume-request-handler-timeout=2s",
    "--deprecated-metrics=true",
    "--enable-node-local-volumes=false",
)
"""The controller's flags of upstream 1.64, by its options.go."""


@pytest.mark.requirement("flags.upstream")
def test_upstreams_controller_flags_are_all_read() -> None:
    """Upstream's charts and scripts start this driver as they are."""
    serving, controller, _ = read(*UPSTREAM)

    assert (serving.v, serving.http_endpoint, str(serving.metrics_key_file)) == (5, ":3301", "/tls/tls.key")
    assert (controller.extra_tags, controller.extra_volume_tags) == (("a=b,c=d",), ("e=f",))
    assert (controller.k8s_tag_cluster_id, controller.warn_on_invalid_tag) == ("mine", True)
    assert (controller.aws_sdk_debug_log, controller.deprecated_metrics) == (True, True)


@pytest.mark.requirement("flags.upstream")
def test_each_flag_that_does_nothing_is_told_once() -> None:
    """Ours: nobody is left to wonder."""
    words = [word.replace("tracing=false", "tracing=true") for word in UPSTREAM]
    serving, controller, _ = read(*words)

    told = list(upstream_flags.warnings(serving, controller))

    assert [one.split(" ")[0].partition("=")[0] for one in told] == [
        "--enable-otel-tracing",
        "--vmodule",
        "--log-flush-frequency",
        "--log-json-*",
        "--batching",
        "--modify-volume-request-handler-timeout",
        "--extra-volume-tags",
    ]


def test_what_was_not_asked_for_is_not_told() -> None:
    """Ours."""
    assert not list(upstream_flags.warnings(ServingOptions(), ControllerOptions()))
    assert not list(upstream_flags.warnings(SERVING, None))


@pytest.mark.requirement("flags.upstream")
@pytest.mark.parametrize(
    ("options", "says"),
    [
        (ControllerOptions(enable_node_local_volumes=True), "--enable-node-local-volumes is not supported"),
        (ControllerOptions(modify_volume_request_handler_timeout="0s"), "must not be zero"),
    ],
    ids=["node-local volumes", "no time at all"],
)
def test_what_cannot_be_honoured_is_refused(options: ControllerOptions, says: str) -> None:
    """Ours: a claim would wait for ever for what nobody makes. Upstream's rule for the time."""
    with pytest.raises(errors.InvalidRequest, match=says):
        upstream_flags.check_options(options)


def test_flags_without_a_word_run_both_services(capsys: pytest.CaptureFixture[str]) -> None:
    """Upstream: `all` is what no word means."""
    code = cli.run(["--endpoint=tcp://:1"])

    assert (code, "not a unix socket" in capsys.readouterr().err) == (2, True)


def test_of_a_flag_that_is_given_twice_the_last_one_counts() -> None:
    """Upstream's flags (spf13/pflag): charts put their additional arguments behind their own."""
    given = ["all", "--drain-seconds", "2", "--zone", "2", "--v=3", "--extra-tags=a=b", "-v=5", "--extra-tags=c=d"]

    assert cli._translate_upstream_syntax(given) == [word for word in given if word != "--v=3"]


@pytest.mark.requirement("flags.upstream")
def test_upstreams_flags_of_the_node_are_taken() -> None:
    """Upstream's options.go, as its chart writes them; their meanings are tested where they are followed."""
    _, _, node = read(
        "--metadata-sources=imds,kubernetes",
        "--reserved-volume-attachments=2",
        "--volume-attach-limit=-1",
        "--legacy-xfs=true",
        "--windows-host-process=false",
        "--csi-mount-point-prefix=/var/lib/kubelet/plugins/kubernetes.io/csi/ebs.csi.aws.com/",
    )

    assert (node.metadata_sources, node.reserved_volume_attachments, node.legacy_xfs) == ("imds,kubernetes", 2, True)
