"""Compare the coverage of each package with its floor: `coverage_floors.py REPORT`, coverage's JSON report.

A floor is what tests/unit and tests/contract reached when it was written, less two percent. Other packages are covered
by tests that start processes and need root (tests/system); their floors are low for that reason.
"""

import json
import sys
from collections import Counter
from pathlib import Path, PurePath
from typing import Final

FLOORS: Final = {
    "cli": 92,
    "demo": 32,
    "driver/app": 73,
    "driver/aws": 60,
    "driver/csi": 57,
    "driver/kubernetes": 48,
    "driver/linux": 40,
    "driver/model": 96,
    "driver/mounts": 46,
    "driver/node": 51,
    "driver/observe": 46,
    "driver/volumes": 94,
    "emulator": 69,
    "emulator/cloudtrail": 95,
    "emulator/disks": 72,
    "emulator/ec2": 93,
    "emulator/eks": 92,
    "emulator/http": 95,
    "emulator/iam_api": 88,
    "emulator/identity": 88,
    "emulator/kms": 89,
    "emulator/nodes": 90,
    "emulator/sagemaker": 95,
    "emulator/state": 90,
    "emulator/sts": 95,
    "emulator/wire": 95,
    "iam": 95,
    "kit": 97,
    "sandbox": 53,
}
"""Percent of lines and branches, by package."""


def main() -> None:
    """Print each package's percentage, and fail if one is below its floor or has none."""
    percentages = coverage_by_package(Path(sys.argv[1]))
    failures = 0
    for package, percent in sorted(percentages.items()):
        floor = FLOORS.get(package)
        if floor is None:
            verdict = "  has no floor: add it to scripts/coverage_floors.py"
        elif percent < floor:
            verdict = f"  is below its floor of {floor}: add tests"
        else:
            verdict = ""
        failures += bool(verdict)
        print(f"{package:20} {percent:5.1f}{verdict}")  # noqa: T201 - the script's output
    for package in FLOORS.keys() - percentages.keys():
        failures += 1
        print(f"{package:20} no longer exists: remove its floor from scripts/coverage_floors.py")  # noqa: T201 - the same
    sys.exit(failures > 0)


def coverage_by_package(report: Path) -> dict[str, float]:
    """The percentage of lines and branches that ran, by package; those in driver and emulator count separately."""
    covered, total = Counter[str](), Counter[str]()
    for name, file in json.loads(report.read_text())["files"].items():
        package = package_of(PurePath(name.partition("hyperpod_ebs/")[2]))
        summary = file["summary"]
        covered[package] += summary["covered_lines"] + summary["covered_branches"]
        total[package] += summary["num_statements"] + summary["num_branches"]
    return {package: 100 * covered[package] / count for package, count in total.items() if count}


def package_of(path: PurePath) -> str:
    """The package of a module, by its path below the root package."""
    depth = 2 if path.parts[0] in {"driver", "emulator"} else 1
    return "/".join(path.parent.parts[:depth]) or "cli"


if __name__ == "__main__":
    main()
