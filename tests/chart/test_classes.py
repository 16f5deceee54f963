"""Classes as values: what a line of YAML becomes in the cluster."""

from tests.support.helm_chart import render


async def test_a_storage_class_has_the_defaults_that_ebs_wants() -> None:
    """A zone is chosen by the pod. Whether claims may grow is Kubernetes' default, as upstream leaves it."""
    rendered = await render({"storageClasses": [{"name": "fast", "parameters": {"iops": 6000, "encrypted": True}}]})

    fast = rendered.one("StorageClass", "fast")

    assert fast["provisioner"] == "ebs.csi.aws.com"
    assert fast["volumeBindingMode"] == "WaitForFirstConsumer"
    assert fast["reclaimPolicy"] == "Delete"
    assert "allowVolumeExpansion" not in fast
    # Parameters are texts to Kubernetes, whatever YAML took them for.
    assert fast["parameters"] == {"iops": "6000", "encrypted": "true"}


async def test_a_parameter_is_what_was_written() -> None:
    """Ours: a number of seven digits is no 1e+07, and a name that YAML takes for more than a text stays one."""
    said = {"numberOfInodes": 10000000, "bytesPerInode": 1048576, "ratio": 1.5, "on": False, "1": "0x10"}

    fast = (await render({"storageClasses": [{"name": "fast", "parameters": said}]})).one("StorageClass", "fast")

    assert fast["parameters"] == {
        "numberOfInodes": "10000000",
        "bytesPerInode": "1048576",
        "ratio": "1.5",
        "on": "false",
        "1": "0x10",
    }


async def test_a_storage_class_says_otherwise() -> None:
    """Ours: false is not the same as nothing said."""
    said = {
        "name": "kept",
        "allowVolumeExpansion": False,
        "reclaimPolicy": "Retain",
        "volumeBindingMode": "Immediate",
        "mountOptions": ["noatime"],
        "labels": {"tier": "storage"},
        "annotations": {"note": "kept"},
    }

    kept = (await render({"storageClasses": [said]})).one("StorageClass", "kept")

    assert kept["allowVolumeExpansion"] is False
    assert (kept["reclaimPolicy"], kept["volumeBindingMode"]) == ("Retain", "Immediate")
    assert kept["mountOptions"] == ["noatime"]
    assert kept["metadata"]["labels"]["tier"] == "storage"
    assert kept["metadata"]["annotations"] == {"note": "kept"}


async def test_the_default_class_is_the_clusters_default() -> None:
    """Upstream: defaultStorageClass.enabled."""
    rendered = await render({"defaultStorageClass": {"enabled": True}})

    [found] = rendered.all("StorageClass")

    assert found["metadata"]["annotations"] == {"storageclass.kubernetes.io/is-default-class": "true"}
    assert found["allowVolumeExpansion"] is True
    # gp3 is the driver's default; parameters cannot be added to a class that upstream's release made.
    assert "parameters" not in found


async def test_a_snapshot_class_is_the_drivers() -> None:
    """Upstream: volumeSnapshotClasses."""
    rendered = await render({"volumeSnapshotClasses": [{"name": "kept", "deletionPolicy": "Retain"}]})

    kept = rendered.one("VolumeSnapshotClass", "kept")

    assert (kept["driver"], kept["deletionPolicy"]) == ("ebs.csi.aws.com", "Retain")


async def test_an_attributes_class_speaks_the_clusters_version() -> None:
    """The issue: VolumeAttributesClass as values; v1 from Kubernetes 1.34 on, v1beta1 where only that is served."""
    values = {"volumeAttributesClasses": [{"name": "fast", "parameters": {"iops": 16000}}]}

    newest = await render(values)
    older = await render(
        values, apis=("storage.k8s.io/v1/StorageClass", "storage.k8s.io/v1beta1/VolumeAttributesClass")
    )

    assert newest.one("VolumeAttributesClass", "fast")["apiVersion"] == "storage.k8s.io/v1"
    assert newest.one("VolumeAttributesClass", "fast")["parameters"] == {"iops": "16000"}
    assert older.one("VolumeAttributesClass", "fast")["apiVersion"] == "storage.k8s.io/v1beta1"
