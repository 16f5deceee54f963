"""Policy decisions, compared with another implementation of IAM's rules."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support import policy_cases
from tests.support.policy_cases import CaseMaker
from tests.support.policy_oracle import LIBRARY, Oracle

CASES: Final = 10_000
SEED: Final = 10


@pytest.fixture
def oracle(tmp_path: Path) -> Iterator[Oracle]:
    """The other implementation."""
    if shutil.which("node") is None or not LIBRARY.is_dir():
        pytest.skip("node or .tools/iam-oracle is missing: install Node.js, and run scripts/setup.sh iam-oracle")
    with Oracle.start(tmp_path) as oracle:
        yield oracle


def test_two_implementations_decide_ten_thousand_random_requests_alike(oracle: Oracle) -> None:
    """IAM User Guide, "Policy evaluation logic"; @cloud-copilot/iam-simulate is the other implementation."""
    maker = CaseMaker(SEED)
    cases = [maker.case() for _ in range(CASES)]
    verdicts = [policy_cases.verdict(case) for case in cases]

    differing = [case for case, verdict in zip(cases, verdicts, strict=True) if verdict != oracle.verdict(case)]

    assert not differing, (
        f"{len(differing)} of {CASES} cases differ; the first one, shrunk:\n"
        f"{json.dumps(oracle.shrunk(differing[0]), indent=1)}"
    )
    assert {verdicts.count(verdict) > CASES // 20 for verdict in {*verdicts}} == {True}, "one kind of decision is rare"
