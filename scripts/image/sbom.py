"""The parts of an image, as CycloneDX: `sbom.py --name=N --version=V --arch=A DIRECTORY...`, laid over one another.

Debian's packages are read from dpkg's `status.d`, Python's from their `dist-info`. The same parts
give the same text, to the byte: the serial number is made from them, and there is no time.
"""

import argparse
import email
import json
import uuid
from collections.abc import Iterator
from email.message import Message
from pathlib import Path
from typing import Any
from urllib.parse import quote


def main() -> None:
    """Print the parts."""
    asked = argparse.ArgumentParser(description=__doc__)
    for option in ("--name", "--version", "--arch"):
        asked.add_argument(option, required=True)
    asked.add_argument("trees", nargs="+", type=Path)
    given = asked.parse_args()
    found = [part for tree in given.trees for part in (*debian(tree, given.arch), *python(tree))]
    print(json.dumps(document(given.name, given.version, given.arch, found), indent=1))  # noqa: T201 - what it is for


def document(name: str, version: str, arch: str, parts: list[dict[str, Any]]) -> dict[str, Any]:
    """The whole of the list."""
    ours = {"type": "container", "name": name, "version": version, "bom-ref": f"{name}-{arch}"}
    parts = sorted(parts, key=lambda part: str(part["purl"]))
    serial = uuid.uuid5(uuid.NAMESPACE_OID, json.dumps([ours, parts]))
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        "metadata": {"component": ours},
        "components": parts,
    }


def debian(tree: Path, arch: str) -> Iterator[dict[str, Any]]:
    """Debian's packages in a directory."""
    notes = (tree / "var/lib/dpkg/status.d").glob("*")
    for file in (note for note in notes if note.suffix != ".md5sums"):
        said = headers(file)
        source = said.get("Source", said["Package"])
        query = f"arch={said['Architecture'] or arch}&distro=debian-12"
        yield {
            "type": "library",
            "name": said["Package"],
            "version": said["Version"],
            "purl": f"pkg:deb/debian/{quote(said['Package'])}@{quote(said['Version'])}?{query}",
            "properties": [{"name": "source", "value": source}],
        }


def python(tree: Path) -> Iterator[dict[str, Any]]:
    """Python's packages in a directory."""
    for file in tree.glob("opt/hyperpod-ebs/lib/python3*/site-packages/*.dist-info/METADATA"):
        said = headers(file)
        licence = said.get("License-Expression")
        yield {
            "type": "library",
            "name": said["Name"],
            "version": said["Version"],
            "purl": f"pkg:pypi/{said['Name'].lower().replace('_', '-')}@{said['Version']}",
            **({"licenses": [{"expression": licence}]} if licence else {}),
        }


def headers(file: Path) -> Message:
    """The fields of a file that is written like a mail's head, as both kinds are."""
    return email.message_from_string(file.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
