"""Flags and variables of the upstream driver that have no effect here: each is accepted with a warning, or refused.

A flag is refused if ignoring it would mislead the user. All others are accepted, so that upstream's
charts and scripts can start this driver, and a warning in the log says that a flag has no effect.
"""

import os
from collections.abc import Iterator
from typing import Final

from hyperpod_ebs.driver.app.options import ControllerOptions, ServingOptions
from hyperpod_ebs.driver.model import errors

_UNBUFFERED: Final = "the whole log goes to stderr, line by line"


def warnings(serving: ServingOptions, controller: ControllerOptions | None) -> Iterator[str]:
    """A warning for each flag or variable that was given and has no effect, or is deprecated."""
    if serving.enable_otel_tracing:
        yield "--enable-otel-tracing has no effect: this driver does not trace calls; use its metrics of their duration"
    if serving.vmodule:
        yield f"--vmodule={serving.vmodule} has no effect: it names the upstream driver's source files; use --v=4"
    if serving.log_flush_frequency:
        yield f"--log-flush-frequency has no effect: {_UNBUFFERED}"
    if any(
        (
            serving.log_json_split_stream,
            serving.log_text_split_stream,
            serving.log_json_info_buffer_size,
            serving.log_text_info_buffer_size,
        )
    ):
        yield f"--log-json-* and --log-text-* have no effect: {_UNBUFFERED}"
    if controller is not None:
        yield from _controller_warnings(controller)


def _controller_warnings(controller: ControllerOptions) -> Iterator[str]:
    for name in ("AWS_RETRY_MODE", "AWS_MAX_ATTEMPTS"):
        if name in os.environ:
            yield f"{name} has no effect: the driver repeats calls itself, when the account's limits allow it"
    if not controller.batching:
        yield "--batching=false has no effect: the driver always describes volumes in batches"
    if controller.extra_volume_tags:
        yield "--extra-volume-tags is deprecated: use --extra-tags, which has the same effect"


def check_options(controller: ControllerOptions) -> None:
    """Check the controller's flags.

    Raises:
        InvalidRequest: A flag asks for something that the driver does not support, or has an invalid value.
    """
    if controller.enable_node_local_volumes:
        raise errors.InvalidRequest(
            "--enable-node-local-volumes is not supported: the driver cannot mount volume handles local-ebs://…; "
            "remove the flag, and use volume ids as volume handles"
        )
    controller.modification_window()
    controller.aws_scope()
    policy = controller.tag_policy()  # report an invalid tag now, not with every volume
    policy.volume_tags("", {}, ())
    policy.snapshot_tags("")
