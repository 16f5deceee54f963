"""Checks that most EC2 requests need: required parameters and dry runs."""

from collections.abc import Sequence
from typing import Any

from hyperpod_ebs.emulator.wire.operations import AwsFault, Parameters


def require(parameters: Parameters, *names: str) -> Sequence[Any]:  # members have the types of their shapes
    """The values of the named parameters.

    Raises:
        AwsFault: A parameter is missing or empty.
    """
    for name in names:
        if not parameters.get(name):
            raise AwsFault("MissingParameter", f"The request must contain the parameter {name}")
    return [parameters[name] for name in names]


def refuse_dry_run(parameters: Parameters) -> None:
    """End a request that has the DryRun flag; called after all checks and before any change.

    Raises:
        AwsFault: DryRunOperation; the request would have succeeded.
    """
    if parameters.get("DryRun"):
        text = "Request would have succeeded, but DryRun flag is set."
        raise AwsFault("DryRunOperation", text, 412)
