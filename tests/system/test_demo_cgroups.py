"""Control groups of a sandbox: what they have of the machine's controllers, and what the machine has after them."""

import os
from pathlib import Path

import pytest

from hyperpod_ebs.sandbox import cgroups

pytestmark = [pytest.mark.root, pytest.mark.xdist_group("cgroups")]  # what the root passes on is everybody's

KUBELETS = {"cpu", "cpuset", "hugetlb", "memory", "pids"}


def unified() -> Path:
    """The hierarchy of version 2, where the machine has one that offers something."""
    for root in cgroups.hierarchies():
        if (root / "cgroup.subtree_control").exists() and KUBELETS & words(root / "cgroup.controllers"):
            return root
    pytest.skip("this machine has no controller in a hierarchy of version 2")


def words(file: Path) -> set[str]:
    """What stands in a file of the kernel's."""
    return set(file.read_text().split())


def test_a_group_has_what_kubelet_wants_and_the_machine_passes_on_what_it_did_before() -> None:
    """Kubelet's Validate: some missing controllers; ours: the machine is left as it was."""
    root, name = unified(), f"hp-test-{os.getpid()}"
    before = words(root / "cgroup.subtree_control")
    try:
        cgroups.make(Path(name) / "node")

        offered = KUBELETS & words(root / "cgroup.controllers")
        assert words(root / name / "node" / "cgroup.controllers") >= offered
    finally:
        cgroups.remove(name)
    assert cgroups.left(name) == []
    assert words(root / "cgroup.subtree_control") == before


def test_a_group_gets_the_places_of_the_one_above_and_none_from_a_root_that_has_no_such_file(tmp_path: Path) -> None:
    """admin-guide/cgroup-v2: cpuset.cpus exists on non-root cgroups; in version 1 an empty one takes no process."""
    first, second = tmp_path / "first", tmp_path / "second"
    for below in (first, second):
        below.mkdir()
        (below / "cpuset.cpus").write_text("\n")

    cgroups.give_places(tmp_path, first)
    assert words(first / "cpuset.cpus") == set()

    (tmp_path / "cpuset.cpus").write_text("0-1\n")
    cgroups.give_places(tmp_path, second)
    assert words(second / "cpuset.cpus") == {"0-1"}


def test_of_two_the_last_one_takes_back_what_the_first_was_lent() -> None:
    """Ours: two clusters may run at once, and end in either order."""
    root, first, second = unified(), f"hp-test-{os.getpid()}-1", f"hp-test-{os.getpid()}-2"
    before = words(root / "cgroup.subtree_control")
    try:
        cgroups.make(Path(first) / "node")
        cgroups.make(Path(second) / "node")
        offered = KUBELETS & words(root / "cgroup.controllers")

        cgroups.remove(first)

        assert words(root / second / "node" / "cgroup.controllers") >= offered
    finally:
        cgroups.remove(first)
        cgroups.remove(second)
    assert words(root / "cgroup.subtree_control") == before
