"""Which nodes the pods of a DaemonSet may run on, as the scheduler decides it."""

from collections.abc import Mapping
from typing import Final

from hyperpod_ebs.access.doctor.context import Object
from hyperpod_ebs.access.doctor.kubernetes_checks.objects import labels_of, name_of

_KEEPING_OUT: Final = frozenset({"NoSchedule", "NoExecute"})

_FOR_DAEMONS: Final = frozenset(
    {
        "node.kubernetes.io/not-ready",
        "node.kubernetes.io/unreachable",
        "node.kubernetes.io/disk-pressure",
        "node.kubernetes.io/memory-pressure",
        "node.kubernetes.io/pid-pressure",
        "node.kubernetes.io/unschedulable",
        "node.kubernetes.io/network-unavailable",
    }
)
"""Taints that each DaemonSet tolerates (Kubernetes, DaemonSet, Taints and tolerations)."""


def selects_node(pod_spec: Object, node: Object) -> bool:
    """Whether the pods' node selector and required node affinity match the node."""
    labels = labels_of(node)
    if any(labels.get(key) != value for key, value in (pod_spec.get("nodeSelector") or {}).items()):
        return False
    affinity = (pod_spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    terms = (required or {}).get("nodeSelectorTerms") or ()
    return required is None or any(_matches_term(term, node) for term in terms)


def taints_not_tolerated(pod_spec: Object, node: Object) -> list[str]:
    """The node's taints that keep the pods of a DaemonSet away, as kubectl writes them."""
    tolerations = pod_spec.get("tolerations") or ()
    return [
        f"{taint['key']}={taint['value']}:{taint['effect']}"
        if taint.get("value")
        else f"{taint['key']}:{taint['effect']}"
        for taint in node.get("spec", {}).get("taints") or ()
        if taint.get("effect") in _KEEPING_OUT
        and taint.get("key") not in _FOR_DAEMONS
        and not any(_tolerates(toleration, taint) for toleration in tolerations)
    ]


def _matches_term(term: Object, node: Object) -> bool:
    expressions, fields = term.get("matchExpressions") or (), term.get("matchFields") or ()
    if not expressions and not fields:
        return False
    labels = labels_of(node)
    return all(_matches(expression, labels) for expression in expressions) and all(
        _matches(field, {"metadata.name": name_of(node)}) for field in fields
    )


def _matches(expression: Object, values: Mapping[str, str]) -> bool:
    found, wanted = values.get(str(expression.get("key"))), list(expression.get("values") or ())
    match expression.get("operator"):
        case "In":
            return found in wanted
        case "NotIn":
            return found not in wanted
        case "Exists":
            return found is not None
        case "DoesNotExist":
            return found is None
        case "Gt" | "Lt" as operator:
            limit = wanted[0] if wanted else None
            return _is_ordered(limit, found) if operator == "Gt" else _is_ordered(found, limit)
        case _:
            return False


def _is_ordered(smaller: str | None, larger: str | None) -> bool:
    numbers = [int(text) for text in (smaller, larger) if text and text.isascii() and text.isdecimal()]
    return sorted(set(numbers)) == numbers and len(numbers) == len((smaller, larger))


def _tolerates(toleration: Object, taint: Object) -> bool:
    if toleration.get("effect") not in {None, "", taint.get("effect")}:
        return False
    if toleration.get("operator", "Equal") == "Exists":
        return toleration.get("key") in {None, "", taint.get("key")}
    same = toleration.get("key") == taint.get("key")
    return same and (toleration.get("value") or "") == (taint.get("value") or "")
