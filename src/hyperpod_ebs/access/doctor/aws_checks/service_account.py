"""Whether the driver's service account gets its role: by EKS Pod Identity or with a token (IRSA).

Sources: EKS User Guide, "EKS Pod Identity", "IAM roles for service accounts"; amazon-eks-pod-identity-webhook, which
prefers the association to the annotation.
"""

import json
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Final

from hyperpod_ebs.access.aws.eks_clusters import ACTIVE, EksCluster, addon_status
from hyperpod_ebs.access.aws.roles import Role, provider_audiences
from hyperpod_ebs.access.doctor.aws_checks.policy_reasons import trust_problem
from hyperpod_ebs.access.doctor.checks import Check
from hyperpod_ebs.access.doctor.context import ROLE_ANNOTATION, Context, Missing, RoleUse
from hyperpod_ebs.access.doctor.findings import Finding, fails, may_fail
from hyperpod_ebs.access.policy.statements import Document, Setting
from hyperpod_ebs.access.policy.trust_documents import AUDIENCE, trust_policy_irsa, trust_policy_pod_identity
from hyperpod_ebs.iam.request import Principal, PrincipalType

_AGENT: Final = "eks-pod-identity-agent"
_PODS: Final = Principal(type=PrincipalType.SERVICE, arn="pods.eks.amazonaws.com")
_NO_CREDENTIALS: Final = "The driver gets no AWS credentials, and can do nothing at AWS"


async def _check_role(context: Context) -> AsyncIterator[Finding]:
    """Whether the service account has a role, and which one if it has two."""
    account = f"{context.wanted.namespace}/{context.wanted.service_account}"
    uses = await context.role_uses()
    if not uses and await context.eks_clusters():
        yield fails(
            f"service account {account}",
            f"it has neither a pod identity association nor the annotation {ROLE_ANNOTATION}",
            _NO_CREDENTIALS,
            "create a role with the policies of `hyperpod-ebs policy driver`, and `aws eks "
            f"create-pod-identity-association --namespace {context.wanted.namespace} "
            f"--service-account {context.wanted.service_account} --cluster-name EKS-CLUSTER --role-arn ROLE-ARN`",
        )
    annotation = ""
    with suppress(Missing):
        annotation = await context.role_in_annotation()
    for use in uses:
        if await context.role(use.arn) is None:
            yield fails(
                f"role {use.arn}",
                f"the role that {_origin(use, account)} names does not exist",
                _NO_CREDENTIALS,
                "create the role with the policies of `hyperpod-ebs policy driver`, or name another one",
            )
        if use.way == "Pod Identity" and annotation and annotation != use.arn:
            yield may_fail(
                f"service account {account}",
                f"its pod identity association names {use.arn}, and its annotation {annotation}",
                "The driver gets the role of the association, and the other role's policies have no effect",
                f"`kubectl annotate serviceaccount --namespace {context.wanted.namespace} "
                f"{context.wanted.service_account} {ROLE_ANNOTATION}-`",
            )
    if uses and all(use.way == "flag" for use in uses):
        await context.uses_in_eks()  # it says what was not checked


def _origin(use: RoleUse, account: str) -> str:
    match use.way:
        case "flag":
            return "--role"
        case "Pod Identity":
            return f"the pod identity association of {account}"
        case "IRSA":
            return f"the annotation of service account {account}"
        case "caller":
            return "this pod"


async def _check_agent(context: Context) -> AsyncIterator[Finding]:
    aws = await context.aws()
    for use, eks in await context.uses_in_eks():
        if use.way != "Pod Identity":
            continue
        status = await addon_status(aws, eks.name, _AGENT)
        if status is None and await _has_own_agent(context):
            continue
        if status is None:
            yield fails(
                f"EKS cluster {eks.name}",
                f"it does not have the add-on {_AGENT}, and the driver's service account gets its role by Pod Identity",
                _NO_CREDENTIALS,
                f"`aws eks create-addon --cluster-name {eks.name} --addon-name {_AGENT}`",
            )
        elif status != ACTIVE:
            yield may_fail(
                f"add-on {_AGENT} of EKS cluster {eks.name}",
                f"its status is {status}, not {ACTIVE}",
                "The driver may get no AWS credentials",
                f"`aws eks describe-addon --cluster-name {eks.name} --addon-name {_AGENT} --query addon.health`",
            )


