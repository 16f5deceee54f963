"""Checks of the cluster's nodes: identity, start-up taint, the driver's pod and its entry in the CSINode."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from typing import Final

from hyperpod_ebs.access.doctor.checks import Check
from hyperpod_ebs.access.doctor.context import Object
from hyperpod_ebs.access.doctor.findings import Finding, fails, may_fail
from hyperpod_ebs.access.doctor.kubernetes_checks.installation import INSTALLED
from hyperpod_ebs.access.doctor.kubernetes_checks.objects import (
    ClusterObjects,
    age_of,
    age_since,
    condition,
    driver_entry,
    is_terminating,
    labels_of,
    name_list,
    name_of,
    object_check,
    pod_spec,
)
from hyperpod_ebs.access.doctor.kubernetes_checks.scheduling import selects_node, taints_not_tolerated
from hyperpod_ebs.access.doctor.kubernetes_checks.workloads import (
    PLUGIN,
    Workload,
    flags,
    own_installation,
    pods_of,
    present_installation,
)
from hyperpod_ebs.driver.model import errors, nodes
from hyperpod_ebs.driver.model.kubernetes_node import DRIVER, INSTANCE_TYPE, STARTUP_TAINT, ZONE, KubernetesNode
from hyperpod_ebs.driver.model.limits import AttachSlots, PublishedSlots
from hyperpod_ebs.driver.model.node_identity import AttachLimitSettings, PartialIdentity, merged_identity

_SETTLED: Final = timedelta(minutes=2)
"""After this time a node has the driver's pod, and kubelet has registered the driver of a ready pod."""

_OTHER_COMPUTE: Final = frozenset({"fargate", "auto", "hybrid"})
"""Nodes without the driver, by their label `eks.amazonaws.com/compute-type`."""


def list_ebs_nodes(objects: ClusterObjects) -> list[Object]:
    """The nodes that can have EBS volumes of this driver: Linux nodes that are not Fargate's, Auto Mode's or hybrid."""
    return [
        node
        for node in objects["nodes"]
        if labels_of(node).get("kubernetes.io/os", "linux") == "linux"
        and labels_of(node).get("eks.amazonaws.com/compute-type") not in _OTHER_COMPUTE
        and not is_terminating(node)
    ]


def is_hyperpod(node: Object) -> bool:
    """Whether the node belongs to a HyperPod cluster, according to its provider id, name or label."""
    return (
        "/sagemaker/cluster/" in _provider_id(node)
        or name_of(node).startswith("hyperpod-")
        or labels_of(node).get("sagemaker.amazonaws.com/compute-type") == "hyperpod"
    )


def _provider_id(node: Object) -> str:
    return str(node.get("spec", {}).get("providerID") or "")


def _node_id(node: Object) -> nodes.Node | None:
    """The node's CSI id; None if its provider id is missing or has another form."""
    try:
        return nodes.parse_provider_id(_provider_id(node))
    except errors.NodeNotFound:
        return None


def _find_identities(objects: ClusterObjects) -> Iterator[Finding]:
    groups: dict[tuple[str, str], list[str]] = {}
    for node in list_ebs_nodes(objects):
        given, id_ = _provider_id(node), _node_id(node)
        if not given:
            groups.setdefault(("no providerID", ""), []).append(name_of(node))
        elif id_ is None:
            groups.setdefault(("a providerID of another form", given), []).append(name_of(node))
        elif is_hyperpod(node) and not isinstance(id_, nodes.HyperPodNode):
            groups.setdefault(("the providerID of a plain EC2 instance", given), []).append(name_of(node))
        if not labels_of(node).get(ZONE):
            groups.setdefault((f"no label {ZONE}", "zone"), []).append(name_of(node))
    for (what, detail), names in groups.items():
        if detail == "zone":
            yield fails(
                _nodes_text(names),
                f"the node has {what}",
                "The driver does not know its zone, and volumes are not created for its pods",
                "fix the cluster's cloud provider integration, or set the label: "
                f"`kubectl label node {names[0]} {ZONE}=ZONE`",
            )
        else:
            yield fails(
                _nodes_text(names),
                f"the node has {what}" + (f": {detail}" if detail else ""),
                "Volumes cannot be attached to it",
                "replace the node; HyperPod nodes have aws:///ZONE-ID/sagemaker/cluster/hyperpod-CLUSTER-ID-i-HEX, "
                "EC2 nodes aws:///ZONE/i-HEX",
            )


