"""OCI archives that are built without a builder."""

import hashlib
import io
import json
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from localcluster import images, oci
from localcluster.programs import Programs

NAME = "localhost/csi-components/csi-attacher:v4.12.0"


def image(directory: Path) -> oci.Image:
    """An image with two files."""
    program, certificates = directory / "program", directory / "certificates"
    program.write_bytes(b"\x7fELF" + bytes(100_000))
    certificates.write_text("none")
    return oci.Image(
        name=NAME,
        files={"/csi-attacher": program, "/etc/ssl/certs/all.crt": certificates},
        entrypoint=["/csi-attacher"],
    )


def blob(archive: tarfile.TarFile, descriptor: dict[str, Any]) -> bytes:
    """The blob of a descriptor, after a check of its size and digest."""
    algorithm, _, digest = descriptor["digest"].partition(":")
    member = archive.extractfile(f"blobs/{algorithm}/{digest}")
    assert member is not None
    content = member.read()
    assert hashlib.sha256(content).hexdigest() == digest
    assert len(content) == descriptor["size"]
    return content


def test_an_archive_leads_from_the_images_name_to_its_files(tmp_path: Path) -> None:
    """OCI image layout specification: index, manifest, configuration, layer."""
    oci.write([image(tmp_path)], tmp_path / "image.tar")

    with tarfile.open(tmp_path / "image.tar") as archive:
        named = archive.extractfile("index.json")
        assert named is not None
        [entry] = json.load(named)["manifests"]
        manifest = json.loads(blob(archive, entry))
        config = json.loads(blob(archive, manifest["config"]))
        layer = blob(archive, manifest["layers"][0])
    assert entry["annotations"]["io.containerd.image.name"] == NAME
    assert config["config"] == {"Entrypoint": ["/csi-attacher"], "User": "65532:65532"}
    assert config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(layer).hexdigest()}"]
    with tarfile.open(fileobj=io.BytesIO(layer)) as files:
        assert files.getnames() == ["etc", "etc/ssl", "etc/ssl/certs", "csi-attacher", "etc/ssl/certs/all.crt"]
        assert {file.mode for file in files} == {0o755}
        assert {(file.uid, file.mtime) for file in files} == {(0, 0)}


def test_an_archive_of_several_images_leads_from_each_name_to_its_image(tmp_path: Path) -> None:
    """A node imports all sidecars at once."""
    other = oci.Image(name="localhost/other:1", files={"/x": Path(__file__)}, entrypoint=["/x"])

    oci.write([image(tmp_path), other], tmp_path / "images.tar")

    with tarfile.open(tmp_path / "images.tar") as archive:
        named = archive.extractfile("index.json")
        assert named is not None
        entries = {entry["annotations"]["io.containerd.image.name"]: entry for entry in json.load(named)["manifests"]}
        configs = {
            name: json.loads(blob(archive, json.loads(blob(archive, entry))["config"]))
            for name, entry in entries.items()
        }
    assert {name: config["config"]["Entrypoint"] for name, config in configs.items()} == {
        NAME: ["/csi-attacher"],
        "localhost/other:1": ["/x"],
    }


def test_the_same_files_give_the_same_archive_to_the_byte(tmp_path: Path) -> None:
    """A node that has imported the image does not import it again."""
    first, second = tmp_path / "first.tar", tmp_path / "second.tar"

    oci.write([image(tmp_path)], first)
    oci.write([image(tmp_path)], second)

    assert first.read_bytes() == second.read_bytes()


def test_a_missing_file_leaves_no_archive(tmp_path: Path) -> None:
    """An incomplete archive would be imported by the next cluster."""
    incomplete = oci.Image(name=NAME, files={"/x": tmp_path / "missing"}, entrypoint=["/x"])

    with pytest.raises(FileNotFoundError):
        oci.write([incomplete], tmp_path / "image.tar")

    assert not (tmp_path / "image.tar").exists()


def test_clusters_that_start_at_the_same_time_build_one_complete_archive(tmp_path: Path) -> None:
    """The tests start two clusters, and a new machine has no archive yet."""
    for program in images.SIDECARS:
        (tmp_path / program).write_bytes(b"\x7fELF" + bytes(1_000_000))
    all_started = Barrier(4)

    def start_cluster(_: int) -> tuple[Path, str]:
        all_started.wait()
        archive = images.build_sidecar_archive(Programs(tmp_path))
        return archive, hashlib.sha256(archive.read_bytes()).hexdigest()

    with ThreadPoolExecutor(4) as clusters:
        archives = set(clusters.map(start_cluster, range(4)))

    ((archive, _),) = archives
    assert [path.name for path in archive.parent.iterdir()] == [archive.name]
