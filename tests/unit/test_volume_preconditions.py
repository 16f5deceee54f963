"""The decisions of `hyperpod-ebs volume`: preconditions, the progress of a wait, names of nodes, command lines."""

from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import pytest

from hyperpod_ebs.access.aws.clusters import Cluster
from hyperpod_ebs.access.aws.permissions import Need, Verdict
from hyperpod_ebs.access.aws.session import AwsOptions
from hyperpod_ebs.access.aws.volumes import EbsVolume, Holder
from hyperpod_ebs.access.volume.facts import Absent, Facts, Machine, Target, Unread
from hyperpod_ebs.access.volume.follow_up import command_line
from hyperpod_ebs.access.volume.node_names import NodeName, parse_node_name
from hyperpod_ebs.access.volume.preconditions import attach_checks, detach_checks
from hyperpod_ebs.access.volume.waiting import SHOWN_WITHIN, Goal, Pending, Reached, Unreachable, Until, progress
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.nodes import HyperPodNode, Node

ACCOUNT: Final = "123456789012"
INSTANCE: Final = "i-0123456789abcdef0"
NODE: Final = HyperPodNode("abcdefghijkl", INSTANCE)
OTHER: Final = HyperPodNode("abcdefghijkl", "i-0fedcba9876543210")
ARN: Final = f"arn:aws:sagemaker:us-west-2:{ACCOUNT}:cluster/abcdefghijkl"
CLUSTER: Final = Cluster(
    arn=ARN,
    name="hp",
    status="InService",
    eks_cluster=f"arn:aws:eks:us-west-2:{ACCOUNT}:cluster/eks",
    restricted_groups=frozenset({"restricted"}),
)
SERVICE: Final = "arn:aws:workspaces:us-west-2:123456789012:workspace/ws-1"


def holder(node: Node | None, state: str = "attached") -> Holder:
    """An attachment; that of another AWS service if the node is None."""
    return Holder(node=node, resource=str(node or SERVICE), state=state, device="", since=None)


def a_volume(*holders: Holder, **fields: Any) -> EbsVolume:
    """A volume that these hold."""
    defaults: dict[str, Any] = {
        "id": "vol-0123456789abcdef0",
        "owner": ACCOUNT,
        "state": "in-use" if holders else "available",
        "gib": 8,
        "type": "gp3",
        "iops": 3000,
        "throughput": 125,
        "zone": "us-west-2a",
        "zone_id": "usw2-az1",
        "key": "",
        "snapshot": "",
        "multi_attach": False,
        "created": datetime(2026, 1, 1, tzinfo=UTC),
        "tags": {},
        "holders": holders,
    }
    return EbsVolume(**defaults | fields)


def facts(volume: EbsVolume | Unread, **fields: Any) -> Facts:
    """Facts of which every precondition of attaching is met."""
    machine = Machine(status="Running", type="ml.m5.large", zone="us-west-2a", zone_id="usw2-az1", group="workers")
    defaults: dict[str, Any] = {
        "account": ACCOUNT,
        "volume_id": "vol-0123456789abcdef0",
        "volume": volume,
        "target": Target(node=NODE, cluster_arn=ARN, cluster=CLUSTER),
        "machine": machine,
        "attached": 0,
    }
    return Facts(**defaults | fields)


def test_all_preconditions_of_a_free_volume_are_met() -> None:
    assert {check.result for check in attach_checks(facts(a_volume()))} == {"ok"}


def test_a_volume_of_another_aws_service_is_left_to_that_service() -> None:
    """EC2 API reference, VolumeAttachment: AssociatedResource."""
    held = facts(a_volume(holder(None)))

    (attaching,) = [check for check in attach_checks(held) if check.result == "fails"]
    (detaching,) = [check for check in detach_checks(held) if check.result == "fails"]

    assert f"{SERVICE}, which belongs to another AWS service" in attaching.text
    assert SERVICE in detaching.text


def test_zones_are_compared_by_id_where_aws_shows_ids() -> None:
    """AWS RAM User Guide: names of zones differ between accounts."""
    machine = Machine(status="Running", type="ml.m5.large", zone="us-west-2c", zone_id="usw2-az1", group="workers")

    same = attach_checks(facts(a_volume(), machine=machine))
    other = attach_checks(facts(a_volume(zone_id="usw2-az2"), machine=machine))

    assert [check.name for check in same if check.result == "fails"] == []
    assert [check.name for check in other if check.result == "fails"] == ["zone"]


def test_what_may_not_be_read_is_shown_and_refuses_nothing() -> None:
    denied = Unread("denied")
    target = Target(node=NODE, cluster_arn=ARN, cluster=denied)

    checks = attach_checks(facts(denied, target=target, machine=denied, attached=denied, key=denied))

    assert {check.name: check.result for check in checks if check.name != "kubernetes"} == dict.fromkeys(
        ["account", "cluster", "orchestrator", "node", "instance group", "volume", "zone", "attach limit", "key"],
        "not checked",
    )


def test_a_detachment_from_a_node_that_is_gone_is_left_to_aws() -> None:
    checks = detach_checks(facts(a_volume(holder(NODE)), machine=Absent("node is gone")))

    (failing,) = [check for check in checks if check.result == "fails"]
    assert "--until available" in failing.text


