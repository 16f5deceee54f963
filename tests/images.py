"""Container images as their archives have them, and the script that builds ours."""

import json
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil

ROOT: Final = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """An OCI archive, read."""

    path: Path
    digest: str
    manifest: dict[str, Any]
    config: dict[str, Any]

    @classmethod
    def read(cls, path: Path) -> "Archive":
        """The one image of an archive."""
        with tarfile.open(path) as tar:

            def part(name: str) -> dict[str, Any]:
                member = tar.extractfile(name)
                assert member is not None
                read: dict[str, Any] = json.load(member)
                return read

            [entry] = part("index.json")["manifests"]
            manifest = part(blob(entry))
            return cls(path=path, digest=entry["digest"], manifest=manifest, config=part(blob(manifest["config"])))

    def unpack(self, into: Path) -> None:
        """Lay all layers out; none of them takes anything away."""
        with tarfile.open(self.path) as tar:
            for layer in self.manifest["layers"]:
                with tarfile.open(fileobj=tar.extractfile(blob(layer)), mode="r:gz") as files:
                    files.extractall(into, filter="fully_trusted")  # noqa: S202 - our own, with links to where they stand


def blob(descriptor: dict[str, Any]) -> str:
    """Where in an archive a part lies."""
    return f"blobs/{descriptor['digest'].replace(':', '/')}"


def build(directory: Path, *options: str) -> Archive:
    """What `scripts/image.sh` builds into a directory."""
    argv = [str(ROOT / "scripts/image.sh"), f"--into={directory}", *options]
    with psutil.Popen(argv, stdin=-3, stdout=-1, stderr=-1, text=True) as process:
        out, err = process.communicate()
    assert process.returncode == 0, err
    return Archive.read(Path(out.strip()))
