"""What `--check` prints: findings, and the changes that fix them."""

import json
import sys
from collections.abc import Sequence
from typing import Final, Literal, assert_never

from hyperpod_ebs.access.console import print_json, print_table
from hyperpod_ebs.access.policy.check_sources import shown_name
from hyperpod_ebs.access.policy.comparison.findings import Finding, exit_code
from hyperpod_ebs.access.policy.statements import Setting

CheckOutput = Literal["table", "json"]

_COLUMNS: Final = ("no", "kind", "policy", "statement", "finding")


def show(source: str, job: str, setting: Setting, found: Sequence[Finding], output: CheckOutput) -> int:
    """Print the findings; the exit code."""
    code = exit_code(found)
    source = shown_name(source)
    match output:
        case "json":
            print_json(
                {
                    "source": source,
                    "job": job,
                    "fits": not found,
                    "region": setting.region,
                    "account": setting.account,
                    "eks_cluster": setting.eks_cluster,
                    "hyperpod_cluster": setting.hyperpod_cluster,
                    "findings": [finding.document for finding in found],
                }
            )
        case "table" if not found:
            sys.stdout.write(f"{source} allows what is needed ({job}), and nothing else\n")
        case "table":
            rows = [
                {
                    "no": number,
                    "kind": finding.kind.value,
                    "policy": finding.policy,
                    "statement": finding.statement,
                    "finding": finding.message,
                }
                for number, finding in enumerate(found, 1)
            ]
            print_table(rows, _COLUMNS)
            _print_changes(found)
        case _:
            assert_never(output)
    return code


def _print_changes(found: Sequence[Finding]) -> None:
    """Print the change for each finding; each is a change of the document as it is."""
    for number, finding in enumerate(found, 1):
        if finding.patch:
            lines = ",\n".join(f"  {json.dumps(operation)}" for operation in finding.patch)
            sys.stdout.write(f"\nFor finding {number}, a JSON patch of {finding.policy}:\n[\n{lines}\n]\n")
        elif finding.new_statement is not None:
            statement = json.dumps(finding.new_statement, indent=2)
            sys.stdout.write(f"\nFor finding {number}, a statement for {finding.policy}:\n{statement}\n")
