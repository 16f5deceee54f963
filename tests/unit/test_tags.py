"""The tags of what the driver makes."""

import pytest

from hyperpod_ebs.model import errors, tags

METADATA = {
    "csi.storage.k8s.io/pvc/name": "claim",
    "csi.storage.k8s.io/pvc/namespace": "team",
    "csi.storage.k8s.io/pv/name": "pvc-1",
}


def test_a_volume_carries_upstreams_tags() -> None:
    """Upstream's tags, so that its volumes and ours are found alike, and AWS's managed policy allows it."""
    assert tags.of_volume("pvc-1", METADATA, ()) == {
        "CSIVolumeName": "pvc-1",
        "ebs.csi.aws.com/cluster": "true",
        "kubernetes.io/created-for/pvc/name": "claim",
        "kubernetes.io/created-for/pvc/namespace": "team",
        "kubernetes.io/created-for/pv/name": "pvc-1",
    }


def test_a_snapshot_carries_its_name() -> None:
    """Upstream's tags."""
    assert tags.of_snapshot("s") == {"CSIVolumeSnapshotName": "s", "ebs.csi.aws.com/cluster": "true"}


def test_a_specification_is_filled_from_the_metadata() -> None:
    """Upstream's template fields; a value may hold further equals signs, or nothing."""
    made = tags.of_volume(
        "n", METADATA, ["owner={{ .PVCNamespace }}/{{.PVCName}}", "of={{ .PVName }}", "expr=a=b", "empty="]
    )

    assert (made["owner"], made["of"], made["expr"], made["empty"]) == ("team/claim", "pvc-1", "a=b", "")


def test_a_field_that_was_not_sent_is_empty() -> None:
    """Upstream's behaviour without --extra-create-metadata."""
    assert tags.of_volume("n", {}, ["owner={{ .PVCName }}"])["owner"] == ""


@pytest.mark.parametrize(
    ("specification", "says"),
    [
        ("no equals sign", "key=value"),
        ("=value", "key=value"),
        ("CSIVolumeName=x", "reserved"),
        ("CSIVolumeSnapshotName=x", "reserved"),
        ("kubernetes.io/cluster/a=owned", "reserved"),
        ("ebs.csi.aws.com/cluster=false", "reserved"),
        ("AWS:x=y", "reserved"),
        ("k={{ .Secret }}", "{{ .Secret }}"),
        ("k" * 129 + "=v", "128 and 256"),
        ("k=" + "v" * 257, "128 and 256"),
    ],
)
def test_a_bad_specification_is_refused(specification: str, says: str) -> None:
    """Upstream's reserved tags, and EC2's tag restrictions."""
    with pytest.raises(errors.InvalidRequest) as caught:
        tags.of_volume("n", {}, [specification])

    assert says in str(caught.value)


def test_more_tags_than_ec2_takes_are_refused() -> None:
    """EC2's tag restrictions: 50 a resource."""
    assert len(tags.of_volume("n", {}, [f"k{i}=v" for i in range(48)])) == 50
    with pytest.raises(errors.InvalidRequest, match="51 tags"):
        tags.of_volume("n", {}, [f"k{i}=v" for i in range(49)])
