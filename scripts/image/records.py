"""Drop from what Python's packages record of their files those that are no longer there: `records.py SITE_PACKAGES`.

A line has a file's digest too. Of a command that is the digest of a script which begins with the path of the builder's
Python, and so would tell one builder's image from another's.
"""

import csv
import sys
from pathlib import Path


def main() -> None:
    """Rewrite each `RECORD`."""
    site = Path(sys.argv[1])
    for record in site.glob("*.dist-info/RECORD"):
        with record.open(newline="", encoding="utf-8") as file:
            there = [line for line in csv.reader(file) if (site / line[0]).exists()]
        with record.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows(there)


if __name__ == "__main__":
    main()
