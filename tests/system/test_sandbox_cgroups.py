"""Control groups of a sandbox: the controllers that they have, and the machine's controllers afterwards."""

import os
from pathlib import Path

import pytest

from hyperpod_ebs.sandbox import cgroups

pytestmark = [pytest.mark.root, pytest.mark.xdist_group("cgroups")]  # the machine has one root group for all tests

KUBELET_CONTROLLERS = {"cpu", "cpuset", "hugetlb", "memory", "pids"}


def version_2() -> Path:
    """The root of cgroup version 2, if it has a controller that kubelet requires; otherwise the test is skipped."""
    for root in cgroups.hierarchies():
        if (root / "cgroup.subtree_control").exists() and KUBELET_CONTROLLERS & words(root / "cgroup.controllers"):
            return root
    pytest.skip("this machine has no controller in a hierarchy of version 2")


def words(file: Path) -> set[str]:
    """The words in a file."""
    return set(file.read_text().split())


def test_a_group_gets_kubelets_controllers_and_the_machine_gets_its_own_setting_back() -> None:
    """Kubelet checks its root group in Validate (pkg/kubelet/cm/cgroup_manager_linux.go)."""
    root, name = version_2(), f"hp-test-{os.getpid()}"
    before = words(root / "cgroup.subtree_control")
    try:
        cgroups.create(Path(name) / "node")

        available = KUBELET_CONTROLLERS & words(root / "cgroup.controllers")
        assert words(root / name / "node" / "cgroup.controllers") >= available
    finally:
        cgroups.remove(name)
    assert cgroups.groups(name) == []
    assert words(root / "cgroup.subtree_control") == before


def test_a_group_gets_its_parents_cpus_and_none_from_a_root_without_that_file(tmp_path: Path) -> None:
    """admin-guide/cgroup-v2: cpuset.cpus exists on non-root cgroups; in version 1 an empty one accepts no process."""
    first, second = tmp_path / "first", tmp_path / "second"
    for child in (first, second):
        child.mkdir()
        (child / "cpuset.cpus").write_text("\n")

    cgroups.copy_cpuset(tmp_path, first)
    assert words(first / "cpuset.cpus") == set()

    (tmp_path / "cpuset.cpus").write_text("0-1\n")
    cgroups.copy_cpuset(tmp_path, second)
    assert words(second / "cpuset.cpus") == {"0-1"}


def test_controllers_enabled_for_the_first_group_are_disabled_when_the_last_one_is_removed() -> None:
    """Two clusters can run at the same time and end in either order."""
    root, first, second = version_2(), f"hp-test-{os.getpid()}-1", f"hp-test-{os.getpid()}-2"
    before = words(root / "cgroup.subtree_control")
    try:
        cgroups.create(Path(first) / "node")
        cgroups.create(Path(second) / "node")
        available = KUBELET_CONTROLLERS & words(root / "cgroup.controllers")

        cgroups.remove(first)

        assert words(root / second / "node" / "cgroup.controllers") >= available
    finally:
        cgroups.remove(first)
        cgroups.remove(second)
    assert words(root / "cgroup.subtree_control") == before
