"""StorageClass and VolumeAttributesClass parameters."""

import pytest

from hyperpod_ebs.driver.model import errors, parameters
from hyperpod_ebs.driver.model.parameters import TABLE, Parameter, Parameters
from hyperpod_ebs.driver.model.tags import TagChanges
from hyperpod_ebs.driver.model.volume import Change

GOOD = {
    "type": "io2",
    "iops": "4000",
    "throughput": "250",
    "encrypted": "True",
    "kmsKeyId": "alias/mine",
    "csi.storage.k8s.io/fstype": "xfs",
    "iopsPerGB": "10",
    "allowAutoIOPSPerGBIncrease": "true",
    "allowAutoIOPSIncreaseOnModify": "true",
}


@pytest.mark.parametrize("parameter", TABLE, ids=lambda parameter: parameter.key)
def test_every_row_is_read_whatever_the_case_of_its_key(parameter: Parameter) -> None:
    """Upstream lower-cases keys before it matches them."""
    spellings = (parameter.key, parameter.key.lower(), parameter.key.upper())
    read = {getattr(parameters.parse_classes({key: GOOD[parameter.key]}, {}), parameter.sets) for key in spellings}

    assert len(read) == 1
    assert read != {None}


@pytest.mark.parametrize("parameter", TABLE, ids=lambda parameter: parameter.key)
def test_every_row_sets_a_field_and_says_what_for(parameter: Parameter) -> None:
    """Ours: the table is also the documentation."""
    assert hasattr(Parameters(), parameter.sets)
    assert parameter.says
    assert not parameter.mutable or hasattr(Change(), parameter.sets)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("type", "gp9"),
        ("type", "GP3"),
        ("iops", "many"),
        ("iops", "-1"),
        ("iops", "0"),
        ("iops", "3000.5"),
        ("iops", "٣"),
        ("iops", str(2**31)),
        ("encrypted", "yes"),
        ("encrypted", ""),
        ("kmsKeyId", ""),
        ("speed", "high"),
    ],
)
def test_a_value_that_cannot_be_read_is_refused_by_name_and_value(key: str, value: str) -> None:
    """Upstream reads `encrypted: yes` as false (its defect D33)."""
    with pytest.raises(errors.InvalidRequest) as caught:
        parameters.parse_classes({key: value}, {})

    assert key in str(caught.value)


def test_one_key_in_two_spellings_is_refused() -> None:
    """Ours: else the winner would be chance."""
    with pytest.raises(errors.InvalidRequest, match="given twice"):
        parameters.parse_classes({"iops": "1", "IOPS": "2"}, {})


def test_a_key_implies_encryption() -> None:
    """Upstream's rule."""
    assert parameters.parse_classes({"kmsKeyId": "k"}, {}).encrypted


@pytest.mark.requirement("csi.create-volume.mutable-parameters")
def test_an_attributes_class_is_laid_over_the_storage_class() -> None:
    """CSI spec §CreateVolume: mutable_parameters take precedence."""
    read = parameters.parse_classes({"type": "gp3", "iops": "3000"}, {"iops": "4000"})

    assert (read.type, read.iops) == ("gp3", 4000)


@pytest.mark.requirement("csi.modify-volume.unsupported")
@pytest.mark.parametrize("parameter", [one for one in TABLE if not one.mutable], ids=lambda one: one.key)
def test_what_cannot_change_is_refused_in_an_attributes_class(parameter: Parameter) -> None:
    """CSI spec §ControllerModifyVolume: unsupported mutable parameters."""
    with pytest.raises(errors.InvalidRequest, match="is not one of type, iops, throughput, tagSpecification"):
        parameters.parse_change({parameter.key: GOOD[parameter.key]})


@pytest.mark.requirement("csi.modify-volume.only-named")
def test_a_change_holds_only_what_was_named() -> None:
    """Ours: None leaves a property as it is."""
    assert parameters.parse_change({"Throughput": "500"}) == (Change(throughput=500), TagChanges())


def test_what_the_resizer_tells_of_the_claim_is_taken_in_an_attributes_class() -> None:
    """The resizer's --extra-modify-metadata, which the chart switches on; templates may name it."""
    claim = {"csi.storage.k8s.io/pvc/name": "claim", "csi.storage.k8s.io/pvc/namespace": "team"}
    claim |= {"csi.storage.k8s.io/pv/name": "pvc-1"}

    change, tags = parameters.parse_change({**claim, "iops": "4000", "tagSpecification_1": "of={{ .PVCName }}"})

    assert (change, tags) == (Change(iops=4000), TagChanges(put={"of": "claim"}))
    assert parameters.has_only_known_keys(claim)
    assert parameters.parse_classes({}, claim).metadata == claim


def test_an_attributes_class_puts_tags_and_takes_them_away() -> None:
    """Upstream's tagSpecification and tagDeletion; nobody's own tags are anybody's to take."""
    asked = {"tagSpecification_1": "a=1", "tagDeletion_1": "b", "tagDeletion_2": "c"}

    assert parameters.parse_change(asked) == (Change(), TagChanges(put={"a": "1"}, remove=frozenset({"b", "c"})))
    with pytest.raises(errors.InvalidRequest, match="reserved"):
        parameters.parse_change({"tagDeletion": "CSIVolumeName"})
    read = parameters.parse_classes({"tagSpecification": "b=2"}, asked)
    assert (read.tag_specifications, read.tag_deletions) == (("b=2", "a=1"), ("b", "c"))


def test_the_former_name_of_the_type_is_read_where_there_is_no_other() -> None:
    """Upstream's deprecated volumeType."""
    assert parameters.parse_change({"volumeType": "io2"})[0] == Change(type="io2")
    assert parameters.parse_change({"volumeType": "io2", "type": "gp3"})[0] == Change(type="gp3")


def test_deprecated_keys_are_taken_in_a_storage_class() -> None:
    """Upstream's fstype, which the provisioner reads, and blockExpress."""
    assert parameters.parse_classes({"fstype": "xfs", "blockExpress": "true"}, {}) == Parameters()


def test_iops_are_asked_for_in_one_way() -> None:
    """Upstream's rule."""
    with pytest.raises(errors.InvalidRequest, match="both given"):
        parameters.parse_classes({"iops": "1000", "iopsPerGB": "10"}, {})


def test_the_provisioners_metadata_and_tag_specifications_are_kept_apart() -> None:
    """The provisioner's --extra-create-metadata; upstream's tagSpecification, in the order of its keys."""
    read = parameters.parse_classes(
        {"csi.storage.k8s.io/pv/name": "pv", "tagSpecification_2": "b=2", "tagSpecification_1": "a=1"}, {}
    )

    assert read.metadata == {"csi.storage.k8s.io/pv/name": "pv"}
    assert read.tag_specifications == ("a=1", "b=2")


def test_the_prefix_of_tag_specifications_is_case_sensitive() -> None:
    """Upstream's rule."""
    with pytest.raises(errors.InvalidRequest, match="tagspecification_1"):
        parameters.parse_classes({"tagspecification_1": "a=1"}, {})
