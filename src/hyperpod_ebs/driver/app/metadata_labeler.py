"""The subcommand that upstream's metadata-labeler sidecar runs, refused with the reason."""

from typing import Annotated

from cyclopts import Parameter

from hyperpod_ebs.driver.model import errors


def run_metadata_labeler(*_: Annotated[str, Parameter(allow_leading_hyphen=True)]) -> None:
    """Refuse to run: no node has to be labeled.

    Raises:
        InvalidRequest: Always.
    """
    raise errors.InvalidRequest(
        "metadata-labeler is not offered, and not needed: the node process reads its own labels and interfaces anew "
        "each time that kubelet asks; leave the sidecar out (sidecars.metadataLabeler.enabled=false)"
    )
