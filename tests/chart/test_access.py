"""The Kubernetes rights that the chart grants to each service account, and those that it does not."""

from typing import Any, Final

import pytest

from tests.support.helm_chart import Rendered, render

READ: Final = {"get", "list", "watch"}
CONTROLLER: Final = ("ebs-csi-controller-sa", "kube-system")
NODE: Final = ("ebs-csi-node-sa", "kube-system")

Right = tuple[str, str, str]
"""A verb, a resource, and the name to which it is restricted, or ""."""


def rights(rendered: Rendered, account: tuple[str, str]) -> set[Right]:
    """All rights of a service account, in its namespace or in the cluster."""
    granted: set[Right] = set()
    for binding in [*rendered.all("ClusterRoleBinding"), *rendered.all("RoleBinding")]:
        if account in [(subject["name"], subject["namespace"]) for subject in binding["subjects"]]:
            role = rendered.get(binding["roleRef"]["kind"], binding["roleRef"]["name"])
            granted |= {right for rule in role["rules"] for right in single_rights(rule)}
    return granted


def single_rights(rule: dict[str, Any]) -> set[Right]:
    """The rights that a rule combines: one for each verb, resource and name."""
    return {
        (verb, resource, name)
        for verb in rule["verbs"]
        for resource in rule["resources"]
        for name in rule.get("resourceNames", [""])
    }


def verbs(all_rights: set[Right], resource: str) -> set[str]:
    """The verbs that are granted for a resource."""
    return {verb for verb, granted, _ in all_rights if granted == resource}


@pytest.mark.requirement("chart.least-rights")
async def test_no_rule_has_a_wildcard() -> None:
    """Kubernetes, RBAC good practices: least privilege."""
    rendered = await render({"snapshotController": {"enabled": True}})

    for role in [*rendered.all("ClusterRole"), *rendered.all("Role")]:
        for rule in role["rules"]:
            assert "*" not in [*rule["verbs"], *rule["resources"], *rule["apiGroups"]], role["metadata"]["name"]


@pytest.mark.requirement("chart.least-rights")
async def test_no_account_reads_secrets_creates_pods_or_grants_rights() -> None:
    """Kubernetes, RBAC good practices: these rights let a stolen token escalate."""
    rendered = await render({"snapshotController": {"enabled": True}})

    granted = {right for role in rendered.all("ClusterRole") for rule in role["rules"] for right in single_rights(rule)}

    resources = {resource for _, resource, _ in granted}
    assert not resources & {"secrets", "configmaps", "pods", "pods/exec", "serviceaccounts", "serviceaccounts/token"}
    assert not {resource for resource in resources if "role" in resource}


@pytest.mark.parametrize(
    ("argument", "allowed"),
    [
        ("--handle-volume-inuse-error=true", {"list", "watch"}),
        ("-handle-volume-inuse-error", {"list", "watch"}),
        ("--handle-volume-inuse-error=false", set()),
    ],
)
async def test_a_resizer_that_looks_for_pods_may_list_them(argument: str, allowed: set[str]) -> None:
    """external-resizer: with this flag it resizes nothing until it has listed all pods."""
    rendered = await render({"sidecars": {"resizer": {"additionalArgs": [argument]}}})

    assert verbs(rights(rendered, CONTROLLER), "pods") == allowed


@pytest.mark.requirement("chart.least-rights")
async def test_the_node_reads_its_node_csinode_attachments_and_limits_and_patches_its_taints() -> None:
    """Decision 0018: each verb is used by the source."""
    node = rights(await render(), NODE)

    assert node == {
        ("get", "nodes", ""),
        ("watch", "nodes", ""),
        ("patch", "nodes", ""),
        ("get", "csinodes", ""),
        ("list", "volumeattachments", ""),
        ("watch", "volumeattachments", ""),
        ("get", "configmaps", "ebs-csi-attach-limits"),
    }


async def test_a_node_with_disabled_mutation_only_reads() -> None:
    """Upstream's value node.serviceAccount.disableMutation."""
    rendered = await render({"node": {"serviceAccount": {"disableMutation": True}}})

    node = rights(rendered, NODE)

    assert {verb for verb, _, _ in node} <= READ
    assert verbs(node, "nodes") == {"get"}
    # The driver does not watch for its start-up taint, which it may not remove.
    assert rendered.node.environment("ebs-plugin")["DISABLE_TAINT_WATCHER"]


@pytest.mark.requirement("chart.least-rights")
async def test_the_controller_deletes_persistent_volumes_and_nothing_else() -> None:
    """The provisioner needs it for the reclaim policy Delete."""
    controller = rights(await render(), CONTROLLER)

    assert {resource for verb, resource, _ in controller if verb == "delete"} == {"persistentvolumes"}
    assert not [verb for verb, _, _ in controller if verb == "deletecollection"]


