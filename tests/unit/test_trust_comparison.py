"""What is found in the trust policy of the driver's role: IRSA, Pod Identity, and others that may get the role."""

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import pytest

from hyperpod_ebs.access.policy.comparison.given_policies import GivenPolicy, compile_policy
from hyperpod_ebs.access.policy.comparison.trust import ServiceAccount, trust_findings
from hyperpod_ebs.access.policy.statements import Setting
from hyperpod_ebs.access.policy.trust_documents import trust_policy_irsa, trust_policy_pod_identity
from hyperpod_ebs.iam.documents import Kind

Json = Any  # a policy document

ACCOUNT: Final = "123456789012"
HOST: Final = "oidc.eks.us-west-2.amazonaws.com/id/ABC"
SETTING: Final = Setting(partition="aws", region="us-west-2", account=ACCOUNT, eks_cluster="training")
OWN: Final = ServiceAccount(setting=SETTING, issuer=f"https://{HOST}")

IRSA: Final = json.loads(json.dumps(trust_policy_irsa(SETTING, f"https://{HOST}").json))
PODS: Final = json.loads(json.dumps(trust_policy_pod_identity(SETTING).json))


def with_text(document: Json, old: str, new: str) -> Json:
    text = json.dumps(document)
    assert old in text
    return json.loads(text.replace(old, new))


def document(*statements: Mapping[str, Any]) -> Json:
    return {"Version": "2012-10-17", "Statement": list(statements)}


def allow(principal: Any, *actions: str, **members: Any) -> Mapping[str, Any]:
    return {"Effect": "Allow", "Principal": principal, "Action": list(actions), **members}


POD_IDENTITY: Final = {"Service": "pods.eks.amazonaws.com"}
BOTH: Final = ("sts:AssumeRole", "sts:TagSession")


class Case(NamedTuple):
    """A trust policy, the kinds of findings, and a part of the message."""

    id: str
    document: Json
    kinds: Sequence[str] = ()
    part: str = ""


MISSING, MISTYPED, WIDE = "missing", "mistyped", "too wide"

CASES: Final = [
    Case("IRSA", IRSA),
    Case("Pod Identity", PODS),
    Case("both", document(*IRSA["Statement"], with_text(PODS, '"Sid": "', '"Sid": "Other')["Statement"][0])),
    Case(
        "Pod Identity as AWS documents it", document(allow(POD_IDENTITY, *BOTH)), [WIDE], "any Pod Identity association"
    ),
    Case(
        "no TagSession", document(allow(POD_IDENTITY, "sts:AssumeRole")), [MISSING], "it does not allow sts:TagSession"
    ),
    Case("all actions", document(allow(POD_IDENTITY, "sts:*")), [WIDE]),
    Case(
        "misspelt service",
        with_text(PODS, "pods.eks", "pod.eks"),
        [MISTYPED],
        "it trusts pod.eks.amazonaws.com, not pods.eks",
    ),
    Case("EKS itself", with_text(PODS, "pods.eks", "eks"), [MISTYPED], "it trusts eks.amazonaws.com"),
    Case(
        "EC2",
        document(allow({"Service": "ec2.amazonaws.com"}, "sts:AssumeRole")),
        [MISSING],
        "neither for Pod Identity nor",
    ),
    Case(
        "other service account",
        with_text(IRSA, "ebs-csi-controller-sa", "ebs-csi-node-sa"),
        [MISTYPED],
        "it is system:serviceaccount:kube-system:ebs-csi-controller-sa",
    ),
    Case(
        "other namespace",
        with_text(PODS, '"kube-system"', '"default"'),
        [MISTYPED],
        "kubernetes-namespace to be default",
    ),
    Case(
        "other issuer",
        with_text(IRSA, "id/ABC", "id/DEF"),
        [MISTYPED],
        "it trusts arn:aws:iam::123456789012:oidc-provider/",
    ),
    Case("other audience", with_text(IRSA, 'sts.amazonaws.com"', 'eks"'), [MISTYPED], ":aud to be eks"),
    Case(
        "AssumeRole for IRSA",
        with_text(IRSA, "sts:AssumeRoleWithWebIdentity", "sts:AssumeRole"),
        [MISSING],
        "it does not allow sts:AssumeRoleWithWebIdentity",
    ),
    Case(
        "every service account",
        with_text(with_text(IRSA, "StringEquals", "StringLike"), "kube-system:ebs-csi-controller-sa", "*:*"),
        [WIDE],
        f"no condition on {HOST}:sub",
    ),
    Case(
        "the account as well",
        document(*IRSA["Statement"], allow({"AWS": f"arn:aws:iam::{ACCOUNT}:root"}, "sts:AssumeRole")),
        [WIDE],
        "123456789012 may get the role too",
    ),
    Case(
        "denied",
        document(*IRSA["Statement"], {**allow({"AWS": "*"}, "sts:*"), "Effect": "Deny"}),
        [MISSING],
        "explicitly",
    ),
    Case(
        "by source account",
        document(allow(POD_IDENTITY, *BOTH, Condition={"StringEquals": {"aws:SourceAccount": ACCOUNT}})),
        [WIDE],
    ),
    Case(
        "by other source account",
        document(allow(POD_IDENTITY, *BOTH, Condition={"StringEquals": {"aws:SourceAccount": "1" * 12}})),
        [MISTYPED],
        "aws:SourceAccount to be 111111111111",
    ),
    Case("other cluster", with_text(PODS, "cluster/training", "cluster/other"), [MISTYPED], "eks-cluster-arn"),
]


def trust(raw: Json) -> GivenPolicy:
    return compile_policy("trust policy", raw, Kind.TRUST)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_trust_policy_and_its_changes(case: Case) -> None:
    """EKS User Guide, "Assign IAM roles to Kubernetes service accounts" and "Create IAM role with trust policy"."""
    policy = trust(case.document)

    found = list(trust_findings(policy, OWN))

    assert [finding.kind.value for finding in found] == list(case.kinds), found
    assert case.part in "; ".join(finding.message for finding in found)
    for finding in found:
        assert finding.patch or case.id == "denied"
        fixed = policy.with_patch(finding.patch)
        assert fixed is not None
        left = [each.kind.value for each in trust_findings(fixed, OWN)]
        assert left in ([], [WIDE]) or case.id == "denied"


def test_without_the_clusters_issuer_that_of_the_policy_is_accepted() -> None:
    account = ServiceAccount(setting=SETTING)

    assert list(trust_findings(trust(with_text(IRSA, "id/ABC", "id/DEF")), account)) == []


@pytest.mark.parametrize("document", [IRSA, PODS], ids=["IRSA", "Pod Identity"])
def test_each_removal_from_a_printed_trust_policy_is_found(document: Json) -> None:
    for what, without in _removals(document):
        assert list(trust_findings(trust(without), OWN)), what


def _removals(document: Json) -> Iterator[tuple[str, Json]]:
    """The document without an action or a condition."""
    (statement,) = document["Statement"]
    if isinstance(statement["Action"], list):
        for position, action in enumerate(statement["Action"]):
            less = copy.deepcopy(document)
            del less["Statement"][0]["Action"][position]
            yield action, less
    for operator, keys in statement["Condition"].items():
        for key in keys:
            less = copy.deepcopy(document)
            del less["Statement"][0]["Condition"][operator][key]
            yield key, less
