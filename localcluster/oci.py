"""Images without a builder: an OCI archive of images of one layer each, made of files that are already there.

For programs that need nothing but themselves, as static Go binaries do. The same files give the
same archive, to the byte, so that who has imported one need not do so again. Nothing is compressed:
it is written, and read by the node's containerd, on this machine.
"""

import hashlib
import io
import json
import platform
import tarfile
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final, Self

_KIND: Final = "application/vnd.oci.image"
_EXECUTABLE: Final = 0o755


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """What an image is made of."""

    name: str
    """With its tag: `localhost/csi-components/csi-attacher:v4.12.0`."""
    files: Mapping[str, Path]
    """Where each file goes, as an absolute path in the image, and where it is taken from."""
    entrypoint: Sequence[str]
    user: str = "65532:65532"

    @property
    def config(self) -> dict[str, Any]:
        """How it is run, as the OCI image specification has it."""
        return {
            "Entrypoint": [*self.entrypoint],
            "User": self.user,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Blob:
    """A part of an archive, known by its digest."""

    kind: str
    content: io.BufferedIOBase
    digest: str
    size: int

    @classmethod
    def of(cls, kind: str, content: io.BufferedIOBase) -> Self:
        size = content.seek(0, io.SEEK_END)
        content.seek(0)
        digest = hashlib.file_digest(content, "sha256").hexdigest()
        return cls(kind=f"{_KIND}.{kind}", content=content, digest=digest, size=size)

    @classmethod
    def of_json(cls, kind: str, value: Mapping[str, Any]) -> Self:
        return cls.of(kind, io.BytesIO(json.dumps(value).encode()))

    @property
    def descriptor(self) -> dict[str, Any]:
        return {"mediaType": self.kind, "digest": f"sha256:{self.digest}", "size": self.size}


def write(images: Iterable[Image], archive: Path) -> None:
    """Have one archive of these images at `archive`, whole.

    Raises:
        OSError: A file cannot be read, or the archive not written.
    """
    unfinished = archive.with_name(f"{archive.name}.unfinished")
    manifests: list[dict[str, Any]] = []  # OCI's descriptors
    with unfinished.open("wb") as out, tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        _add(tar, "oci-layout", io.BytesIO(json.dumps({"imageLayoutVersion": "1.0.0"}).encode()))
        for image in images:
            with tempfile.TemporaryFile(dir=archive.parent) as layer:
                manifests.append(_put(tar, image, layer))
        _add(tar, "index.json", io.BytesIO(json.dumps({"schemaVersion": 2, "manifests": manifests}).encode()))
    unfinished.replace(archive)


def _put(tar: tarfile.TarFile, image: Image, layer: io.BufferedIOBase) -> dict[str, Any]:
    """Put an image into an archive; its descriptor, with its name."""
    _pack(layer, image.files)
    rootfs = _Blob.of("layer.v1.tar", layer)
    config = _Blob.of_json("config.v1+json", _described(image, rootfs))
    manifest = _Blob.of_json(
        "manifest.v1+json",
        {"schemaVersion": 2, "config": config.descriptor, "layers": [rootfs.descriptor]},
    )
    for blob in (rootfs, config, manifest):
        _add(tar, f"blobs/sha256/{blob.digest}", blob.content)
    names = {"org.opencontainers.image.ref.name": image.name, "io.containerd.image.name": image.name}
    return {**manifest.descriptor, "annotations": names}


def _described(image: Image, rootfs: _Blob) -> dict[str, Any]:
    return {
        "created": "1970-01-01T00:00:00Z",
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": image.config,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{rootfs.digest}"]},
        "history": [{"created_by": "localcluster"}],  # without it buildah puts nothing on top
    }


def _pack(layer: io.BufferedIOBase, files: Mapping[str, Path]) -> None:
    """Write a layer of `files`, with the directories above them."""
    above = {parent for place in files for parent in PurePosixPath(place.lstrip("/")).parents}
    with tarfile.open(fileobj=layer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for directory in sorted(str(parent) for parent in above if parent.name):
            entry = tarfile.TarInfo(directory)
            entry.type, entry.mode = tarfile.DIRTYPE, _EXECUTABLE
            tar.addfile(entry)
        for place, source in sorted(files.items()):
            with source.open("rb") as content:
                _add(tar, place.lstrip("/"), content)


def _add(tar: tarfile.TarFile, name: str, content: io.BufferedIOBase) -> None:
    """Add a file that belongs to root and is of no time."""
    entry = tarfile.TarInfo(name)
    entry.mode = _EXECUTABLE
    entry.size = content.seek(0, io.SEEK_END)
    content.seek(0)
    tar.addfile(entry, content)
