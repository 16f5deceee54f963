"""Upstream's flags that mean nothing here: each is taken with one notice, or refused where silence would be a lie.

Whoever starts the driver with upstream's chart or script gets a driver that runs, and
the log says at its start what was asked for and is otherwise here.
"""

import re
from collections.abc import Callable, Iterator
from typing import Final

from hyperpod_ebs.driver.app.options import ControllerOptions, ServingOptions
from hyperpod_ebs.driver.model import errors, tags
from hyperpod_ebs.driver.model.aws_scope import AwsScope

_NOTHING: Final = re.compile(r"[-+]?[0.]+(?:ns|us|µs|ms|s|m|h)?")
_LOG: Final = "the log is written line by line to stderr, all of it"


def _nobody(_: str) -> None:
    pass


def notices(serving: ServingOptions, controller: ControllerOptions | None) -> Iterator[str]:
    """What is to be told of the flags that were given and do nothing."""
    if serving.enable_otel_tracing:
        yield "--enable-otel-tracing does nothing: there are no traces here; calls and their times are in the metrics"
    if serving.vmodule:
        yield f"--vmodule={serving.vmodule} does nothing: it names files of another program; take --v=4"
    if serving.log_flush_frequency:
        yield f"--log-flush-frequency does nothing: {_LOG}"
    if any(
        (
            serving.log_json_split_stream,
            serving.log_text_split_stream,
            serving.log_json_info_buffer_size,
            serving.log_text_info_buffer_size,
        )
    ):
        yield f"--log-json-* and --log-text-* do nothing: {_LOG}"
    if controller is not None:
        yield from _of_controller(controller)


def _of_controller(options: ControllerOptions) -> Iterator[str]:
    if not options.batching:
        yield "--batching=false does nothing: volumes that are waited for are always described together"
    if options.modify_volume_request_handler_timeout:
        yield (
            "--modify-volume-request-handler-timeout does nothing: a modification waits for no other, and identical "
            "ones are joined"
        )
    if options.extra_volume_tags:
        yield "--extra-volume-tags is deprecated: take --extra-tags, which it is read as"


def check(controller: ControllerOptions) -> None:
    """Accept what can be honoured.

    Raises:
        InvalidRequest: A flag asks for what is not offered, or cannot be.
    """
    if controller.enable_node_local_volumes:
        raise errors.InvalidRequest(
            "--enable-node-local-volumes is not offered: volume handles local-ebs://… name no volume here; "
            "leave it out, and give each volume's id as its handle"
        )
    timeout = controller.modify_volume_request_handler_timeout
    if timeout and _NOTHING.fullmatch(timeout):
        raise errors.InvalidRequest(f"--modify-volume-request-handler-timeout is {timeout}; it may not be zero")
    aws_scope(controller)
    policy(controller).snapshot_tags("")  # so that a tag that cannot be is told now, and not with each volume


def policy(controller: ControllerOptions, tell: Callable[[str], None] = _nobody) -> tags.TagPolicy:
    """How everything is tagged that the controller makes; `tell` hears of what is left out."""
    return tags.TagPolicy(
        cluster=controller.k8s_tag_cluster_id,
        extra=tags.split_flags([*controller.extra_volume_tags, *controller.extra_tags]),
        tell=tell if controller.warn_on_invalid_tag else None,
    )


def aws_scope(controller: ControllerOptions) -> AwsScope:
    """Where the clusters are, as far as the flags say it.

    Raises:
        InvalidRequest: They do not agree.
    """
    return AwsScope.from_flags(
        cluster=controller.cluster_arn,
        partition=controller.partition,
        region=controller.region,
        account=controller.account_id,
    )
