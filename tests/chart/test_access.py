"""Rights in Kubernetes, each a sentence: what the service accounts may do, and what they may not."""

from typing import Any, Final

import pytest

from tests.support.helm_chart import Rendered, render

READ: Final = {"get", "list", "watch"}
CONTROLLER: Final = ("ebs-csi-controller-sa", "kube-system")
NODE: Final = ("ebs-csi-node-sa", "kube-system")

Right = tuple[str, str, str]
"""A verb, a resource, the name that it is held to or ""."""


def rights(rendered: Rendered, account: tuple[str, str]) -> set[Right]:
    """All that a service account may do, in its namespace or everywhere."""
    found: set[Right] = set()
    for binding in [*rendered.all("ClusterRoleBinding"), *rendered.all("RoleBinding")]:
        if account in [(one["name"], one["namespace"]) for one in binding["subjects"]]:
            role = rendered.one(binding["roleRef"]["kind"], binding["roleRef"]["name"])
            found |= {right for rule in role["rules"] for right in spelled_out(rule)}
    return found


def spelled_out(rule: dict[str, Any]) -> set[Right]:
    """A rule, right by right."""
    return {
        (verb, resource, name)
        for verb in rule["verbs"]
        for resource in rule["resources"]
        for name in rule.get("resourceNames", [""])
    }


def verbs(all_rights: set[Right], resource: str) -> set[str]:
    """What may be done to a resource."""
    return {verb for verb, about, _ in all_rights if about == resource}


@pytest.mark.requirement("chart.least-rights")
async def test_nobody_may_do_everything_to_anything() -> None:
    """The issue: least privilege."""
    rendered = await render({"snapshotController": {"enabled": True}})

    for role in [*rendered.all("ClusterRole"), *rendered.all("Role")]:
        for rule in role["rules"]:
            assert "*" not in [*rule["verbs"], *rule["resources"], *rule["apiGroups"]], role["metadata"]["name"]


@pytest.mark.requirement("chart.least-rights")
async def test_nobody_reads_secrets_makes_pods_or_gives_rights() -> None:
    """Ours: what a stolen token of ours is worth."""
    rendered = await render({"snapshotController": {"enabled": True}})

    everything = {
        right for role in rendered.all("ClusterRole") for rule in role["rules"] for right in spelled_out(rule)
    }

    touched = {resource for _, resource, _ in everything}
    assert not touched & {"secrets", "configmaps", "pods", "pods/exec", "serviceaccounts", "serviceaccounts/token"}
    assert not {one for one in touched if "role" in one}


@pytest.mark.parametrize(
    ("argument", "may"),
    [
        ("--handle-volume-inuse-error=true", {"list", "watch"}),
        ("-handle-volume-inuse-error", {"list", "watch"}),
        ("--handle-volume-inuse-error=false", set()),
    ],
)
async def test_a_resizer_that_looks_who_uses_a_claim_may(argument: str, may: set[str]) -> None:
    """external-resizer: told so, it resizes nothing until it knows all pods."""
    rendered = await render({"sidecars": {"resizer": {"additionalArgs": [argument]}}})

    assert verbs(rights(rendered, CONTROLLER), "pods") == may


@pytest.mark.requirement("chart.least-rights")
async def test_the_node_reads_itself_its_driver_and_its_attachments_and_takes_taints_off() -> None:
    """The issue: RBAC reviewed verb by verb."""
    node = rights(await render(), NODE)

    assert node == {
        ("get", "nodes", ""),
        ("watch", "nodes", ""),
        ("patch", "nodes", ""),
        ("get", "csinodes", ""),
        ("list", "volumeattachments", ""),
        ("watch", "volumeattachments", ""),
    }


async def test_a_node_that_may_not_mutate_only_reads() -> None:
    """Upstream: node.serviceAccount.disableMutation."""
    rendered = await render({"node": {"serviceAccount": {"disableMutation": True}}})

    node = rights(rendered, NODE)

    assert {verb for verb, _, _ in node} <= READ
    assert verbs(node, "nodes") == {"get"}
    # Nor does it try.
    assert rendered.node.environment("ebs-plugin")["DISABLE_TAINT_WATCHER"]


@pytest.mark.requirement("chart.least-rights")
async def test_the_controller_deletes_persistent_volumes_and_nothing_else() -> None:
    """Ours: the provisioner's, for a reclaim policy of Delete."""
    controller = rights(await render(), CONTROLLER)

    assert {resource for verb, resource, _ in controller if verb == "delete"} == {"persistentvolumes"}
    assert not [verb for verb, _, _ in controller if verb == "deletecollection"]


