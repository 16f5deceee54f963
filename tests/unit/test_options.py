"""Flags, environment variables and help come from the same fields; the command's exit codes and error messages."""

import dataclasses
import json
import logging
from io import StringIO
from typing import Annotated, Final, get_args, get_origin, get_type_hints

import pytest
import structlog
from cyclopts import Parameter

from hyperpod_ebs import __version__, cli
from hyperpod_ebs.driver.app import options
from hyperpod_ebs.driver.app.options import ControllerOptions, NodeOptions, ServingOptions
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.observe import log
from tests.support.command_line import parse_command_line

ALL: Final = (ServingOptions, ControllerOptions, NodeOptions)
FIELDS: Final = [(cls, field.name) for cls in ALL for field in dataclasses.fields(cls)]


@pytest.fixture(autouse=True)
def _clear_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the driver's variables from the environment of the tests."""
    for cls, name in FIELDS:
        for variable in variables(cls, name):
            monkeypatch.delenv(variable, raising=False)


def variables(cls: type, name: str) -> list[str]:
    """The environment variables of a field."""
    hint = get_type_hints(cls, include_extras=True)[name]
    assert get_origin(hint) is Annotated
    settings = [extra for extra in get_args(hint)[1:] if isinstance(extra, Parameter)]
    return [str(variable) for setting in settings for variable in setting.env_var or ()]


@pytest.mark.requirement("csi.environment-prefix")
@pytest.mark.parametrize(("cls", "name"), FIELDS, ids=lambda value: value if isinstance(value, str) else value.__name__)
def test_every_flag_has_an_environment_variable_of_the_same_name(cls: type, name: str) -> None:
    """A user who knows the flag knows the variable."""
    assert variables(cls, name)[0] == options.PREFIX + name.upper()


def test_flags_are_accepted_as_upstreams_chart_writes_them() -> None:
    """aws-ebs-csi-driver, charts/aws-ebs-csi-driver/templates."""
    serving, controller, node = parse_command_line(
        "--endpoint=unix:/csi/csi.sock",
        "--v=4",
        "--logging-format=json",
        "--user-agent-extra=helm",
        "--volume-attach-limit=9",
    )

    assert (serving.endpoint, serving.v, serving.logging_format) == ("unix:/csi/csi.sock", 4, "json")
    assert controller.user_agent_extra == "helm"
    assert node.volume_attach_limit == 9


def test_a_flag_overrides_its_variables_and_the_drivers_variable_overrides_that_of_aws(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """EKS sets AWS_REGION in every pod."""
    monkeypatch.setenv("AWS_REGION", "from-eks")
    from_eks = parse_command_line()[1].region
    monkeypatch.setenv("HYPERPOD_EBS_REGION", "from-driver")
    from_driver = parse_command_line()[1].region

    assert (from_eks, from_driver, parse_command_line("--region=from-flag")[1].region) == (
        "from-eks",
        "from-driver",
        "from-flag",
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nonsense"], "nonsense"),
        (["node", "--nonsense"], "--nonsense"),
        (["node", "--v=much"], "much"),
        (["node", "--node-id=i-12345678", "--zone=z", "--endpoint=tcp://:1"], "not a unix socket"),
        (["node", "--metadata-endpoint=none", "--endpoint=tcp://:1"], "not a unix socket"),
        (["node", "--node-id=node-1"], "--node-id is wrong: no node can have the id 'node-1'"),
        (["node", "--drain-seconds=-1"], "--drain-seconds"),
        (["node", "--volume-attach-limit=-2"], "--volume-attach-limit"),
        (["node", "--volume-attach-limit=2", "--reserved-volume-attachments=1"], "not both"),
        (["node", "--plugin-registration-path=/registration"], "needs --kubelet-registration-path"),
        (["node", "--metadata-sources=imds,other"], "the sources are imds, kubernetes, metadata-labeler"),
        (["node", "--windows-host-process"], "does not run on Windows"),
    ],
    ids=[
        "an unknown command",
        "an unknown flag",
        "not a number",
        "a TCP endpoint",
        "a TCP endpoint, reported before the node's identity",
        "a node id that no node can have",
        "a negative time",
        "a negative limit",
        "a limit and reserved slots",
        "a registration without the socket's path for kubelet",
        "an unknown metadata source",
        "a Windows node",
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Scripts distinguish wrong usage (2) from failure (1)."""
    code = cli.run(words)

    stderr = capsys.readouterr().err
    assert (code, stderr.count("\n")) == (2, 1)
    assert message in stderr
    assert "Traceback" not in stderr


def test_version_and_help_end_with_zero(capsys: pytest.CaptureFixture[str]) -> None:
    codes = [cli.run(["--version"]), cli.run(["--help"])]

    stdout = capsys.readouterr().out
    assert codes == [0, 0]
    assert json.loads(stdout[: stdout.index("}") + 1])["driverVersion"] == __version__
    for word in ("all", "controller", "demo", "emulator", "node"):
        assert f" {word} " in stdout


def test_an_interrupt_is_exit_code_130_without_a_message(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shell's convention for SIGINT: 128 plus the signal's number."""

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "app", interrupt)

    code = cli.run(["node"])

    assert (code, capsys.readouterr().err) == (130, "")


def test_the_errors_of_several_tasks_are_one_message(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task group raises an exception group, whose own message says nothing."""

    def fail(*_: object, **__: object) -> None:
        raise ExceptionGroup("tasks", [errors.Unavailable("no answer"), OSError("disk\nfull")])

    monkeypatch.setattr(cli, "app", fail)

    code = cli.run(["node"])

    assert (code, capsys.readouterr().err) == (1, "hyperpod-ebs: no answer; disk full (OSError)\n")


@pytest.mark.parametrize(
    ("verbosity", "level"), [(0, logging.WARNING), (2, logging.INFO), (3, logging.INFO), (4, logging.DEBUG)]
)
def test_the_verbosity_is_that_of_klog(verbosity: int, level: int) -> None:
    """Upstream's --v."""
    assert log.level_for(verbosity) == level


def test_the_warnings_of_libraries_are_logged_in_the_same_format() -> None:
    """One log in UTC; from libraries only warnings."""
    stream, before = StringIO(), logging.getLogger().handlers
    try:
        log.configure(2, "json", stream)
        logging.getLogger("botocore").info("chatter")
        logging.getLogger("botocore").warning("slow %s", "down")
        structlog.get_logger().info("event", volume="vol-1")
    finally:
        logging.getLogger().handlers = before
        structlog.reset_defaults()

    first, second = (json.loads(line) for line in stream.getvalue().splitlines())
    assert (first["event"], first["level"], first["logger"]) == ("slow down", "warning", "botocore")
    assert (second["event"], second["volume"]) == ("event", "vol-1")
    assert first["timestamp"].endswith("Z")


def test_the_text_log_has_no_colours_in_a_file() -> None:
    stream, before = StringIO(), logging.getLogger().handlers
    try:
        log.configure(2, "text", stream)
        structlog.get_logger().info("volume attached", volume="vol-1")
    finally:
        logging.getLogger().handlers = before
        structlog.reset_defaults()

    assert stream.getvalue().endswith("volume attached volume=vol-1\n")
    assert "\x1b" not in stream.getvalue()
