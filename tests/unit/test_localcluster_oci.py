"""Images that are written by hand, for programs that need nothing but themselves."""

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
    """An image of two files."""
    program, certificates = directory / "program", directory / "certificates"
    program.write_bytes(b"\x7fELF" + bytes(100_000))
    certificates.write_text("none")
    return oci.Image(
        name=NAME,
        files={"/csi-attacher": program, "/etc/ssl/certs/all.crt": certificates},
        entrypoint=["/csi-attacher"],
    )


def blob(archive: tarfile.TarFile, descriptor: dict[str, Any]) -> bytes:
    """What a descriptor points to, whose size and digest are right."""
    algorithm, _, digest = descriptor["digest"].partition(":")
    member = archive.extractfile(f"blobs/{algorithm}/{digest}")
    assert member is not None
    content = member.read()
    assert hashlib.sha256(content).hexdigest() == digest
    assert len(content) == descriptor["size"]
    return content


def test_an_archive_leads_from_its_name_to_its_files(tmp_path: Path) -> None:
    """The OCI image layout: index, manifest, configuration, layer."""
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


def test_an_archive_of_several_images_leads_from_each_name_to_its_own(tmp_path: Path) -> None:
    """Ours: a node takes them in at one go."""
    other = oci.Image(name="localhost/other:1", files={"/x": Path(__file__)}, entrypoint=["/x"])

    oci.write([image(tmp_path), other], tmp_path / "images.tar")

    with tarfile.open(tmp_path / "images.tar") as archive:
        named = archive.extractfile("index.json")
        assert named is not None
        entries = {one["annotations"]["io.containerd.image.name"]: one for one in json.load(named)["manifests"]}
        configs = {
            name: json.loads(blob(archive, json.loads(blob(archive, one))["config"])) for name, one in entries.items()
        }
    assert {name: config["config"]["Entrypoint"] for name, config in configs.items()} == {
        NAME: ["/csi-attacher"],
        "localhost/other:1": ["/x"],
    }


def test_the_same_files_give_the_same_archive_to_the_byte(tmp_path: Path) -> None:
    """Ours: who has imported an image knows it again."""
    first, second = tmp_path / "first.tar", tmp_path / "second.tar"

    oci.write([image(tmp_path)], first)
    oci.write([image(tmp_path)], second)

    assert first.read_bytes() == second.read_bytes()


def test_a_file_that_is_not_there_leaves_no_archive(tmp_path: Path) -> None:
    """Ours: half an image under the name of a whole one would be imported."""
    lacking = oci.Image(name=NAME, files={"/x": tmp_path / "missing"}, entrypoint=["/x"])

    with pytest.raises(FileNotFoundError):
        oci.write([lacking], tmp_path / "image.tar")

    assert not (tmp_path / "image.tar").exists()


def test_clusters_that_come_up_at_once_have_one_whole_archive(tmp_path: Path) -> None:
    """Ours: of the first cluster on a machine nothing is there yet, and the tests bring up two."""
    for program in images.SIDECARS:
        (tmp_path / program).write_bytes(b"\x7fELF" + bytes(1_000_000))
    begin = Barrier(4)

    def come_up(_: int) -> tuple[Path, str]:
        begin.wait()
        archive = images.sidecars(Programs(tmp_path))
        return archive, hashlib.sha256(archive.read_bytes()).hexdigest()

    with ThreadPoolExecutor(4) as clusters:
        found = set(clusters.map(come_up, range(4)))

    ((archive, _),) = found
    assert [path.name for path in archive.parent.iterdir()] == [archive.name]