def _find_coverage(objects: ClusterObjects) -> Iterator[Finding]:
    own = present_installation(objects)
    if not own.daemonsets:
        return
    covered = set(_ready_pods(objects, ready=False))
    tainted: dict[str, list[str]] = {}
    excluded, absent = list[str](), list[str]()
    for node in list_ebs_nodes(objects):
        if name_of(node) in covered:
            continue
        selecting = [workload for workload in own.daemonsets if selects_node(workload.pod_spec, node)]
        keeping_out = [taints_not_tolerated(workload.pod_spec, node) for workload in selecting]
        if not selecting:
            excluded += [name_of(node)] if is_hyperpod(node) else []
        elif all(keeping_out):
            tainted.setdefault(", ".join(keeping_out[0]), []).append(name_of(node))
        elif age_of(node, objects.now) > _SETTLED:
            absent.append(name_of(node))
    for taints, names in tainted.items():
        yield fails(
            _nodes_text(names),
            f"{own.daemonsets[0]} does not tolerate the taint {taints}",
            "The driver's pod is not scheduled there, and pods with volumes do not start",
            "set node.tolerateAllTaints: true, or add the taint to node.tolerations in the release's values",
        )
    if absent:
        yield fails(
            _nodes_text(absent),
            f"{own.daemonsets[0]} has no pod on it, although its selector and tolerations match",
            "Pods with volumes do not start there",
            f"see `kubectl describe daemonset {name_of(own.daemonsets[0].item)} "
            f"--namespace {own.daemonsets[0].namespace}`: a quota or an admission rule may refuse the pods",
        )
    if excluded:
        yield may_fail(
            _nodes_text(excluded),
            f"the node selector or affinity of {name_list(map(str, own.daemonsets))} leaves the HyperPod node out",
            "A pod with a volume that is scheduled there does not start",
            "extend node.nodeSelector or node.affinity in the release's values",
        )


def _ready_pods(objects: ClusterObjects, *, ready: bool = True) -> Mapping[str, timedelta]:
    """For how long the driver's pod of each node has been ready; without `ready`, of each node with a pod."""
    own, times = own_installation(objects), dict[str, timedelta]()
    for _, pods in pods_of(own.daemonsets, objects["driver pods"]) if own else ():
        for pod in pods:
            state = condition(pod, "Ready")
            if not ready or (state.get("status") == "True" and not is_terminating(pod)):
                times[str(pod_spec(pod).get("nodeName") or _wanted_node(pod))] = age_since(
                    state.get("lastTransitionTime"), objects.now
                )
    return times


def _wanted_node(pod: Object) -> str:
    """The node for which a DaemonSet's pod was created that is not scheduled yet."""
    affinity = (pod_spec(pod).get("affinity") or {}).get("nodeAffinity") or {}
    terms = (affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}).get("nodeSelectorTerms") or ()
    fields = [field for term in terms for field in term.get("matchFields") or ()]
    return next((field["values"][0] for field in fields if field.get("key") == "metadata.name"), "")


def _find_registrations(objects: ClusterObjects) -> Iterator[Finding]:
    entries = {name_of(item): driver_entry(item) for item in objects["csinodes"]}
    settled = {name for name, time in _ready_pods(objects).items() if time > _SETTLED}
    unregistered, mistaken = list[str](), list[tuple[str, str, str]]()
    for node in list_ebs_nodes(objects):
        name, entry, id_ = name_of(node), entries.get(name_of(node)), _node_id(node)
        if entry is None:
            unregistered += [name] if name in settled else []
        elif id_ is not None and entry.get("nodeID") != str(id_):
            mistaken.append((name, str(entry.get("nodeID")), str(id_)))
    if unregistered:
        yield fails(
            _nodes_text(unregistered),
            f"the CSINode does not have the driver {DRIVER}, although the driver's pod is ready",
            "The scheduler places no pod with a volume there, or kubelet cannot mount its volume",
            "check that node.kubeletPath is kubelet's root directory, then delete the driver's pod on the node: "
            "kubelet registers the new one",
        )
    for name, registered, expected in mistaken:
        yield fails(
            f"CSINode {name}",
            f"the driver is registered with the node id {registered}, and the provider id says {expected}",
            "Volumes are attached to another node, or not at all",
            "remove --node-id from the node's arguments, then delete the driver's pod on the node",
        )


