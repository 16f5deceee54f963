"""Every flag of the upstream driver has the same meaning here, or is accepted with a warning, or is refused."""

from typing import Final

import pytest

from hyperpod_ebs import cli
from hyperpod_ebs.driver.app import upstream_flags
from hyperpod_ebs.driver.app.options import SERVING, ControllerOptions, ServingOptions
from hyperpod_ebs.driver.model import errors
from tests.support.command_line import parse_command_line

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
"""The controller's flags of aws-ebs-csi-driver 1.64, cmd/options.go."""


@pytest.mark.requirement("flags.upstream")
def test_all_controller_flags_of_upstream_are_accepted() -> None:
    """Upstream's charts and scripts start this driver unchanged."""
    serving, controller, _ = parse_command_line(*UPSTREAM)

    assert (serving.v, serving.http_endpoint, str(serving.metrics_key_file)) == (5, ":3301", "/tls/tls.key")
    assert (controller.extra_tags, controller.extra_volume_tags) == (("a=b,c=d",), ("e=f",))
    assert (controller.k8s_tag_cluster_id, controller.warn_on_invalid_tag) == ("mine", True)
    assert controller.modification_window() == 2.0
    assert (controller.aws_sdk_debug_log, controller.deprecated_metrics) == (True, True)


@pytest.mark.requirement("flags.upstream")
def test_each_flag_without_effect_gets_one_warning() -> None:
    words = [word.replace("tracing=false", "tracing=true") for word in UPSTREAM]
    serving, controller, _ = parse_command_line(*words)

    warnings = list(upstream_flags.warnings(serving, controller))

    assert [warning.split(" ")[0].partition("=")[0] for warning in warnings] == [
        "--enable-otel-tracing",
        "--vmodule",
        "--log-flush-frequency",
        "--log-json-*",
        "--batching",
        "--extra-volume-tags",
    ]


@pytest.mark.parametrize("name", ["AWS_RETRY_MODE", "AWS_MAX_ATTEMPTS"])
def test_a_variable_for_the_sdks_own_retries_gets_a_warning(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """AWS SDKs and Tools Reference Guide, "Retry behavior"."""
    monkeypatch.setenv(name, "adaptive")

    (warning,) = upstream_flags.warnings(ServingOptions(), ControllerOptions())

    assert warning.startswith(f"{name} has no effect")


def test_the_defaults_cause_no_warning() -> None:
    assert not list(upstream_flags.warnings(ServingOptions(), ControllerOptions()))
    assert not list(upstream_flags.warnings(SERVING, None))


@pytest.mark.requirement("flags.upstream")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (ControllerOptions(enable_node_local_volumes=True), "--enable-node-local-volumes is not supported"),
        (ControllerOptions(modify_volume_request_handler_timeout="0s"), "must not be zero"),
        (ControllerOptions(modify_volume_request_handler_timeout="soon"), "'soon' is not a duration"),
    ],
    ids=["node-local volumes", "a timeout of zero", "a timeout that is not a duration"],
)
def test_a_flag_that_would_be_misleading_without_effect_is_refused(options: ControllerOptions, message: str) -> None:
    """A claim would wait forever for a node-local volume. Upstream refuses the timeout as well."""
    with pytest.raises(errors.InvalidRequest, match=message):
        upstream_flags.check_options(options)


def test_flags_without_a_command_run_both_services(capsys: pytest.CaptureFixture[str]) -> None:
    """As upstream, whose default command is `all`."""
    code = cli.run(["--endpoint=tcp://:1"])

    assert (code, "not a unix socket" in capsys.readouterr().err) == (2, True)


def test_if_a_flag_is_given_twice_the_last_one_counts() -> None:
    """As in spf13/pflag: a chart appends additional arguments to its own."""
    words = ["all", "--drain-seconds", "2", "--zone", "2", "--v=3", "--extra-tags=a=b", "-v=5", "--extra-tags=c=d"]

    assert cli._translate_upstream_syntax(words) == [word for word in words if word != "--v=3"]


@pytest.mark.requirement("flags.upstream")
def test_the_node_flags_of_upstream_are_accepted() -> None:
    """aws-ebs-csi-driver, cmd/options.go, as its chart writes them. Other tests show what they do."""
    _, _, node = parse_command_line(
        "--metadata-sources=imds,kubernetes",
        "--reserved-volume-attachments=2",
        "--volume-attach-limit=-1",
        "--legacy-xfs=true",
        "--windows-host-process=false",
        "--csi-mount-point-prefix=/var/lib/kubelet/plugins/kubernetes.io/csi/ebs.csi.aws.com/",
    )

    assert (node.metadata_sources, node.reserved_volume_attachments, node.legacy_xfs) == ("imds,kubernetes", 2, True)
