"""Flags, variables and help come from the same fields; the command ends with the right code and one sentence."""

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
from tests.support.command_line import read

ALL: Final = (ServingOptions, ControllerOptions, NodeOptions)
FIELDS: Final = [(cls, field.name) for cls in ALL for field in dataclasses.fields(cls)]


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the machine's own settings."""
    for cls, name in FIELDS:
        for variable in variables(cls, name):
            monkeypatch.delenv(variable, raising=False)


def variables(cls: type, name: str) -> list[str]:
    """The environment variables of a field."""
    hint = get_type_hints(cls, include_extras=True)[name]
    assert get_origin(hint) is Annotated
    found = [one for extra in get_args(hint)[1:] if isinstance(extra, Parameter) for one in extra.env_var or ()]
    return [str(one) for one in found]


@pytest.mark.requirement("csi.environment-prefix")
@pytest.mark.parametrize(("cls", "name"), FIELDS, ids=lambda one: one if isinstance(one, str) else one.__name__)
def test_every_field_has_a_variable_of_its_own_name(cls: type, name: str) -> None:
    """Ours: whoever knows the flag knows the variable."""
    assert variables(cls, name)[0] == options.PREFIX + name.upper()


def test_upstream_flags_are_read() -> None:
    """Upstream's words, as its chart writes them."""
    serving, controller, node = read(
        "--endpoint=unix:/csi/csi.sock",
        "--v=4",
        "--logging-format=json",
        "--user-agent-extra=helm",
        "--volume-attach-limit=9",
    )

    assert (serving.endpoint, serving.v, serving.logging_format) == ("unix:/csi/csi.sock", 4, "json")
    assert controller.user_agent_extra == "helm"
    assert node.volume_attach_limit == 9


def test_a_flag_wins_over_its_variable_and_ours_over_aws_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours: what is said nearer wins; EKS puts AWS_REGION into every pod."""
    monkeypatch.setenv("AWS_REGION", "from-eks")
    by_eks = read()[1].region
    monkeypatch.setenv("HYPERPOD_EBS_REGION", "from-us")
    by_us = read()[1].region

    assert (by_eks, by_us, read("--region=from-flag")[1].region) == ("from-eks", "from-us", "from-flag")


@pytest.mark.parametrize(
    ("words", "says"),
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
        (["node", "--metadata-sources=imds,nobody"], "the sources are imds, kubernetes, metadata-labeler"),
        (["node", "--windows-host-process"], "does not run on Windows"),
    ],
    ids=[
        "an unknown word",
        "an unknown flag",
        "no number",
        "a TCP endpoint",
        "told before who the node is",
        "a node id that no node has",
        "a time that cannot be",
        "a count that cannot be",
        "a limit and what to take off it",
        "a registration of a socket that kubelet cannot find",
        "a metadata source that there is not",
        "a node that runs Windows",
    ],
)
def test_misuse_is_one_sentence_and_two(words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Ours: scripts tell misuse (2) from failure (1)."""
    code = cli.run(words)

    said = capsys.readouterr().err
    assert (code, said.count("\n")) == (2, 1)
    assert says in said
    assert "Traceback" not in said


def test_version_and_help_end_with_zero(capsys: pytest.CaptureFixture[str]) -> None:
    """Ours."""
    codes = [cli.run(["--version"]), cli.run(["--help"])]

    said = capsys.readouterr().out
    assert codes == [0, 0]
    assert json.loads(said[: said.index("}") + 1])["driverVersion"] == __version__
    for word in ("all", "controller", "demo", "emulator", "node"):
        assert f" {word} " in said


def test_an_interrupt_is_130_and_says_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shell's convention for SIGINT."""

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "app", interrupted)

    code = cli.run(["node"])

    assert (code, capsys.readouterr().err) == (130, "")


def test_failures_of_several_tasks_are_told_together(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours: a task group's error is no better a sentence for being a group."""

    def failing(*_: object, **__: object) -> None:
        raise ExceptionGroup("tasks", [errors.Unavailable("no answer"), OSError("disk\nfull")])

    monkeypatch.setattr(cli, "app", failing)

    code = cli.run(["node"])

    assert (code, capsys.readouterr().err) == (1, "hyperpod-ebs: no answer; disk full (OSError)\n")


@pytest.mark.parametrize(
    ("verbosity", "level"), [(0, logging.WARNING), (2, logging.INFO), (3, logging.INFO), (4, logging.DEBUG)]
)
def test_verbosity_is_klogs(verbosity: int, level: int) -> None:
    """Upstream's --v."""
    assert log.level_for(verbosity) == level


def test_a_library_that_logs_by_itself_is_told_in_the_same_form() -> None:
    """Ours: one log, warnings only from others, UTC."""
    stream, before = StringIO(), logging.getLogger().handlers
    try:
        log.configure(2, "json", stream)
        logging.getLogger("botocore").info("chatter")
        logging.getLogger("botocore").warning("slow %s", "down")
        structlog.get_logger().info("ours", volume="vol-1")
    finally:
        logging.getLogger().handlers = before
        structlog.reset_defaults()

    first, second = (json.loads(line) for line in stream.getvalue().splitlines())
    assert (first["event"], first["level"], first["logger"]) == ("slow down", "warning", "botocore")
    assert (second["event"], second["volume"]) == ("ours", "vol-1")
    assert first["timestamp"].endswith("Z")


def test_text_is_one_plain_line_where_nobody_looks() -> None:
    """Ours: no colours in a file."""
    stream, before = StringIO(), logging.getLogger().handlers
    try:
        log.configure(2, "text", stream)
        structlog.get_logger().info("volume attached", volume="vol-1")
    finally:
        logging.getLogger().handlers = before
        structlog.reset_defaults()

    assert stream.getvalue().endswith("volume attached volume=vol-1\n")
    assert "\x1b" not in stream.getvalue()
