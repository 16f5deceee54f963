"""Builds OCI archives without a builder: each image has one layer, made of existing files.

This is enough for programs without dependencies, such as static Go binaries. The same files give the
same archive, byte for byte, so that importing it again does nothing. The archive is not compressed,
because it is written and read on the same machine.
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

_MEDIA_TYPE: Final = "application/vnd.oci.image"
_EXECUTABLE: Final = 0o755


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """The content of an image."""

    name: str
    """With the tag: `localhost/csi-components/csi-attacher:v4.12.0`."""
    files: Mapping[str, Path]
    """The source of each file, by its absolute path in the image."""
    entrypoint: Sequence[str]
    user: str = "65532:65532"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Blob:
    """A part of an archive, addressed by its digest."""

    media_type: str
    content: io.BufferedIOBase
    digest: str
    size: int

    @classmethod
    def from_file(cls, kind: str, content: io.BufferedIOBase) -> Self:
        size = content.seek(0, io.SEEK_END)
        content.seek(0)
        digest = hashlib.file_digest(content, "sha256").hexdigest()
        return cls(media_type=f"{_MEDIA_TYPE}.{kind}", content=content, digest=digest, size=size)

    @classmethod
    def from_json(cls, kind: str, value: Mapping[str, Any]) -> Self:
        return cls.from_file(kind, io.BytesIO(json.dumps(value).encode()))

    @property
    def descriptor(self) -> dict[str, Any]:
        return {"mediaType": self.media_type, "digest": f"sha256:{self.digest}", "size": self.size}


def write(images: Iterable[Image], archive: Path) -> None:
    """Write one archive of these images; the path exists only once the archive is complete.

    Raises:
        OSError: A file cannot be read, or the archive cannot be written.
    """
    temporary = archive.with_name(f"{archive.name}.unfinished")
    manifests: list[dict[str, Any]] = []  # OCI's descriptors
    with temporary.open("wb") as out, tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        _add_file(tar, "oci-layout", io.BytesIO(json.dumps({"imageLayoutVersion": "1.0.0"}).encode()))
        for image in images:
            with tempfile.TemporaryFile(dir=archive.parent) as layer:
                manifests.append(_add_image(tar, image, layer))
        _add_file(tar, "index.json", io.BytesIO(json.dumps({"schemaVersion": 2, "manifests": manifests}).encode()))
    temporary.replace(archive)


def _add_image(tar: tarfile.TarFile, image: Image, layer: io.BufferedIOBase) -> dict[str, Any]:
    """Add an image to an archive; its descriptor, with its name (OCI image specification: config, manifest)."""
    _write_layer(layer, image.files)
    rootfs = _Blob.from_file("layer.v1.tar", layer)
    config = _Blob.from_json(
        "config.v1+json",
        {
            "created": "1970-01-01T00:00:00Z",
            "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine()),
            "os": "linux",
            "config": {"Entrypoint": [*image.entrypoint], "User": image.user},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{rootfs.digest}"]},
            "history": [{"created_by": "localcluster"}],  # buildah requires it of a base image
        },
    )
    manifest = _Blob.from_json(
        "manifest.v1+json",
        {"schemaVersion": 2, "config": config.descriptor, "layers": [rootfs.descriptor]},
    )
    for blob in (rootfs, config, manifest):
        _add_file(tar, f"blobs/sha256/{blob.digest}", blob.content)
    names = {"org.opencontainers.image.ref.name": image.name, "io.containerd.image.name": image.name}
    return {**manifest.descriptor, "annotations": names}


def _write_layer(layer: io.BufferedIOBase, files: Mapping[str, Path]) -> None:
    """Write a layer of the files and their parent directories."""
    parents = {parent for path in files for parent in PurePosixPath(path.lstrip("/")).parents}
    with tarfile.open(fileobj=layer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for directory in sorted(str(parent) for parent in parents if parent.name):
            entry = tarfile.TarInfo(directory)
            entry.type, entry.mode = tarfile.DIRTYPE, _EXECUTABLE
            tar.addfile(entry)
        for path, source in sorted(files.items()):
            with source.open("rb") as content:
                _add_file(tar, path.lstrip("/"), content)


def _add_file(tar: tarfile.TarFile, name: str, content: io.BufferedIOBase) -> None:
    """Add an executable file that is owned by root and has no modification time."""
    entry = tarfile.TarInfo(name)
    entry.mode = _EXECUTABLE
    entry.size = content.seek(0, io.SEEK_END)
    content.seek(0)
    tar.addfile(entry, content)
