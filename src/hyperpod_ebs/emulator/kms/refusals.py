"""Requests that KMS refuses for any key: dry runs, and parameters for AWS Nitro enclaves."""

from hyperpod_ebs.emulator.wire.operations import AwsFault, Parameters


def refuse_dry_run(parameters: Parameters) -> None:
    """End a request that has the DryRun flag; called after all checks and before any change.

    Raises:
        AwsFault: DryRunOperationException; the request would have succeeded.
    """
    if parameters.get("DryRun"):
        text = "The request would have succeeded, but the DryRun option is set."
        raise AwsFault("DryRunOperationException", text)


def refuse_recipient(parameters: Parameters) -> None:
    """Refuse a request whose answer is for an enclave.

    Raises:
        AwsFault: The request has the parameter Recipient.
    """
    if "Recipient" in parameters:
        raise AwsFault("UnsupportedOperationException", "The emulator does not support the parameter Recipient.")
