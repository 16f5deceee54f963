"""Print an image's list of parts as CycloneDX: `sbom.py --name=N --version=V --arch=A DIRECTORY...`.

The directories are laid over one another in the image. Debian's packages are read from dpkg's `status.d`, Python's from
their `dist-info`. The same parts give the same bytes: the serial number is derived from them, and the list has no time.
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
    """Print the list."""
    parser = argparse.ArgumentParser(description=__doc__)
    for option in ("--name", "--version", "--arch"):
        parser.add_argument(option, required=True)
    parser.add_argument("trees", nargs="+", type=Path)
    options = parser.parse_args()
    parts = [part for tree in options.trees for part in (*debian_parts(tree, options.arch), *python_parts(tree))]
    text = json.dumps(document(options.name, options.version, options.arch, parts), indent=1)
    print(text)  # noqa: T201 - the script's output


def document(name: str, version: str, arch: str, parts: list[dict[str, Any]]) -> dict[str, Any]:
    """The CycloneDX document."""
    image = {"type": "container", "name": name, "version": version, "bom-ref": f"{name}-{arch}"}
    parts = sorted(parts, key=lambda part: str(part["purl"]))
    serial = uuid.uuid5(uuid.NAMESPACE_OID, json.dumps([image, parts]))
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        "metadata": {"component": image},
        "components": parts,
    }


def debian_parts(tree: Path, arch: str) -> Iterator[dict[str, Any]]:
    """The Debian packages in a directory."""
    files = (tree / "var/lib/dpkg/status.d").glob("*")
    for file in (file for file in files if file.suffix != ".md5sums"):
        fields = headers(file)
        source = fields.get("Source", fields["Package"])
        query = f"arch={fields['Architecture'] or arch}&distro=debian-12"
        yield {
            "type": "library",
            "name": fields["Package"],
            "version": fields["Version"],
            "purl": f"pkg:deb/debian/{quote(fields['Package'])}@{quote(fields['Version'])}?{query}",
            "properties": [{"name": "source", "value": source}],
        }


def python_parts(tree: Path) -> Iterator[dict[str, Any]]:
    """The Python packages in a directory."""
    for file in tree.glob("opt/hyperpod-ebs/lib/python3*/site-packages/*.dist-info/METADATA"):
        fields = headers(file)
        licence = fields.get("License-Expression")
        yield {
            "type": "library",
            "name": fields["Name"],
            "version": fields["Version"],
            "purl": f"pkg:pypi/{fields['Name'].lower().replace('_', '-')}@{fields['Version']}",
            **({"licenses": [{"expression": licence}]} if licence else {}),
        }


def headers(file: Path) -> Message:
    """The fields of a file that has the format of mail headers, as dpkg's and Python's metadata have."""
    return email.message_from_string(file.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
