"""What the doctor answers to each planted fault, recorded for the page `docs/reference/doctor.md`.

`make doctor-answers` plants all faults and records the answers; otherwise each test compares its answer with the
record. Ids, paths, times and numbers differ in each run: the record has fixed ones, and numbers are not compared.
"""

import fcntl
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from hyperpod_ebs.access.doctor.findings import Finding
from tests.support.missing_permissions import without_ids

FILE: Final = Path(__file__).with_suffix(".json")

RECORD: Final = "HYPERPOD_EBS_RECORD_ANSWERS"
"""The variable with which the tests record the answers instead of comparing them."""

Answer = Mapping[str, str]

_CHANGING: Final = {
    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|\+00:00)?": "2026-01-31T12:00:00Z",
    r"(?:/[\w.-]+)*/hp-\w+/[tp]-\w+": "",  # the directory of a test
    r"127\.0\.0\.1:\d+/oidc/[0-9A-F]{32}": "oidc.eks.us-west-2.amazonaws.com/id/EXAMPLED539D4633E53DE1B71EXAMPLE",
    r"(?<=--cluster-name )[a-z0-9]{12}\b": "abcdefghijkl",
    r"(?<=HyperPod cluster )[a-z0-9]{12}\b": "abcdefghijkl",
    r"(?<=device )\d+:\d+": "259:1",
}
"""What else differs in each run, and what the record has instead."""


def check_answer(table: str, fault: str, finding: Finding) -> None:
    """Compare the answer to a fault of a table with the record, or record it."""
    answer = {
        "object": _with_fixed_ids(finding.object),
        "evidence": _with_fixed_ids(finding.evidence),
        "consequence": _with_fixed_ids(finding.consequence),
        "fix": _with_fixed_ids(finding.fix),
    }
    if os.environ.get(RECORD):
        _record(table, fault, answer)
    else:
        recorded = read_answers()[table][fault]
        assert _without_numbers(answer) == _without_numbers(recorded), "run make doctor-answers"


def read_answers() -> dict[str, dict[str, Answer]]:
    """The recorded answers by table and fault."""
    answers: dict[str, dict[str, Answer]] = json.loads(FILE.read_text())
    return answers


def _record(table: str, fault: str, answer: Answer) -> None:
    with FILE.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # the workers of a run record at the same time
        file.seek(0)
        answers: dict[str, dict[str, Answer]] = json.loads(file.read() or "{}")
        answers.setdefault(table, {})[fault] = answer
        file.truncate(0)
        file.write(f"{json.dumps(answers, indent=1, sort_keys=True, ensure_ascii=False)}\n")


def _with_fixed_ids(text: str) -> str:
    """The text with the same ids, paths and times in each run."""
    text = without_ids(text)
    for pattern, replacement in _CHANGING.items():
        text = re.sub(pattern, replacement, text)
    return text


def _without_numbers(answer: Answer) -> Answer:
    return {name: re.sub(r"\d+(?:\.\d+)?", "0", text) for name, text in answer.items()}
