"""What `doctor` prints: a table that is read top down, or JSON."""

from collections.abc import Mapping, Sequence

from hyperpod_ebs.access.console import Output, print_json, print_table
from hyperpod_ebs.access.doctor.findings import Finding, exit_code, summary


def print_report(findings: Sequence[Finding], output: Output) -> None:
    """Print the findings in their order."""
    if output == "json":
        print_json(document(findings))
        return
    rows = [
        {
            "status": finding.status.upper() if finding.status == "fails" else finding.status,
            "object": finding.object,
            "finding": ". ".join(filter(None, (finding.evidence, finding.consequence))),
            "fix": finding.fix,
        }
        for finding in findings
    ]
    print_table(rows, ["status", "object", "finding", "fix"])


def document(findings: Sequence[Finding]) -> Mapping[str, object]:
    """The report as JSON."""
    return {
        "summary": summary(findings),
        "exitCode": exit_code(findings),
        "findings": [
            {
                "status": finding.status,
                "check": finding.check,
                "object": finding.object,
                "evidence": finding.evidence,
                "consequence": finding.consequence,
                "fix": finding.fix,
                "canBeFixed": finding.remedy is not None,
            }
            for finding in findings
        ],
    }