def _find_limits(objects: ClusterObjects) -> Iterator[Finding]:
    own = present_installation(objects)
    if not own.daemonsets:
        return
    entries, published = {name_of(item): driver_entry(item) for item in objects["csinodes"]}, _published_slots(objects)
    unlimited, excessive = list[str](), dict[tuple[str, int, int], list[str]]()
    for node in list_ebs_nodes(objects):
        entry, settings = entries.get(name_of(node)), _limit_settings(own.daemonsets, node)
        if entry is None or settings.limit == 0 or None not in {settings.limit, settings.reserved}:
            continue  # not registered, not limited, or with flags that contradict each other
        count = (entry.get("allocatable") or {}).get("count")
        expected = _expected_limit(node, settings, published)
        if count is None:
            unlimited.append(name_of(node))
        elif expected and count > expected:
            kind = labels_of(node).get(INSTANCE_TYPE, "unknown")
            excessive.setdefault((kind, count, expected), []).append(name_of(node))
    for (kind, count, expected), names in excessive.items():
        yield may_fail(
            f"CSINode of {_nodes_text(names)}",
            f"allocatable.count is {count}, and an instance of type {kind} takes {expected} volumes besides its own",
            "The scheduler places more pods with volumes there than volumes can be attached; they stay Pending",
            "remove node.volumeAttachLimit and node.reservedVolumeAttachments from the release's values, then "
            "delete the driver's pod on the node",
        )
    if unlimited:
        yield may_fail(
            _nodes_text(unlimited),
            f"the CSINode has no allocatable.count for {DRIVER}",
            "The scheduler places any number of pods with volumes there; those above the limit stay Pending",
            "delete the driver's pod on the node: kubelet asks the new one for the limit",
        )


def _expected_limit(node: Object, settings: AttachLimitSettings, published: PublishedSlots) -> int:
    """The limit that follows from what Kubernetes knows of the node; 0 if that is not enough."""
    kubernetes_node = KubernetesNode(name=name_of(node), provider_id=_provider_id(node), labels=labels_of(node))
    try:
        known: list[PartialIdentity] = [kubernetes_node.identity()]
    except errors.Refused:
        return 0
    if not known[0].instance_type:
        return 0
    identity = merged_identity(known, settings, published)
    return identity.attach_limit if identity else 0


def _limit_settings(daemonsets: Iterable[Workload], node: Object) -> AttachLimitSettings:
    """What the node's DaemonSet sets about the attach limit."""
    selecting = [workload for workload in daemonsets if selects_node(workload.pod_spec, node)]
    container = selecting[0].container(PLUGIN) if selecting else None
    given = flags(container) if container else {}
    return AttachLimitSettings(
        limit=_count(given.get("volume-attach-limit")), reserved=_count(given.get("reserved-volume-attachments"))
    )


def _count(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdecimal() else None


def _published_slots(objects: ClusterObjects) -> PublishedSlots:
    """The attach limits that the controller has published."""
    slots: dict[str, AttachSlots] = {}
    for item in objects["attach limits"]:
        for name, text in (item.get("data") or {}).items():
            try:
                slots[name] = AttachSlots.parse(text)
            except ValueError:
                continue
    return slots


def _find_startup_taints(objects: ClusterObjects) -> Iterator[Finding]:
    entries = {name_of(item): driver_entry(item) for item in objects["csinodes"]}
    settled = {name for name, time in _ready_pods(objects).items() if time > _SETTLED}
    names = [
        name_of(node)
        for node in list_ebs_nodes(objects)
        if any(taint.get("key") == STARTUP_TAINT for taint in node.get("spec", {}).get("taints") or ())
        and name_of(node) in settled
        and entries.get(name_of(node))
    ]
    if names:
        yield fails(
            _nodes_text(names),
            f"it still has the start-up taint {STARTUP_TAINT}, although kubelet has registered the driver",
            "No pod that does not tolerate the taint is scheduled there",
            "let the node's service account patch nodes (ClusterRole ebs-csi-node-role), or remove the taint: "
            f"`kubectl taint nodes {' '.join(names[:3])} {STARTUP_TAINT}-`",
        )


def _nodes_text(names: Iterable[str]) -> str:
    ordered = list(names)
    return f"{'node' if len(ordered) == 1 else f'{len(ordered)} nodes:'} {name_list(ordered)}"


CHECKS: Final[tuple[Check, ...]] = (
    object_check("node identities", "each node has a usable provider id and a zone", _find_identities, "nodes"),
    object_check(
        "driver on nodes", "each node has a pod of the driver", _find_coverage, *INSTALLED, "driver pods", "nodes"
    ),
    object_check(
        "registrations",
        "kubelet has registered the driver on each node",
        _find_registrations,
        *INSTALLED,
        "driver pods",
        "nodes",
        "csinodes",
    ),
    object_check(
        "attach limits in Kubernetes",
        "the scheduler knows how many volumes each node takes",
        _find_limits,
        *INSTALLED,
        "nodes",
        "csinodes",
        "attach limits",
    ),
    object_check(
        "start-up taints",
        f"no ready node has the taint {STARTUP_TAINT}",
        _find_startup_taints,
        *INSTALLED,
        "driver pods",
        "nodes",
        "csinodes",
    ),
)