@pytest.mark.requirement("chart.least-rights")
async def test_the_controller_does_not_touch_nodes_classes_or_csinodes() -> None:
    """Ours: it reads them for topology."""
    controller = rights(await render(), CONTROLLER)

    for resource in ("nodes", "csinodes", "storageclasses", "volumeattributesclasses", "volumesnapshotclasses"):
        assert verbs(controller, resource) <= READ, resource


@pytest.mark.requirement("chart.least-rights")
async def test_claims_are_updated_and_their_status_patched_but_none_is_made_or_deleted() -> None:
    """Ours: finalizers and the selected node by the provisioner, sizes by the resizer."""
    controller = rights(await render(), CONTROLLER)

    assert verbs(controller, "persistentvolumeclaims") == READ | {"update"}
    assert verbs(controller, "persistentvolumeclaims/status") == {"patch"}


@pytest.mark.requirement("chart.least-rights")
async def test_events_are_written_and_not_read() -> None:
    """client-go's recorder creates and patches."""
    assert verbs(rights(await render(), CONTROLLER), "events") == {"create", "patch"}


@pytest.mark.requirement("chart.least-rights")
async def test_a_lease_is_held_by_its_name_alone() -> None:
    """Ours: upstream's role reaches every lease of kube-system, the scheduler's among them."""
    controller = rights(await render(), CONTROLLER)

    assert {right for right in controller if right[1] == "leases"} == {
        ("create", "leases", ""),
        *(
            (verb, "leases", name)
            for verb in ("get", "update")
            for name in (
                "ebs-csi-aws-com",
                "external-attacher-leader-ebs-csi-aws-com",
                "external-resizer-ebs-csi-aws-com",
                "external-snapshotter-leader-ebs-csi-aws-com",
            )
        ),
    }


@pytest.mark.requirement("chart.least-rights")
@pytest.mark.parametrize("resource", ["volumesnapshots", "volumesnapshotcontents", "volumesnapshotclasses"])
async def test_without_snapshots_there_are_no_rights_to_them(resource: str) -> None:
    """Ours."""
    assert not verbs(rights(await render(apis=()), CONTROLLER), resource)


async def test_the_snapshot_controller_has_an_account_of_its_own() -> None:
    """Ours: it makes and deletes snapshot contents, which the driver's sidecars do not."""
    rendered = await render({"snapshotController": {"enabled": True}})

    its = rights(rendered, ("snapshot-controller", "kube-system"))

    assert {"create", "delete"} <= verbs(its, "volumesnapshotcontents")
    assert not verbs(rights(rendered, CONTROLLER), "volumesnapshotcontents") & {"create", "delete"}
    assert not verbs(its, "persistentvolumes") - READ


async def test_a_users_further_rules_come_on_top() -> None:
    """Upstream: additionalClusterRoleRules, such as for secrets in a StorageClass."""
    rule = {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}

    rendered = await render({"sidecars": {"provisioner": {"additionalClusterRoleRules": [rule]}}})

    assert ("get", "secrets", "") in rights(rendered, CONTROLLER)


async def test_the_nodes_rights_follow_it_into_its_namespace() -> None:
    """Upstream: node.namespaceOverride."""
    rendered = await render({"node": {"namespaceOverride": "nodes"}})

    assert rendered.one("ServiceAccount", "ebs-csi-node-sa")["metadata"]["namespace"] == "nodes"
    assert ("patch", "nodes", "") in rights(rendered, ("ebs-csi-node-sa", "nodes"))


async def test_the_role_comes_by_annotation_or_by_association() -> None:
    """The issue: the service account's role (IRSA annotation or Pod Identity)."""
    role = "arn:aws:iam::111122223333:role/ebs"

    irsa = await render({"hyperpod": {"role": {"arn": role}}})
    pod_identity = await render({"hyperpod": {"role": {"arn": role, "through": "podIdentity"}}})

    assert irsa.one("ServiceAccount", "ebs-csi-controller-sa")["metadata"]["annotations"] == {
        "eks.amazonaws.com/role-arn": role
    }
    assert "annotations" not in pod_identity.one("ServiceAccount", "ebs-csi-controller-sa")["metadata"]
    assert "annotations" not in irsa.one("ServiceAccount", "ebs-csi-node-sa")["metadata"]
