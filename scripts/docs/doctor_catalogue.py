"""The page of the doctor: its checks, and the faults that the tests plant, with what the doctor says."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from hyperpod_ebs.access.doctor.registry import ALL_CHECKS, CALLER_ACTIONS
from tests.support import aws_faults, kubernetes_faults, node_faults
from tests.support.doctor_answers import Answer, read_answers
from tests.support.doctor_faults import Fault

PAGE: Final = "docs/reference/doctor.md"
HEAD: Final = """\
<!-- Made from the doctor's checks and from the faults in tests/support by make generate; do not edit. -->

# Doctor

`hyperpod-ebs doctor` looks for what keeps volumes from working, now or soon, and says how to fix it. It reads, and
changes nothing unless `--fix` is given; it makes nothing that AWS charges for. It runs on a workstation, in the
controller's pod and on a node, and checks what can be seen from there. [Flags, exit codes and JSON
output](command-line.md#hyperpod-ebs-doctor) are on another page.

| place | command | what it sees |
|---|---|---|
| a workstation | `hyperpod-ebs doctor` | AWS as you, Kubernetes with your kubeconfig |
| the controller's pod | `kubectl exec -n kube-system deployment/ebs-csi-controller -c ebs-plugin -- \
hyperpod-ebs doctor` | AWS as the driver's role, Kubernetes as the service account |
| a node | `kubectl exec -n kube-system POD -c ebs-plugin -- hyperpod-ebs doctor`, with the driver's pod there | \
the machine: kernel, disks, filesystems, sockets |

Read its table from the top: a finding can be the cause of those below it. A finding has the object, the evidence, what
will not work because of it, and the command or the statement that fixes it. Its status is one of:

| status | meaning | exit code |
|---|---|---|
| `fails` | it does not work | 3 |
| `may fail` | it does not work under a condition, or soon | 4 |
| `not checked` | the doctor could not look, and says why | 4; 0 if only another place can show it, such as a node |
| `ok` | the check has found everything in order | 0 |
"""
_NEEDS: Final = """
## What it needs

To check everything at AWS, the caller needs these actions, all of which only read: {actions}. What may not be read is
`not checked`. In the driver's own pod, dry runs take the place of IAM's policy simulator.

The doctor reads each list once, and runs all checks at the same time, each for 20 seconds at most. On a small cluster
it makes some 30 calls of AWS. A thousand more HyperPod nodes with two volumes each add only the further pages of two
listings; with them, it took 9 seconds on two processors with other work to do (`bench/doctor.py`).

## A file for support

`hyperpod-ebs doctor --bundle FILE` also writes an archive (`.tar.gz`) that only you can read: what the doctor found
and read, versions, and the newest lines of the logs of the driver's pods. Of annotations, parameters, tags and
environment variables it keeps the values that the driver, Kubernetes and AWS define, and of all others the names.
Tokens, keys, passwords and the queries of URLs are removed from all texts. Look through it before you send it.
"""
_CHECKS: Final = """
## Checks

In this order: a check that fails can make later ones fail.

| check | what is so if it finds nothing |
|---|---|
"""
_FAULTS: Final = """
## Faults

The tests plant each of these {number} faults in a setting in which all is in order: AWS's part in the embedded cloud,
the part of Kubernetes in a recorded API server, and that of a node on real loop devices. The doctor must then name
this fault and nothing else, and answer as below, apart from ids and numbers; without a fault, it must find nothing.
`make doctor-answers` writes the answers again.
"""
TABLES: Final[Mapping[str, Sequence[Fault[Any]]]] = {
    "AWS": aws_faults.FAULTS,
    "Kubernetes": kubernetes_faults.FAULTS,
    "A node": node_faults.FAULTS,
}
"""The faults by where they are planted."""


def page() -> str:
    """The whole page."""
    checks = "".join(f"| {check.name} | {_cell(check.promise)} |\n" for check in ALL_CHECKS)
    number = sum(map(len, TABLES.values()))
    needs = _NEEDS.format(actions=", ".join(f"`{action}`" for action in CALLER_ACTIONS))
    return "".join([HEAD, needs, _CHECKS, checks, _FAULTS.format(number=number), *_tables()])


def _tables() -> Iterator[str]:
    answers = read_answers()
    for title, faults in TABLES.items():
        head = "| fault | check | what the doctor finds | what will not work | what fixes it |"
        yield f"\n### {title}\n\n{head}\n|---|---|---|---|---|\n"
        yield from (_row(fault, answers[title][fault.id]) for fault in faults)


def _row(fault: Fault[Any], answer: Answer) -> str:
    found = f"`{fault.status}` {answer['object']}: {answer['evidence']}"
    cells = (fault.id, fault.check, found, answer["consequence"], answer["fix"])
    return f"| {' | '.join(map(_cell, cells))} |\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def write(root: Path) -> None:
    """Write the page below a directory."""
    (root / PAGE).parent.mkdir(parents=True, exist_ok=True)
    (root / PAGE).write_text(page())
