"""The trust policies of the driver's role: who may assume it.

Sources: EKS User Guide, "IAM roles for service accounts" and "Create IAM role with trust policy required by EKS Pod
Identity".
"""

from typing import Final

from hyperpod_ebs.access.policy.statements import EVERY, Document, Setting, Statement

SERVICE_ACCOUNT: Final = "kube-system/ebs-csi-controller-sa"
AUDIENCE: Final = "sts.amazonaws.com"
"""The audience of the tokens for IRSA, which is the same in all partitions (eksctl issue 1910)."""


def trust_policy_irsa(setting: Setting, issuer: str, service_account: str = SERVICE_ACCOUNT) -> Document:
    """Lets the pods of a service account assume the role with a token of the EKS cluster's OIDC issuer."""
    host = issuer.partition("://")[2] or issuer
    namespace, _, name = service_account.partition("/")
    subject = f"system:serviceaccount:{namespace}:{name}"
    trust = Statement(
        sid="ServiceAccountOfTheDriver",
        principals={"Federated": (setting.iam_arn(f"oidc-provider/{host}"),)},
        actions=("sts:AssumeRoleWithWebIdentity",),
        conditions={"StringEquals": {f"{host}:aud": AUDIENCE, f"{host}:sub": subject}},
    )
    return Document(statements=(trust,))


def trust_policy_pod_identity(setting: Setting, service_account: str = SERVICE_ACCOUNT) -> Document:
    """Lets EKS Pod Identity assume the role for a service account of the EKS cluster.

    An association that disables session tags does not meet the conditions.
    """
    namespace, _, name = service_account.partition("/")
    tags = {"aws:RequestTag/kubernetes-namespace": namespace, "aws:RequestTag/kubernetes-service-account": name}
    if setting.eks_cluster != EVERY:
        tags["aws:RequestTag/eks-cluster-arn"] = setting.eks_cluster_arn
    trust = Statement(
        sid="ServiceAccountOfTheDriver",
        principals={"Service": ("pods.eks.amazonaws.com",)},
        actions=("sts:AssumeRole", "sts:TagSession"),
        conditions={"StringEquals": tags},
    )
    return Document(statements=(trust,))
