"""Checks that most EC2 requests need: required parameters and dry runs."""

from collections.abc import Sequence
from typing import Any, Final

from hyperpod_ebs.emulator.wire.operations import AwsFault, Parameters

MAX_RESOURCES: Final = 1000
"""Resources in one request (EC2 API reference, CreateTags and TerminateInstances)."""


def require(parameters: Parameters, *names: str) -> Sequence[Any]:  # members have the types of their shapes
    """The values of the named parameters.

    Raises:
        AwsFault: A parameter is missing or empty.
    """
    for name in names:
        if not parameters.get(name):
            raise AwsFault("MissingParameter", f"The request must contain the parameter {name}")
    return [parameters[name] for name in names]


def refuse_many_ids(ids: Sequence[str]) -> None:
    """Refuse a request about too many resources, each of which would need a decision.

    Raises:
        AwsFault: There are more than `MAX_RESOURCES` ids.
    """
    if len(ids) > MAX_RESOURCES:
        text = f"The request has {len(ids)} IDs, but the maximum is {MAX_RESOURCES}"
        raise AwsFault("InvalidParameterValue", text)


def refuse_dry_run(parameters: Parameters) -> None:
    """End a request that has the DryRun flag; called after all checks and before any change.

    Raises:
        AwsFault: DryRunOperation; the request would have succeeded.
    """
    if parameters.get("DryRun"):
        text = "Request would have succeeded, but DryRun flag is set."
        raise AwsFault("DryRunOperation", text, 412)
