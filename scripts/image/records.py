"""Remove deleted files from the records of installed Python packages: `records.py SITE_PACKAGES`.

A record has the digest of each file. For a command, that file is a script whose first line is the path of
the builder's Python, so its digest would make the images of two builders differ.
"""

import csv
import sys
from pathlib import Path


def main() -> None:
    """Rewrite each `RECORD`."""
    site = Path(sys.argv[1])
    for record in site.glob("*.dist-info/RECORD"):
        with record.open(newline="", encoding="utf-8") as file:
            existing = [line for line in csv.reader(file) if (site / line[0]).exists()]
        with record.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows(existing)


if __name__ == "__main__":
    main()
