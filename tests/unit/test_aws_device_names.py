"""Device names for attachments: free ones, and never one for two attachments."""

import re

from hypothesis import given
from hypothesis import strategies as st

from hyperpod_ebs.driver.aws.device_names import NAMES, DeviceNames, names_in_order


def test_the_names_are_those_that_ec2_accepts() -> None:
    """aws-ebs-csi-driver, pkg/cloud/devicemanager/device_names.go: "discovered by trial and error"."""
    form = re.compile(r"/dev/xvd(?:[b-z]|[a-c][a-z]|d[a-x])")

    assert all(form.fullmatch(name) for name in NAMES)
    assert len(set(NAMES)) == len(NAMES) == 127


@given(st.sets(st.sampled_from(NAMES), max_size=100), st.integers(1, 27))
def test_simultaneous_attachments_get_different_free_names(used: set[str], count: int) -> None:
    """EC2 refuses a name that is in use."""
    names = DeviceNames()
    names.note_shown("i-1", used)

    taken = [names.take("i-1", f"vol-{number}") for number in range(count)]
    on_another_instance = names.take("i-2", "vol-0")

    assert None not in taken
    assert len(set(taken)) == count
    assert not set(taken) & used
    assert on_another_instance == names_in_order("vol-0")[0]


@given(st.text())
def test_a_volume_may_get_any_name_and_first_one_that_images_do_not_map(volume: str) -> None:
    """EC2 User Guide, "Device names for volumes on Amazon EC2 instances": an image can map names."""
    order = names_in_order(volume)

    assert sorted(order) == sorted(NAMES)
    assert all(len(name) == len("/dev/xvdaa") for name in order[:102])


def test_the_first_names_of_different_volumes_are_spread_over_all_names() -> None:
    """A process that has just started does not know which names its predecessor has taken."""
    firsts = {names_in_order(f"vol-{number:017x}")[0] for number in range(1000)}

    assert len(firsts) > 90


def test_a_name_stays_taken_until_ec2_should_show_it_and_does_not() -> None:
    """EC2 developer guide, eventual consistency: DescribeInstances shows an attachment some time after AttachVolume."""
    now = 0.0
    names = DeviceNames(clock=lambda: now)
    other_volume = "vol-2"

    first = names.take("i-1", "vol-1")
    refused = names_in_order(other_volume)[0]
    names.note_in_use("i-1", refused)
    now = 59.9
    names.note_shown("i-1", ())
    not_shown_yet = names.take("i-1", other_volume)
    now = 60.0
    names.note_shown("i-1", ())
    names.free("i-1", str(not_shown_yet))

    assert not_shown_yet not in {first, refused}
    assert names.take("i-1", other_volume) == refused


def test_a_name_stays_taken_for_as_long_as_ec2_shows_it() -> None:
    now = 0.0
    names = DeviceNames(clock=lambda: now)
    first = names_in_order("vol-1")[0]

    for _ in range(10):
        names.note_shown("i-1", [first])
        now += 1000.0

    assert names.take("i-1", "vol-1") == names_in_order("vol-1")[1]


def test_names_that_were_shown_a_moment_ago_are_not_to_be_asked_for_again() -> None:
    """A look for each name that was taken since would cost as many calls as a look for each attachment."""
    now = 0.0
    names = DeviceNames(clock=lambda: now)

    before = names.were_shown("i-1")
    names.note_shown("i-1", ())
    now = 59.9
    soon = names.were_shown("i-1")
    now = 60.0

    assert (before, soon, names.were_shown("i-1")) == (False, True, False)


def test_the_names_of_an_instance_that_is_gone_are_forgotten() -> None:
    """Instances come and go for as long as the controller runs."""
    now = 0.0
    names = DeviceNames(clock=lambda: now)

    for number in range(100):
        names.take(f"i-{number}", "vol-1")
        names.take("i-lasting", f"vol-{number}")
        now += 600.0

    assert len(names.instances) < 10
    assert len(names.instances["i-lasting"].taken) == 100


def test_a_volume_takes_one_name_however_often_its_attachment_is_requested() -> None:
    """Retries of refused attachments must not use up the names of the instance."""
    names = DeviceNames()

    assert len({names.take("i-1", "vol-1") for _ in range(200)}) == 1


def test_a_name_is_free_again_after_a_final_refusal() -> None:
    names = DeviceNames()
    names.note_shown("i-1", NAMES[1:])

    refused = names.take("i-1", "vol-1")
    names.free("i-1", str(refused))

    assert names.take("i-1", "vol-2") == refused == NAMES[0]


def test_an_instance_whose_names_are_all_in_use_has_none_for_another_volume() -> None:
    names = DeviceNames()
    names.note_shown("i-1", NAMES)

    assert names.take("i-1", "vol-1") is None


def test_an_instance_is_not_full_of_names_whose_volumes_have_just_left_it() -> None:
    """A node that is full makes Kubernetes fail the pod."""
    names = DeviceNames(clock=lambda: 0.0)
    for number, _ in enumerate(NAMES):
        names.take("i-1", f"vol-{number}")

    names.note_detached("i-1", "vol-7")
    names.note_shown("i-1", ())

    assert names.take("i-1", "vol-new") is not None
    assert names.take("i-1", "vol-other") is None


def test_the_name_of_a_volume_that_leaves_is_not_taken_before_ec2_shows_it_free() -> None:
    """The detachment that AWS has acknowledged takes a few seconds."""
    names = DeviceNames(clock=lambda: 0.0)
    taken = [names.take("i-1", f"vol-{number}") for number, _ in enumerate(NAMES)]

    names.note_detached("i-1", "vol-7")
    before = names.take("i-1", "vol-new")
    names.note_shown("i-1", [str(taken[7])])

    assert before is None
    assert names.take("i-1", "vol-new") is None


def test_a_name_that_another_client_has_freed_is_free_at_the_next_look() -> None:
    names = DeviceNames(clock=lambda: 0.0)
    names.note_shown("i-1", NAMES)

    names.note_shown("i-1", NAMES[1:])

    assert names.take("i-1", "vol-1") == NAMES[0]
