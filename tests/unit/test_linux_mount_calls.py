from hyperpod_ebs.driver.linux import mount_calls
from hyperpod_ebs.driver.model.mount_options import PER_MOUNT


def test_every_option_that_a_bind_mount_can_have_has_a_flag_of_its_own() -> None:
    """mount(2), Additional mount flags."""
    assert mount_calls.FLAGS.keys() == PER_MOUNT
    flags = mount_calls.FLAGS.values()
    assert all(flag.bit_count() == 1 for flag in flags)
    assert len(set(flags)) == len(flags)
