"""Write the pages that are made from code: invariants, command line, doctor, errors, metrics."""

import argparse
from pathlib import Path
from typing import Final

import action_names
import command_line
import doctor_catalogue
import error_catalogue
import invariants
import metrics

ROOT: Final = Path(__file__).parents[2]


def main() -> None:
    """Write all pages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--into", type=Path, default=ROOT, help="the directory to write them to")
    into = parser.parse_args().into
    for module in (action_names, invariants, command_line, doctor_catalogue, error_catalogue, metrics):
        module.write(into)


if __name__ == "__main__":
    main()