@pytest.mark.requirement("chart.least-rights")
async def test_the_controller_only_reads_nodes_classes_and_csinodes() -> None:
    """The sidecars read topology and parameters from these objects."""
    controller = rights(await render(), CONTROLLER)

    for resource in ("nodes", "csinodes", "storageclasses", "volumeattributesclasses", "volumesnapshotclasses"):
        assert verbs(controller, resource) <= READ, resource


@pytest.mark.requirement("chart.least-rights")
async def test_the_controller_updates_claims_and_patches_their_status_but_neither_creates_nor_deletes_them() -> None:
    """The provisioner sets finalizers and the selected node, the resizer sizes."""
    controller = rights(await render(), CONTROLLER)

    assert verbs(controller, "persistentvolumeclaims") == READ | {"update"}
    assert verbs(controller, "persistentvolumeclaims/status") == {"patch"}


@pytest.mark.requirement("chart.least-rights")
async def test_events_are_written_and_not_read() -> None:
    """client-go, tools/record: the recorder of events creates and patches them."""
    assert verbs(rights(await render(), CONTROLLER), "events") == {"create", "patch"}


@pytest.mark.requirement("chart.least-rights")
async def test_the_controller_may_update_only_its_own_leases() -> None:
    """Upstream's role covers all leases in kube-system, the scheduler's included."""
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
    """A right that no running program uses is not granted (decision 0018)."""
    assert not verbs(rights(await render(apis=()), CONTROLLER), resource)


async def test_the_snapshot_controller_has_its_own_account() -> None:
    """The snapshot controller creates and deletes VolumeSnapshotContents, and the driver's sidecars do neither."""
    rendered = await render({"snapshotController": {"enabled": True}})

    snapshot_controller = rights(rendered, ("snapshot-controller", "kube-system"))

    assert {"create", "delete"} <= verbs(snapshot_controller, "volumesnapshotcontents")
    assert not verbs(rights(rendered, CONTROLLER), "volumesnapshotcontents") & {"create", "delete"}
    assert not verbs(snapshot_controller, "persistentvolumes") - READ


async def test_additional_rules_are_granted() -> None:
    """Upstream: additionalClusterRoleRules, such as for secrets in a StorageClass."""
    rule = {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}

    rendered = await render({"sidecars": {"provisioner": {"additionalClusterRoleRules": [rule]}}})

    assert ("get", "secrets", "") in rights(rendered, CONTROLLER)


async def test_the_nodes_rights_belong_to_the_account_in_its_namespace() -> None:
    """Upstream: node.namespaceOverride."""
    rendered = await render({"node": {"namespaceOverride": "nodes"}})

    assert rendered.get("ServiceAccount", "ebs-csi-node-sa")["metadata"]["namespace"] == "nodes"
    assert ("patch", "nodes", "") in rights(rendered, ("ebs-csi-node-sa", "nodes"))


async def test_irsa_annotates_the_service_account_and_pod_identity_does_not() -> None:
    """EKS: IRSA reads the annotation, Pod Identity an association outside of Kubernetes."""
    role = "arn:aws:iam::111122223333:role/ebs"

    irsa = await render({"hyperpod": {"role": {"arn": role}}})
    pod_identity = await render({"hyperpod": {"role": {"arn": role, "through": "podIdentity"}}})

    assert irsa.get("ServiceAccount", "ebs-csi-controller-sa")["metadata"]["annotations"] == {
        "eks.amazonaws.com/role-arn": role
    }
    assert "annotations" not in pod_identity.get("ServiceAccount", "ebs-csi-controller-sa")["metadata"]
    assert "annotations" not in irsa.get("ServiceAccount", "ebs-csi-node-sa")["metadata"]


@pytest.mark.requirement("chart.least-rights")
async def test_only_the_controller_may_change_the_attach_limits_and_the_node_only_reads_them() -> None:
    """Decision 0041: each account's right to ConfigMaps is for this one, and the chart creates it."""
    rendered = await render({"node": {"namespaceOverride": "nodes"}})
    configmap = rendered.get("ConfigMap", "ebs-csi-attach-limits")

    controller = {right for right in rights(rendered, CONTROLLER) if right[1] == "configmaps"}
    node = {right for right in rights(rendered, ("ebs-csi-node-sa", "nodes")) if right[1] == "configmaps"}

    assert controller == {
        ("get", "configmaps", "ebs-csi-attach-limits"),
        ("patch", "configmaps", "ebs-csi-attach-limits"),
    }
    assert node == {("get", "configmaps", "ebs-csi-attach-limits")}
    # Helm would reset data that the chart sets to what the chart has.
    assert "data" not in configmap
    for pod in (rendered.controller, rendered.node):
        flag = f"--attach-limits-configmap={configmap['metadata']['namespace']}/ebs-csi-attach-limits"
        assert flag in pod.arguments("ebs-plugin")


async def test_nodes_without_a_controller_read_no_attach_limits() -> None:
    """Upstream: nodeComponentOnly."""
    rendered = await render({"nodeComponentOnly": True})

    assert not rendered.all("ConfigMap")
    assert not [each for each in rendered.node.arguments("ebs-plugin") if each.startswith("--attach-limits")]
