"""Another implementation of IAM's rules, @cloud-copilot/iam-simulate, in a process of its own."""

import json
import shutil
import subprocess  # noqa: TID251 - a dialogue over pipes, which kit.command does not have
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from hyperpod_ebs.iam.documents import MalformedPolicy
from tests.support import policy_cases
from tests.support.policy_cases import Case

LIBRARY: Final = Path(__file__).parents[2] / ".tools" / "iam-oracle"
SCRIPT: Final = Path(__file__).with_suffix(".mjs")


class Oracle:
    """The running process."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    @classmethod
    @contextmanager
    def start(cls, directory: Path) -> Iterator["Oracle"]:
        """Run the library until the block ends.

        Args:
            directory: An empty directory for the script, beside which Node.js looks for the library.
        """
        (directory / "node_modules").symlink_to(LIBRARY / "node_modules")
        script = Path(shutil.copy(SCRIPT, directory))
        command = ["node", "--preserve-symlinks-main", str(script)]
        with subprocess.Popen(  # noqa: S603 - a fixed program
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            yield cls(process)
            process.communicate()

    def verdicts(self, cases: Sequence[Case]) -> list[str]:
        """The library's decisions."""
        return [self.verdict(case) for case in cases]

    def verdict(self, case: Case) -> str:
        """The library's decision: Allowed, ExplicitlyDenied or ImplicitlyDenied."""
        pipe, answers = self._process.stdin, self._process.stdout
        assert pipe is not None
        assert answers is not None
        pipe.write(json.dumps(case) + "\n")
        pipe.flush()
        return answers.readline().strip()

    def shrunk(self, case: Case) -> Case:
        """The smallest case found on which the implementations differ as they do on `case`."""
        difference = (policy_cases.verdict(case), self.verdict(case))
        while smaller := next((each for each in policy_cases.smaller(case) if self._differs(each, difference)), None):
            case = smaller
        return case

    def _differs(self, case: Case, difference: tuple[str, str]) -> bool:
        try:
            return (policy_cases.verdict(case), self.verdict(case)) == difference
        except MalformedPolicy:
            return False
