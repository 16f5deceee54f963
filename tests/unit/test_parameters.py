"""StorageClass and VolumeAttributesClass parameters."""

import pytest

from hyperpod_ebs.model import errors, parameters
from hyperpod_ebs.model.parameters import TABLE, Parameter, Parameters
from hyperpod_ebs.model.volume import Change

GOOD = {
    "type": "io2",
    "iops": "4000",
    "throughput": "250",
    "encrypted": "True",
    "kmsKeyId": "alias/mine",
    "csi.storage.k8s.io/fstype": "xfs",
}


@pytest.mark.parametrize("parameter", TABLE, ids=lambda parameter: parameter.key)
def test_every_row_is_read_whatever_the_case_of_its_key(parameter: Parameter) -> None:
    """Upstream lower-cases keys before it matches them."""
    spellings = (parameter.key, parameter.key.lower(), parameter.key.upper())
    read = {getattr(parameters.of_class({key: GOOD[parameter.key]}, {}), parameter.sets) for key in spellings}

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
        parameters.of_class({key: value}, {})

    assert key in str(caught.value)


def test_one_key_in_two_spellings_is_refused() -> None:
    """Ours: else the winner would be chance."""
    with pytest.raises(errors.InvalidRequest, match="given twice"):
        parameters.of_class({"iops": "1", "IOPS": "2"}, {})


def test_a_key_implies_encryption() -> None:
    """Upstream's rule."""
    assert parameters.of_class({"kmsKeyId": "k"}, {}).encrypted


def test_an_attributes_class_is_laid_over_the_storage_class() -> None:
    """CSI spec §CreateVolume: mutable_parameters take precedence."""
    read = parameters.of_class({"type": "gp3", "iops": "3000"}, {"iops": "4000"})

    assert (read.type, read.iops) == ("gp3", 4000)


@pytest.mark.parametrize("parameter", [one for one in TABLE if not one.mutable], ids=lambda one: one.key)
def test_what_cannot_change_is_refused_in_an_attributes_class(parameter: Parameter) -> None:
    """CSI spec §ControllerModifyVolume: unsupported mutable parameters."""
    with pytest.raises(errors.InvalidRequest, match="is not one of type, iops, throughput"):
        parameters.change({parameter.key: GOOD[parameter.key]})


def test_a_change_holds_only_what_was_named() -> None:
    """Ours: None leaves a property as it is."""
    assert parameters.change({"Throughput": "500"}) == Change(throughput=500)


def test_the_provisioners_metadata_and_tag_specifications_are_kept_apart() -> None:
    """The provisioner's --extra-create-metadata; upstream's tagSpecification, in the order of its keys."""
    read = parameters.of_class(
        {"csi.storage.k8s.io/pv/name": "pv", "tagSpecification_2": "b=2", "tagSpecification_1": "a=1"}, {}
    )

    assert read.metadata == {"csi.storage.k8s.io/pv/name": "pv"}
    assert read.tag_specifications == ("a=1", "b=2")


def test_the_prefix_of_tag_specifications_is_case_sensitive() -> None:
    """Upstream's rule."""
    with pytest.raises(errors.InvalidRequest, match="tagspecification_1"):
        parameters.of_class({"tagspecification_1": "a=1"}, {})
