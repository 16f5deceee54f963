"""The tags of volumes and snapshots."""

import pytest

from hyperpod_ebs.driver.model import errors, tags

METADATA = {
    "csi.storage.k8s.io/pvc/name": "claim",
    "csi.storage.k8s.io/pvc/namespace": "team",
    "csi.storage.k8s.io/pv/name": "pvc-1",
}


def test_a_volume_has_the_tags_of_the_upstream_driver() -> None:
    """aws-ebs-csi-driver, docs/tagging.md; AWS's managed policy requires ebs.csi.aws.com/cluster."""
    assert tags.TagPolicy().volume_tags("pvc-1", METADATA, ()) == {
        "CSIVolumeName": "pvc-1",
        "ebs.csi.aws.com/cluster": "true",
        "kubernetes.io/created-for/pvc/name": "claim",
        "kubernetes.io/created-for/pvc/namespace": "team",
        "kubernetes.io/created-for/pv/name": "pvc-1",
    }


def test_a_snapshot_has_a_tag_with_its_name() -> None:
    """aws-ebs-csi-driver, docs/tagging.md."""
    assert tags.TagPolicy().snapshot_tags("s") == {"CSIVolumeSnapshotName": "s", "ebs.csi.aws.com/cluster": "true"}


def test_templates_in_a_tag_are_filled_in_from_the_metadata() -> None:
    """aws-ebs-csi-driver, docs/tagging.md; a value may have further equals signs, or be empty."""
    made = tags.TagPolicy().volume_tags(
        "n", METADATA, ["owner={{ .PVCNamespace }}/{{.PVCName}}", "of={{ .PVName }}", "expr=a=b", "empty="]
    )

    assert (made["owner"], made["of"], made["expr"], made["empty"]) == ("team/claim", "pvc-1", "a=b", "")


def test_a_template_that_never_ends_takes_no_time() -> None:
    """CWE-1333: a tag in a StorageClass must not stop the process; with a search that backtracks it would."""
    with pytest.raises(errors.InvalidRequest, match="EC2 allows"):
        tags.TagPolicy().volume_tags("pvc-1", {}, ["team={{" + 100_000 * " " + "{{"])


def test_a_template_field_without_metadata_is_empty() -> None:
    """The provisioner sends the metadata only with --extra-create-metadata."""
    assert tags.TagPolicy().volume_tags("n", {}, ["owner={{ .PVCName }}"])["owner"] == ""


