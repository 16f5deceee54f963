"""Container images as their archives have them, and the script that builds ours."""

import json
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil

ROOT: Final = Path(__file__).parents[2]


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

    @property
    def layers(self) -> list[str]:
        """Where in the archive each layer lies, the lowest first; the name tells what is in it."""
        return [blob(layer) for layer in self.manifest["layers"]]

    def unpack(self, into: Path) -> None:
        """Lay all layers out; none of them takes anything away."""
        with tarfile.open(self.path) as tar:
            for layer in self.layers:
                with tarfile.open(fileobj=tar.extractfile(layer), mode="r:gz") as files:
                    files.extractall(into, filter="fully_trusted")  # noqa: S202 - our own, with links to where they stand


def blob(descriptor: dict[str, Any]) -> str:
    """Where in an archive a part lies."""
    return f"blobs/{descriptor['digest'].replace(':', '/')}"


class BuildError(Exception):
    """What `scripts/image.sh` said instead of building."""


def build(directory: Path, *options: str) -> Archive:
    """What `scripts/image.sh` builds into a directory.

    Raises:
        BuildError: It did not.
    """
    return Archive.read(_made(f"--into={directory}", *options))


def lay_out(directory: Path, *options: str) -> Path:
    """What `scripts/image.sh` lays out for `docker build`."""
    return _made(f"--layout={directory}", *options)


def _made(*options: str) -> Path:
    with psutil.Popen([str(ROOT / "scripts/image.sh"), *options], stdin=-3, stdout=-1, stderr=-1, text=True) as process:
        out, err = process.communicate()
    if process.returncode != 0:
        raise BuildError(err)
    return Path(out.strip())


def contained(rootfs: Path, user: int) -> list[str]:
    """The words that run what follows with an image's files, and /dev and /proc as containers have them.

    The mounts are in a namespace, which ends with the program.
    """
    script = 'for each in dev proc; do mount --rbind "/$each" "$1/$each"; done; shift; exec "$@"'
    chroot = ["chroot", f"--userspec={user}:{user}", str(rootfs)]
    return ["unshare", "--mount", "--propagation=private", "sh", "-euc", script, "sh", str(rootfs), *chroot]
