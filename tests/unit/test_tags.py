"""The tags of what the driver makes."""

import pytest

from hyperpod_ebs.driver.model import errors, tags

METADATA = {
    "csi.storage.k8s.io/pvc/name": "claim",
    "csi.storage.k8s.io/pvc/namespace": "team",
    "csi.storage.k8s.io/pv/name": "pvc-1",
}


def test_a_volume_carries_upstreams_tags() -> None:
    """Upstream's tags, so that its volumes and ours are found alike, and AWS's managed policy allows it."""
    assert tags.TagPolicy().volume_tags("pvc-1", METADATA, ()) == {
        "CSIVolumeName": "pvc-1",
        "ebs.csi.aws.com/cluster": "true",
        "kubernetes.io/created-for/pvc/name": "claim",
        "kubernetes.io/created-for/pvc/namespace": "team",
        "kubernetes.io/created-for/pv/name": "pvc-1",
    }


def test_a_snapshot_carries_its_name() -> None:
    """Upstream's tags."""
    assert tags.TagPolicy().snapshot_tags("s") == {"CSIVolumeSnapshotName": "s", "ebs.csi.aws.com/cluster": "true"}


def test_a_specification_is_filled_from_the_metadata() -> None:
    """Upstream's template fields; a value may hold further equals signs, or nothing."""
    made = tags.TagPolicy().volume_tags(
        "n", METADATA, ["owner={{ .PVCNamespace }}/{{.PVCName}}", "of={{ .PVName }}", "expr=a=b", "empty="]
    )

    assert (made["owner"], made["of"], made["expr"], made["empty"]) == ("team/claim", "pvc-1", "a=b", "")


def test_a_field_that_was_not_sent_is_empty() -> None:
    """Upstream's behaviour without --extra-create-metadata."""
    assert tags.TagPolicy().volume_tags("n", {}, ["owner={{ .PVCName }}"])["owner"] == ""


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
        tags.TagPolicy().volume_tags("n", {}, [specification])

    assert says in str(caught.value)


def test_more_tags_than_ec2_takes_are_refused() -> None:
    """EC2's tag restrictions: 50 a resource."""
    assert len(tags.TagPolicy().volume_tags("n", {}, [f"k{i}=v" for i in range(48)])) == 50
    with pytest.raises(errors.InvalidRequest, match="51 tags"):
        tags.TagPolicy().volume_tags("n", {}, [f"k{i}=v" for i in range(49)])


def test_a_clusters_volumes_and_snapshots_carry_its_name() -> None:
    """Upstream's --k8s-tag-cluster-id: for cost, for people, and for policies that keep clusters apart."""
    policy = tags.TagPolicy(cluster="mine")

    shared = {"kubernetes.io/cluster/mine": "owned", "ebs.csi.aws.com/cluster-name": "mine"}
    volume = {"Name": "mine-dynamic-pvc-1", "KubernetesCluster": "mine"}
    assert policy.volume_tags("pvc-1", {}, ()) == tags.TagPolicy().volume_tags("pvc-1", {}, ()) | shared | volume
    assert policy.snapshot_tags("s") == tags.TagPolicy().snapshot_tags("s") | shared | {"Name": "mine-dynamic-s"}


def test_a_users_tag_wins_over_the_clusters_and_the_classs_over_all() -> None:
    """Upstream's order, since its version 1.49."""
    policy = tags.TagPolicy(cluster="mine", extra=("Name=ours", "team=a"))

    made = policy.volume_tags("pvc-1", {}, ["team=b"])

    assert (made["Name"], made["team"]) == ("ours", "b")


def test_a_snapshots_tags_are_filled_from_what_the_snapshotter_tells() -> None:
    """Upstream's template fields; what is told of claims alone is empty for a snapshot."""
    metadata = {"csi.storage.k8s.io/volumesnapshot/name": "s", "csi.storage.k8s.io/volumesnapshot/namespace": "team"}
    policy = tags.TagPolicy(extra=("claim={{ .PVCName }}",))

    made = policy.snapshot_tags("snapshot-1", metadata, ["of={{ .VolumeSnapshotNamespace }}/{{ .VolumeSnapshotName }}"])

    assert (made["of"], made["claim"]) == ("team/s", "")


def test_a_wrong_tag_is_left_out_and_told_where_that_is_wished() -> None:
    """Upstream's --warn-on-invalid-tag."""
    told: list[str] = []
    policy = tags.TagPolicy(extra=("kubernetes.io/x=y", "good=1"), on_invalid=told.append)

    made = policy.volume_tags("pvc-1", {}, ["bad"])

    assert made == tags.TagPolicy().volume_tags("pvc-1", {}, ["good=1"])
    assert [one.split(" ")[0:2] for one in told] == [["tag", "key"], ["tag", "specification"]]


def test_what_is_to_be_taken_away_is_not_put_on_in_the_first_place() -> None:
    """Ours: a VolumeAttributesClass may be that of a new volume."""
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
def test_a_flags_text_holds_one_tag_or_several(texts: tuple[str, ...], pairs: tuple[str, ...]) -> None:
    """The library that upstream reads its flags with: one equals sign is one tag, commas and all."""
    assert tags.split_flags(texts) == pairs