class Permission(NamedTuple):
    """A permission that the simulator denies."""

    id: str
    resource: str
    missing: frozenset[str]
    result: str


VOLUME_ARN: Final = f"arn:aws:ec2:us-west-2:{ACCOUNT}:volume/vol-0123456789abcdef0"
PERMISSIONS: Final = [
    Permission("no key is missing", ARN, frozenset(), "fails"),
    Permission("the volume lacks the tag", VOLUME_ARN, frozenset({"aws:ResourceTag/team"}), "fails"),
    Permission("the cluster may have the tag", ARN, frozenset({"aws:ResourceTag/team"}), "not checked"),
    Permission("the network may be the right one", VOLUME_ARN, frozenset({"aws:SourceVpce"}), "not checked"),
]


@pytest.mark.parametrize("case", PERMISSIONS, ids=[case.id for case in PERMISSIONS])
def test_a_denial_counts_if_all_its_conditions_are_known(case: Permission) -> None:
    """IAM API reference, EvaluationResult: MissingContextValues."""
    verdict = Verdict(
        need=Need(action="a:B", resource=case.resource), decision="denied", reason="no", missing_keys=case.missing
    )

    (check,) = [each for each in attach_checks(facts(a_volume(), permissions=[verdict])) if "a:B" in each.name]

    assert check.result == case.result


class Wait(NamedTuple):
    """A volume while a command waits for it."""

    id: str
    until: Until
    volume: EbsVolume
    elapsed: float
    expected: type
    was_requested: bool = True


LATE: Final = SHOWN_WITHIN + 1
WAITS: Final = [
    Wait("attached here", "attached", a_volume(holder(NODE)), 0, Reached),
    Wait("attaching here", "attached", a_volume(holder(NODE, "attaching")), LATE, Pending),
    Wait("not shown yet", "attached", a_volume(), 1, Pending),
    Wait("undone by AWS", "attached", a_volume(), LATE, Unreachable),
    Wait("never requested", "attached", a_volume(), 0, Unreachable, was_requested=False),
    Wait("attached elsewhere", "attached", a_volume(holder(OTHER)), 0, Unreachable),
    Wait("shared", "attached", a_volume(holder(OTHER), multi_attach=True), 1, Pending),
    Wait("detaching here", "attached", a_volume(holder(NODE, "detaching")), 0, Unreachable),
    Wait("gone", "detached", a_volume(), 0, Reached),
    Wait("only elsewhere", "detached", a_volume(holder(OTHER)), 0, Reached),
    Wait("busy", "detached", a_volume(holder(NODE, "busy")), LATE, Pending),
    Wait("still shown", "detached", a_volume(holder(NODE)), 1, Pending),
    Wait("kept", "detached", a_volume(holder(NODE)), LATE, Unreachable),
    Wait("not asked to end", "detached", a_volume(holder(NODE)), 0, Unreachable, was_requested=False),
    Wait("available", "available", a_volume(), 0, Reached, was_requested=False),
    Wait("creating", "available", a_volume(state="creating"), 0, Pending, was_requested=False),
    Wait("deleted", "available", a_volume(state="deleted"), 0, Unreachable, was_requested=False),
    Wait("in use", "available", a_volume(holder(NODE)), 0, Unreachable, was_requested=False),
    Wait("leaving", "available", a_volume(holder(NODE, "detaching")), 0, Pending, was_requested=False),
]


@pytest.mark.parametrize("case", WAITS, ids=[f"{case.until}: {case.id}" for case in WAITS])
def test_a_wait_ends_when_its_goal_is_reached_or_out_of_reach(case: Wait) -> None:
    goal = Goal(
        volume_id="vol-0123456789abcdef0",
        until=case.until,
        node=None if case.until == "available" else NODE,
        timeout=300,
        command=lambda *words: " ".join(map(str, words)),
        was_requested=case.was_requested,
    )

    assert isinstance(progress(goal, case.volume, case.elapsed), case.expected)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (INSTANCE, NodeName(instance=INSTANCE, is_hyperpod=False, cluster="")),
        (f"hyperpod-{INSTANCE}", NodeName(instance=INSTANCE, is_hyperpod=True, cluster="")),
        (str(NODE), NodeName(instance=INSTANCE, is_hyperpod=True, cluster="abcdefghijkl")),
    ],
)
def test_nodes_have_three_kinds_of_names(text: str, name: NodeName) -> None:
    assert parse_node_name(text) == name


@pytest.mark.parametrize("text", ["", "node-1", "i-xyz", "hyperpod-", "hyperpod-ABCDEFGHIJKL-i-0123456789abcdef0"])
def test_other_names_of_nodes_are_refused(text: str) -> None:
    with pytest.raises(errors.InvalidRequest, match="no node can have the name"):
        parse_node_name(text)


def test_command_lines_repeat_flags_that_the_environment_does_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "us-west-2")
    monkeypatch.delenv("AWS_PROFILE", raising=False)

    same = command_line(AwsOptions(region="us-west-2"), "wait", "vol-1")
    other = command_line(AwsOptions(region="eu-west-1", profile="my profile"), "wait", "vol-1")

    assert same == "hyperpod-ebs volume wait vol-1"
    assert other == "hyperpod-ebs volume wait vol-1 --profile 'my profile' --region eu-west-1"
