"""What `attach`, `detach`, `move` and `wait` print: the preconditions, and where the volume is at the end."""

from collections.abc import Mapping, Sequence

from hyperpod_ebs.access import exit_codes
from hyperpod_ebs.access.aws.volumes import EbsVolume
from hyperpod_ebs.access.console import Output, note, print_json, print_sentence, print_table
from hyperpod_ebs.access.volume.checks import Check
from hyperpod_ebs.driver.model.nodes import Node

_COLUMNS = ("precondition", "result", "finding")


def print_preconditions(
    checks: Sequence[Check], *, volume_id: str, node: Node | None, output: Output, is_dry_run: bool
) -> int | None:
    """Print what was found before a change; the exit code if the command ends here, or else None.

    Without a dry run only what fails or was not checked is printed, to stderr.
    """
    fails = [check for check in checks if check.result == "fails"]
    if not is_dry_run:
        for check in checks:
            if check.result != "ok":
                note(f"{check.result}: {check.name}: {check.text}")
    if not fails and not is_dry_run:
        return None
    if output == "json":
        print_json(document(volume_id=volume_id, node=node, checks=checks, changed=False))
    elif is_dry_run:
        print_table(
            [{"precondition": each.name, "result": each.result, "finding": each.text} for each in checks], _COLUMNS
        )
    if fails:
        note(f"{len(fails)} of {len(checks)} preconditions fail; nothing was changed")
    return exit_codes.FAILS if fails else exit_codes.OK


def print_end(  # noqa: PLR0913 - all that a command knows at its end
    volume: EbsVolume, sentence: str, *, node: Node | None, checks: Sequence[Check], output: Output, changed: bool
) -> None:
    """Print where the volume is."""
    if output == "json":
        print_json(document(volume_id=volume.id, node=node, checks=checks, changed=changed, volume=volume))
    else:
        print_sentence(sentence)


def document(
    *, volume_id: str, node: Node | None, checks: Sequence[Check], changed: bool, volume: EbsVolume | None = None
) -> Mapping[str, object]:
    """The JSON document of these commands."""
    attachments = [
        {"node": str(each.node) if each.node else "", "resource": each.resource, "state": each.state}
        | ({"device": each.device} if each.device else {})
        for each in (volume.holders if volume else ())
    ]
    return {
        "volume": volume_id,
        "node": str(node) if node else "",
        "changed": changed,
        "state": volume.state if volume else "",
        "attachments": attachments,
        "preconditions": [{"name": each.name, "result": each.result, "finding": each.text} for each in checks],
    }
