"""The storage, snapshot and attributes classes that the values describe."""

from tests.support.helm_chart import render


async def test_a_storage_class_waits_for_the_first_pod_and_leaves_expansion_to_kubernetes() -> None:
    """The pod determines the zone. Upstream sets no allowVolumeExpansion either."""
    rendered = await render({"storageClasses": [{"name": "fast", "parameters": {"iops": 6000, "encrypted": True}}]})

    fast = rendered.get("StorageClass", "fast")

    assert fast["provisioner"] == "ebs.csi.aws.com"
    assert fast["volumeBindingMode"] == "WaitForFirstConsumer"
    assert fast["reclaimPolicy"] == "Delete"
    assert "allowVolumeExpansion" not in fast
    # Kubernetes wants strings; YAML reads numbers and booleans.
    assert fast["parameters"] == {"iops": "6000", "encrypted": "true"}


async def test_a_parameter_is_written_as_in_the_values() -> None:
    """Go would write a large number as 1e+07, and YAML reads `on` as a boolean."""
    parameters = {"numberOfInodes": 10000000, "bytesPerInode": 1048576, "ratio": 1.5, "on": False, "1": "0x10"}

    fast = (await render({"storageClasses": [{"name": "fast", "parameters": parameters}]})).get("StorageClass", "fast")

    assert fast["parameters"] == {
        "numberOfInodes": "10000000",
        "bytesPerInode": "1048576",
        "ratio": "1.5",
        "on": "false",
        "1": "0x10",
    }


async def test_a_storage_class_can_set_every_field() -> None:
    """A value of false differs from a missing value."""
    values = {
        "name": "kept",
        "allowVolumeExpansion": False,
        "reclaimPolicy": "Retain",
        "volumeBindingMode": "Immediate",
        "mountOptions": ["noatime"],
        "labels": {"tier": "storage"},
        "annotations": {"note": "kept"},
    }

    kept = (await render({"storageClasses": [values]})).get("StorageClass", "kept")

    assert kept["allowVolumeExpansion"] is False
    assert (kept["reclaimPolicy"], kept["volumeBindingMode"]) == ("Retain", "Immediate")
    assert kept["mountOptions"] == ["noatime"]
    assert kept["metadata"]["labels"]["tier"] == "storage"
    assert kept["metadata"]["annotations"] == {"note": "kept"}


async def test_the_default_class_is_the_clusters_default() -> None:
    """Upstream: defaultStorageClass.enabled."""
    rendered = await render({"defaultStorageClass": {"enabled": True}})

    [default] = rendered.all("StorageClass")

    assert default["metadata"]["annotations"] == {"storageclass.kubernetes.io/is-default-class": "true"}
    assert default["allowVolumeExpansion"] is True
    # gp3 is the driver's default. Kubernetes forbids adding parameters to the class of an upstream release.
    assert "parameters" not in default


async def test_a_snapshot_class_names_the_driver() -> None:
    """Upstream: volumeSnapshotClasses."""
    rendered = await render({"volumeSnapshotClasses": [{"name": "kept", "deletionPolicy": "Retain"}]})

    kept = rendered.get("VolumeSnapshotClass", "kept")

    assert (kept["driver"], kept["deletionPolicy"]) == ("ebs.csi.aws.com", "Retain")


async def test_an_attributes_class_has_an_api_version_that_the_cluster_serves() -> None:
    """Kubernetes serves v1 from 1.34 on, older versions v1beta1."""
    values = {"volumeAttributesClasses": [{"name": "fast", "parameters": {"iops": 16000}}]}

    newest = await render(values)
    older = await render(
        values, apis=("storage.k8s.io/v1/StorageClass", "storage.k8s.io/v1beta1/VolumeAttributesClass")
    )

    assert newest.get("VolumeAttributesClass", "fast")["apiVersion"] == "storage.k8s.io/v1"
    assert newest.get("VolumeAttributesClass", "fast")["parameters"] == {"iops": "16000"}
    assert older.get("VolumeAttributesClass", "fast")["apiVersion"] == "storage.k8s.io/v1beta1"
