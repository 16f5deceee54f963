"""The parameters of StorageClasses and VolumeAttributesClasses."""

import pytest

from hyperpod_ebs.driver.model import errors, parameters
from hyperpod_ebs.driver.model.parameters import TABLE, Parameter, Parameters
from hyperpod_ebs.driver.model.tags import TagChanges
from hyperpod_ebs.driver.model.volume import Change

VALID = {
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
def test_every_key_is_matched_without_regard_to_case(parameter: Parameter) -> None:
    """aws-ebs-csi-driver, docs/parameters.md: "all parameters are case insensitive"."""
    spellings = (parameter.key, parameter.key.lower(), parameter.key.upper())
    values = {
        getattr(parameters.parse_classes({key: VALID[parameter.key]}, {}), parameter.field_name) for key in spellings
    }

    assert len(values) == 1
    assert values != {None}


@pytest.mark.parametrize("parameter", TABLE, ids=lambda parameter: parameter.key)
def test_every_parameter_sets_a_field_and_has_a_description(parameter: Parameter) -> None:
    """The table is also the documentation."""
    assert hasattr(Parameters(), parameter.field_name)
    assert parameter.description
    assert not parameter.mutable or hasattr(Change(), parameter.field_name)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("type", "gp9"),
        ("type", "GP3"),
        ("iops", "many"),
        ("iops", "-1"),
        ("iops", "0"),
        pytest.param("iops", 5000 * "9", id="a number with more digits than Python converts"),
        ("iops", "3000.5"),
        ("iops", "٣"),
        ("iops", str(2**31)),
        ("encrypted", "yes"),
        ("encrypted", ""),
        ("kmsKeyId", ""),
        ("speed", "high"),
    ],
)
def test_an_invalid_value_is_refused_with_the_name_of_its_key(key: str, value: str) -> None:
    """To take a wrong value silently for another, such as `encrypted: yes` for false, would be worse than an error."""
    with pytest.raises(errors.InvalidRequest) as error:
        parameters.parse_classes({key: value}, {})

    assert key in str(error.value)


def test_an_invalid_option_for_mkfs_is_refused_before_a_volume_is_created() -> None:
    """The node would refuse it each time a pod starts."""
    with pytest.raises(errors.InvalidRequest, match="blockSize"):
        parameters.parse_classes({"blockSize": "-b 4096"}, {})


def test_one_key_in_two_spellings_is_refused() -> None:
    """Otherwise the order of a map would decide which one counts."""
    with pytest.raises(errors.InvalidRequest, match="given twice"):
        parameters.parse_classes({"iops": "1", "IOPS": "2"}, {})


def test_a_kms_key_implies_encryption() -> None:
    """As upstream."""
    assert parameters.parse_classes({"kmsKeyId": "k"}, {}).encrypted


@pytest.mark.requirement("csi.create-volume.mutable-parameters")
def test_an_attributes_class_takes_precedence_over_the_storage_class() -> None:
    """CSI spec, CreateVolume: mutable_parameters take precedence over parameters."""
    parsed = parameters.parse_classes({"type": "gp3", "iops": "3000"}, {"iops": "4000"})

    assert (parsed.type, parsed.iops) == ("gp3", 4000)


@pytest.mark.requirement("csi.modify-volume.unsupported")
@pytest.mark.parametrize("parameter", [row for row in TABLE if not row.mutable], ids=lambda row: row.key)
def test_a_parameter_that_cannot_change_is_refused_in_an_attributes_class(parameter: Parameter) -> None:
    """CSI spec, ControllerModifyVolume: INVALID_ARGUMENT for unsupported mutable_parameters."""
    with pytest.raises(errors.InvalidRequest, match="is not one of type, iops, throughput, tagSpecification"):
        parameters.parse_change({parameter.key: VALID[parameter.key]})


@pytest.mark.requirement("csi.modify-volume.only-named")
def test_a_change_has_only_the_given_parameters() -> None:
    assert parameters.parse_change({"Throughput": "500"}) == (Change(throughput=500), TagChanges())


def test_an_attributes_class_may_have_the_resizers_metadata_of_the_claim() -> None:
    """The resizer's --extra-modify-metadata, which the chart sets; templates may use it."""
    claim = {"csi.storage.k8s.io/pvc/name": "claim", "csi.storage.k8s.io/pvc/namespace": "team"}
    claim |= {"csi.storage.k8s.io/pv/name": "pvc-1"}

    change, tags = parameters.parse_change({**claim, "iops": "4000", "tagSpecification_1": "of={{ .PVCName }}"})

    assert (change, tags) == (Change(iops=4000), TagChanges(put={"of": "claim"}))
    assert parameters.has_only_known_keys(claim)
    assert parameters.parse_classes({}, claim).metadata == claim


def test_an_attributes_class_adds_and_deletes_tags() -> None:
    """aws-ebs-csi-driver, docs/tagging.md. The driver's own tags cannot be deleted."""
    mutable = {"tagSpecification_1": "a=1", "tagDeletion_1": "b", "tagDeletion_2": "c"}

    assert parameters.parse_change(mutable) == (Change(), TagChanges(put={"a": "1"}, remove=frozenset({"b", "c"})))
    with pytest.raises(errors.InvalidRequest, match="reserved"):
        parameters.parse_change({"tagDeletion": "CSIVolumeName"})
    parsed = parameters.parse_classes({"tagSpecification": "b=2"}, mutable)
    assert (parsed.tag_specifications, parsed.tag_deletions) == (("b=2", "a=1"), ("b", "c"))


def test_the_former_key_of_the_type_counts_if_the_current_one_is_absent() -> None:
    """Upstream's deprecated volumeType."""
    assert parameters.parse_change({"volumeType": "io2"})[0] == Change(type="io2")
    assert parameters.parse_change({"volumeType": "io2", "type": "gp3"})[0] == Change(type="gp3")


def test_deprecated_keys_are_accepted_in_a_storage_class() -> None:
    """Upstream's fstype, which the provisioner reads, and blockExpress."""
    assert parameters.parse_classes({"fstype": "xfs", "blockExpress": "true"}, {}) == Parameters()


def test_iops_and_iops_per_gib_exclude_each_other() -> None:
    """aws-ebs-csi-driver, docs/parameters.md: "not both"."""
    with pytest.raises(errors.InvalidRequest, match="both given; remove one of them"):
        parameters.parse_classes({"iops": "1000", "iopsPerGB": "10"}, {})


def test_metadata_and_tag_specifications_are_separated() -> None:
    """The provisioner's --extra-create-metadata; upstream's tagSpecification, in the order of its keys."""
    parsed = parameters.parse_classes(
        {"csi.storage.k8s.io/pv/name": "pv", "tagSpecification_2": "b=2", "tagSpecification_1": "a=1"}, {}
    )

    assert parsed.metadata == {"csi.storage.k8s.io/pv/name": "pv"}
    assert parsed.tag_specifications == ("a=1", "b=2")


def test_the_prefix_of_tag_specifications_is_case_sensitive() -> None:
    """As upstream."""
    with pytest.raises(errors.InvalidRequest, match="tagspecification_1"):
        parameters.parse_classes({"tagspecification_1": "a=1"}, {})
