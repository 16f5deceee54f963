"""Run tests on a sample of mutants and compare the survivors with the listed ones: run.py [--seed N] [--count N].

For each mutant, only the tests run that run the mutant's lines (tests/unit and tests/contract, without root). A mutant
is killed when one of them fails, or takes too long. The sample depends on the seed and on the names of the mutants, so
a change of one module leaves the sample of the others as it was.

Why no library: mutmut changes no decorated function, property or module constant, and cosmic-ray runs all tests for
each mutant.
"""

import argparse
import asyncio
import hashlib
import json
import re
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from coverage import CoverageData
from mutations import Mutant, mutants
from outcomes import Outcome, figure, mistakes
from pytest_tests_of_lines import SELECTION

from hyperpod_ebs.kit import command
from hyperpod_ebs.kit.command import CommandTimedOut, Finished

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parents[1]
PACKAGE: Final = Path("src/hyperpod_ebs")
SURVIVORS: Final = HERE / "survivors.toml"
MODULES: Final = (
    "driver/model/*.py",
    "driver/volumes/*.py",
    "driver/mounts/*.py",
    *(
        f"driver/linux/{name}.py"
        for name in ("contents", "metadata_copies", "mountinfo", "probe_offsets", "superblock")
    ),
    "kit/operations.py",
    "emulator/ec2/*.py",
    "emulator/http/signature.py",
)
"""The modules that decide."""
GENERATED: Final = "attach_limit_table.py"
NOT_COPIED: Final = (".git", ".venv", ".tools", "dist", ".*_cache", ".hypothesis", ".coverage*", "__pycache__")

TESTS: Final = ("tests/unit", "tests/contract")
WITHOUT: Final = (
    "--ignore=tests/contract/test_aws_cli.py",  # it sends what boto3 sends, and takes a second for each call
    "--ignore=tests/contract/test_mutated_requests.py",  # it runs almost every line, and takes minutes
    "--ignore=tests/unit/test_event_loop_checks.py",  # coverage itself blocks the event loop
)

DEADLINE: Final = 600.0
TEST_TIMEOUT: Final = 60
"""Seconds, for the tests of a mutant and for one of them: a mutant that loops for ever is killed."""
WORKERS: Final = 2