async def _has_own_agent(context: Context) -> bool:
    """Whether the cluster runs the agent without the add-on."""
    try:
        items = await context.objects("/apis/apps/v1/daemonsets")
    except Missing:
        return False
    return any(item["metadata"]["name"] == _AGENT for item in items)


async def _check_trust(context: Context) -> AsyncIterator[Finding]:
    for use, eks in await context.uses_in_eks():
        if (role := await context.role(use.arn)) is None:
            continue
        if use.way == "Pod Identity":
            problem, document = _pod_identity_problem(context, use, role, eks)
        else:
            problem, document = await _irsa_problem(context, role, eks)
        if problem is not None:
            yield fails(f"role {role.name}", problem, _NO_CREDENTIALS, document)


def _pod_identity_problem(context: Context, use: RoleUse, role: Role, eks: EksCluster) -> tuple[str | None, str]:
    wanted = context.wanted
    tags = {
        "eks-cluster-arn": eks.arn,
        "eks-cluster-name": eks.name,
        "kubernetes-namespace": wanted.namespace,
        "kubernetes-service-account": wanted.service_account,
    }
    has_tags = use.pod_identity is None or use.pod_identity.has_session_tags
    keys: dict[str, str | list[str]] = {"aws:SourceArn": eks.arn, "aws:SourceAccount": eks.arn.split(":")[4]}
    if has_tags:
        keys |= {f"aws:RequestTag/{key}": value for key, value in tags.items()}
        keys |= {"aws:TagKeys": list(tags), "sts:TransitiveTagKeys": list(tags)}
    actions = ["sts:AssumeRole", "sts:TagSession"] if has_tags else ["sts:AssumeRole"]
    problem = trust_problem(role, _PODS, actions, keys)
    if problem and not has_tags:
        problem += "; the association disables session tags"
    document = trust_policy_pod_identity(_setting(role, eks), f"{wanted.namespace}/{wanted.service_account}")
    return problem, _update(role, document)


async def _irsa_problem(context: Context, role: Role, eks: EksCluster) -> tuple[str | None, str]:
    wanted, aws = context.wanted, await context.aws()
    host = eks.issuer.partition("://")[2]
    provider = _setting(role, eks).iam_arn(f"oidc-provider/{host}")
    audiences = await provider_audiences(aws, provider)
    if audiences is None:
        return (
            f"the account has no OIDC provider {provider}, which is the issuer of EKS cluster {eks.name}",
            f"`aws iam create-open-id-connect-provider --url {eks.issuer} --client-id-list {AUDIENCE}`",
        )
    if AUDIENCE not in audiences:
        accepted = ", ".join(audiences) or "(none)"
        add = "aws iam add-client-id-to-open-id-connect-provider"
        return (
            f"OIDC provider {provider} accepts the audience {accepted}, and the driver's token has {AUDIENCE}",
            f"`{add} --open-id-connect-provider-arn {provider} --client-id {AUDIENCE}`",
        )
    subject = f"system:serviceaccount:{wanted.namespace}:{wanted.service_account}"
    principal = Principal(type=PrincipalType.FEDERATED, arn=provider)
    keys = {f"{host}:aud": AUDIENCE, f"{host}:sub": subject}
    problem = trust_problem(role, principal, ["sts:AssumeRoleWithWebIdentity"], keys)
    account = f"{wanted.namespace}/{wanted.service_account}"
    return problem, _update(role, trust_policy_irsa(_setting(role, eks), eks.issuer, account))


def _setting(role: Role, eks: EksCluster) -> Setting:
    partition, _, region, account = eks.arn.split(":")[1:5]
    return Setting(partition=partition, region=region, account=role.arn.split(":")[4] or account, eks_cluster=eks.name)


def _update(role: Role, document: Document) -> str:
    return (
        f"`aws iam update-assume-role-policy --role-name {role.name} --policy-document '{json.dumps(document.json)}'`"
    )


CHECKS: Final = (
    Check(name="service account", promise="the driver's service account has one role", run=_check_role),
    Check(name="pod identity agent", promise="the Pod Identity agent runs where it is needed", run=_check_agent),
    Check(name="trust", promise="the driver's service account can assume its role", run=_check_trust),
)