@pytest.mark.parametrize(
    ("specification", "message"),
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
def test_an_invalid_tag_is_refused(specification: str, message: str) -> None:
    """Upstream's reserved tags, and "Tag restrictions" in the EC2 User Guide."""
    with pytest.raises(errors.InvalidRequest) as error:
        tags.TagPolicy().volume_tags("n", {}, [specification])

    assert message in str(error.value)


def test_more_tags_than_ec2_allows_are_refused() -> None:
    """EC2 User Guide, "Tag restrictions": 50 tags per resource."""
    assert len(tags.TagPolicy().volume_tags("n", {}, [f"k{i}=v" for i in range(48)])) == 50
    with pytest.raises(errors.InvalidRequest, match="51 tags"):
        tags.TagPolicy().volume_tags("n", {}, [f"k{i}=v" for i in range(49)])


def test_volumes_and_snapshots_have_tags_with_the_clusters_name() -> None:
    """Upstream's --k8s-tag-cluster-id: for cost allocation, and for IAM policies that separate clusters."""
    policy = tags.TagPolicy(cluster="mine")

    shared = {"kubernetes.io/cluster/mine": "owned", "ebs.csi.aws.com/cluster-name": "mine"}
    volume = {"Name": "mine-dynamic-pvc-1", "KubernetesCluster": "mine"}
    assert policy.volume_tags("pvc-1", {}, ()) == tags.TagPolicy().volume_tags("pvc-1", {}, ()) | shared | volume
    assert policy.snapshot_tags("s") == tags.TagPolicy().snapshot_tags("s") | shared | {"Name": "mine-dynamic-s"}


def test_a_users_tag_overrides_the_clusters_and_that_of_a_class_overrides_both() -> None:
    """Upstream's order of precedence since its version 1.49."""
    policy = tags.TagPolicy(cluster="mine", extra=("Name=custom", "team=a"))

    made = policy.volume_tags("pvc-1", {}, ["team=b"])

    assert (made["Name"], made["team"]) == ("custom", "b")


def test_templates_in_a_snapshots_tags_are_filled_in_from_the_snapshotters_metadata() -> None:
    """aws-ebs-csi-driver, docs/tagging.md, "Snapshot Tagging"."""
    metadata = {"csi.storage.k8s.io/volumesnapshot/name": "s", "csi.storage.k8s.io/volumesnapshot/namespace": "team"}
    specification = "of={{ .VolumeSnapshotNamespace }}/{{ .VolumeSnapshotName }}"

    assert tags.TagPolicy().snapshot_tags("snapshot-1", metadata, [specification])["of"] == "team/s"


def test_a_tag_for_all_objects_is_left_out_where_its_template_has_no_meaning() -> None:
    """A snapshot has no claim, and a volume has no snapshot: the tag's value would be empty."""
    policy = tags.TagPolicy(extra=("claim={{ .PVCName }}", "snapshot={{.VolumeSnapshotName}}", "all=1"))

    volume, snapshot = policy.volume_tags("pvc-1", METADATA, ()), policy.snapshot_tags("snapshot-1")

    assert {"claim": "claim", "all": "1"}.items() <= volume.items()
    assert "snapshot" not in volume
    assert "claim" not in snapshot
    with pytest.raises(errors.InvalidRequest, match=r"'\{\{ \.PVCName \}\}', which is not one of .VolumeSnapshot"):
        policy.snapshot_tags("snapshot-1", {}, ["claim={{ .PVCName }}"])


def test_a_cluster_name_that_is_too_long_for_its_tag_key_is_refused() -> None:
    """EC2 User Guide, "Tag restrictions": 128 characters in a key, of which 22 are kubernetes.io/cluster/."""
    assert f"kubernetes.io/cluster/{'c' * 106}" in tags.TagPolicy(cluster="c" * 106).volume_tags("pvc-1", {}, ())
    with pytest.raises(errors.InvalidRequest, match="has 107 characters; it may have 106"):
        tags.TagPolicy(cluster="c" * 107).volume_tags("pvc-1", {}, ())


def test_an_invalid_tag_can_be_left_out_with_a_report() -> None:
    """Upstream's --warn-on-invalid-tag, docs/tagging.md, "Failure Modes"."""
    reasons: list[str] = []
    policy = tags.TagPolicy(extra=("kubernetes.io/x=y", "good=1"), on_invalid=reasons.append)

    made = policy.volume_tags("pvc-1", {}, ["bad"])

    assert made == tags.TagPolicy().volume_tags("pvc-1", {}, ["good=1"])
    assert [reason.split(" ")[0:2] for reason in reasons] == [["tag", "key"], ["tag", "specification"]]


def test_a_new_volume_does_not_get_tags_that_its_attributes_class_deletes() -> None:
    """A claim may name a VolumeAttributesClass when it is created."""
    assert "b" not in tags.TagPolicy().volume_tags("pvc-1", {}, ["a=1", "b=2"], ["b"])


@pytest.mark.parametrize(
    ("texts", "pairs"),
    [
        ((), ()),
        (("a=b",), ("a=b",)),
        (("a=b,c=d", "e=f"), ("a=b", "c=d", "e=f")),
        (("a=b,c",), ("a=b,c",)),
        (('"a=b,c",d=e',), ("a=b,c", "d=e")),
        (('"a=b,c"',), ("a=b,c",)),
        (("a=",), ("a=",)),
    ],
)
def test_the_text_of_a_flag_has_one_tag_or_several(texts: tuple[str, ...], pairs: tuple[str, ...]) -> None:
    """spf13/pflag, StringToString: with one equals sign, commas belong to the value."""
    assert tags.split_flags(texts) == pairs