class Copy:
    """A copy of the project in which one mutant at a time is tested."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        shutil.copytree(ROOT, directory, symlinks=True, ignore=shutil.ignore_patterns(*NOT_COPIED))

    async def run_python(self, *argv: str, ok: Iterable[int] = (0,), deadline: float, **environment: str) -> Finished:
        """Run Python in the copy."""
        path = f"{self.directory / 'src'}:{self.directory / 'scripts/mutants'}"
        variables = [f"{name}={value}" for name, value in {"PYTHONPATH": path, **environment}.items()]
        prefix = ["env", "-C", str(self.directory), *variables, sys.executable, "-m"]
        return await command.run([*prefix, *argv], ok=frozenset(ok), deadline=deadline)

    async def measure(self) -> CoverageData:
        """Run all tests, which must pass, and note which test runs which lines."""
        options = ["-q", "-p", "pytest_tests_of_lines", "-n", str(WORKERS), "-m", "not root", *WITHOUT, *TESTS]
        measured = await self.run_python("coverage", "run", "-m", "pytest", *options, ok=(0, 1), deadline=3600)
        if measured.code:
            sys.exit(measured.out)
        await self.run_python("coverage", "combine", "--quiet", deadline=600)
        data = CoverageData(str(self.directory / ".coverage"))
        data.read()
        return data

    async def test(self, mutant: Mutant, tests: list[str]) -> Outcome:
        """Run the tests on a mutant."""
        if not tests:
            return Outcome.NOT_RUN
        module = self.directory / PACKAGE / mutant.module
        original = module.read_text()
        selection = self.directory / "selection.json"
        selection.write_text(json.dumps(tests))
        files = dict.fromkeys(test.partition("::")[0] for test in tests)
        options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "pytest_tests_of_lines", f"--timeout={TEST_TIMEOUT}"]
        module.write_text(mutant.text)
        try:
            tested = await self.run_python(
                "pytest", *options, "--hypothesis-seed=0", *files,
                ok=(0, 1, 2), deadline=DEADLINE, **{SELECTION: str(selection), "PYTHONDONTWRITEBYTECODE": "1"},
            )  # fmt: skip
        except CommandTimedOut:
            return Outcome.KILLED
        finally:
            module.write_text(original)
        return Outcome.KILLED if tested.code else Outcome.SURVIVED


def all_mutants() -> list[Mutant]:
    """The mutants of all modules that decide."""
    return [
        mutant
        for pattern in MODULES
        for path in sorted((ROOT / PACKAGE).glob(pattern))
        if path.name != GENERATED
        for mutant in mutants(path.relative_to(ROOT / PACKAGE), path.read_text())
    ]


def sample(found: Iterable[Mutant], seed: int, count: int) -> list[Mutant]:
    """The mutants of a seed."""
    return sorted(found, key=lambda mutant: hashlib.sha256(f"{seed} {mutant.name}".encode()).digest())[:count]


def tests_of(mutant: Mutant, contexts: Mapping[int, list[str]], all_tests: Iterable[str]) -> list[str]:
    """The tests that run a mutant's lines.

    For lines that run at the import: the tests that run any line of the module, and those in files that import it.
    """
    found = {test for line in range(mutant.first, mutant.last + 1) for test in contexts.get(line, ())}
    if found == {""}:
        importing = {file for file in (ROOT / "tests").glob("*/test_*.py") if _imports(file, mutant.module)}
        found = {test for tests in contexts.values() for test in tests}
        found |= {test for test in all_tests if ROOT / test.partition("::")[0] in importing}
    return sorted(found - {""}, key=lambda test: (not test.startswith("tests/unit"), test))


def _imports(file: Path, module: Path) -> bool:
    package, name = re.escape(".".join((PACKAGE.name, *module.parent.parts))), module.stem
    return bool(re.search(rf"(?m)^from {package}(\.{name} import| import .*\b{name}\b)", file.read_text()))


async def run_tests(chosen: list[Mutant], directory: Path) -> dict[str, Outcome]:
    """Run the tests on each mutant."""
    copies = [Copy(directory / str(number)) for number in range(WORKERS)]
    data = await copies[0].measure()
    measured = {Path(file): data.contexts_by_lineno(file) for file in data.measured_files()}
    outcomes: dict[str, Outcome] = {}
    rest = iter(chosen)

    async def work(copy: Copy) -> None:
        for mutant in rest:
            contexts = measured.get(copies[0].directory / PACKAGE / mutant.module, {})
            outcomes[mutant.name] = await copy.test(mutant, tests_of(mutant, contexts, data.measured_contexts()))
            print(f"{outcomes[mutant.name]:8}  {mutant.name}", flush=True)  # noqa: T201 - progress

    async with asyncio.TaskGroup() as group:
        for copy in copies:
            group.create_task(work(copy))
    return outcomes


def main() -> None:
    """Run the tests on the sample, and fail if the survivors are not those of the list."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=100)
    options = parser.parse_args()
    listed = {row["mutant"]: row["kind"] for row in tomllib.loads(SURVIVORS.read_text())["survivors"]}
    found = all_mutants()
    if unknown := listed.keys() - {mutant.name for mutant in found}:
        sys.exit("\n".join(f"no longer exists: remove it from {SURVIVORS.name}: {name}" for name in sorted(unknown)))
    with tempfile.TemporaryDirectory(prefix="hp-mutants-") as directory:
        outcomes = asyncio.run(run_tests(sample(found, options.seed, options.count), Path(directory)))
    print(figure(outcomes, listed))  # noqa: T201 - the output
    sys.exit("\n".join(mistakes(outcomes, listed)) or None)


if __name__ == "__main__":
    main()
