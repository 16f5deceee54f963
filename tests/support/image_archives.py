"""The archives of container images, and the script that builds the project's image."""

import json
import tarfile
from asyncio.subprocess import DEVNULL, PIPE
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil

ROOT: Final = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """An OCI archive with one image."""

    path: Path
    digest: str
    manifest: dict[str, Any]
    config: dict[str, Any]

    @classmethod
    def read(cls, path: Path) -> "Archive":
        """Read an archive."""
        with tarfile.open(path) as tar:

            def read_json(name: str) -> dict[str, Any]:
                member = tar.extractfile(name)
                assert member is not None
                content: dict[str, Any] = json.load(member)
                return content

            [entry] = read_json("index.json")["manifests"]
            manifest = read_json(blob_name(entry))
            config = read_json(blob_name(manifest["config"]))
            return cls(path=path, digest=entry["digest"], manifest=manifest, config=config)

    @property
    def layers(self) -> list[str]:
        """The names of the layers in the archive, lowest first."""
        return [blob_name(layer) for layer in self.manifest["layers"]]

    def unpack(self, into: Path) -> None:
        """Unpack all layers into a directory; no layer of this image deletes a file of a lower one."""
        with tarfile.open(self.path) as tar:
            for layer in self.layers:
                with tarfile.open(fileobj=tar.extractfile(layer), mode="r:gz") as files:
                    files.extractall(into, filter="fully_trusted")  # noqa: S202 - built here; its absolute links are wanted


def blob_name(descriptor: dict[str, Any]) -> str:
    """The name in an archive of the blob that an OCI descriptor refers to."""
    return f"blobs/{descriptor['digest'].replace(':', '/')}"


class BuildFailed(Exception):  # noqa: N818 - reads as what happened
    """`scripts/image.sh` failed; the text is what it wrote to stderr."""


def build(directory: Path, *options: str) -> Archive:
    """Build the image into a directory with `scripts/image.sh`; its archive.

    Raises:
        BuildFailed: The script failed.
    """
    return Archive.read(_run_image_script(f"--into={directory}", *options))


def lay_out(directory: Path, *options: str) -> Path:
    """Write the files for `docker build` into a directory with `scripts/image.sh`; the directory."""
    return _run_image_script(f"--layout={directory}", *options)


def _run_image_script(*options: str) -> Path:
    """Run `scripts/image.sh`; the path that it prints."""
    argv = [str(ROOT / "scripts/image.sh"), *options]
    with psutil.Popen(argv, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, text=True) as process:
        out, err = process.communicate()
    if process.returncode != 0:
        raise BuildFailed(err)
    return Path(out.strip())


def chroot_argv(rootfs: Path, user: int) -> list[str]:
    """The start of a command line that runs a program with the files of an image, and with /dev and /proc.

    The mounts are in a mount namespace of their own, which ends with the program.
    """
    # The namespace has a copy of every mount. It must not keep the devices of other tests busy.
    script = (
        'for point in $(findmnt -rno TARGET -t ext4,xfs); do case "$1/" in "${point%/}"/*) ;; '
        '*) umount --lazy "$point" || true ;; esac; done; '
        'for name in dev proc; do mount --rbind "/$name" "$1/$name"; done; shift; exec "$@"'
    )
    chroot = ["chroot", f"--userspec={user}:{user}", str(rootfs)]
    return ["unshare", "--mount", "--propagation=private", "sh", "-euc", script, "sh", str(rootfs), *chroot]
