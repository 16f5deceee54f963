"""The comparison of a role's trust policy with what the driver's pods need to get the role.

Sources: EKS User Guide, "Assign IAM roles to Kubernetes service accounts" and "Create IAM role with trust policy
required by EKS Pod Identity".
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from hyperpod_ebs.access.policy.comparison.findings import Finding, FindingKind, Operation
from hyperpod_ebs.access.policy.comparison.given_policies import GivenPolicy, RawStatement, short, strings
from hyperpod_ebs.access.policy.comparison.job_requests import Values
from hyperpod_ebs.access.policy.comparison.jobs import has_action
from hyperpod_ebs.access.policy.comparison.other_values import other_values
from hyperpod_ebs.access.policy.statements import Document, Setting
from hyperpod_ebs.access.policy.trust_documents import SERVICE_ACCOUNT, trust_policy_irsa, trust_policy_pod_identity
from hyperpod_ebs.iam.decision import Allowed, DeniedExplicitly, Policies, ResourcePolicy, decide
from hyperpod_ebs.iam.request import Context, Principal, PrincipalType, Request
from hyperpod_ebs.iam.statements import Effect, Element, Statement

POD_IDENTITY: Final = "pods.eks.amazonaws.com"
AUDIENCE: Final = "sts.amazonaws.com"

_WEB_IDENTITY: Final = "sts:AssumeRoleWithWebIdentity"
_PROVIDER: Final = re.compile(r"arn:[^:]+:iam::\d*:oidc-provider/(?P<host>.+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceAccount:
    """The service account of the driver's controller, and its cluster."""

    setting: Setting
    name: str = SERVICE_ACCOUNT
    """NAMESPACE/NAME."""

    issuer: str = ""
    """The URL of the cluster's OIDC issuer; empty if it is not known."""

    @property
    def host(self) -> str:
        """The issuer without its scheme."""
        return self.issuer.partition("://")[2] or self.issuer


@dataclass(frozen=True, slots=True, kw_only=True)
class _Way:
    """One of the two ways in which pods get a role."""

    name: str
    principal: Principal
    actions: tuple[str, ...]
    context: Values
    reference: RawStatement


def trust_findings(policy: GivenPolicy, account: ServiceAccount) -> Iterator[Finding]:
    """What keeps the driver's pods from getting a role, and which others may get it."""
    ways = [_pod_identity(account), *(_irsa(account, host) for host in _hosts(policy, account))]
    usable = [way for way in ways if _missing_actions(policy, way) == []]
    if not usable:
        yield _refusal(policy, ways, account)
        return
    for statement in policy.compiled.statements:
        if statement.effect is Effect.ALLOW:
            yield from _too_wide(policy, statement, usable)


def _hosts(policy: GivenPolicy, account: ServiceAccount) -> Sequence[str]:
    """The issuer of the cluster, or those that the policy names if the cluster's is not known."""
    if account.host:
        return [account.host]
    names = [
        name
        for statement in policy.compiled.statements
        if statement.principals
        for name in statement.principals.federated
    ]
    return sorted({match["host"] for name in names if (match := _PROVIDER.fullmatch(name))})


def _pod_identity(account: ServiceAccount) -> _Way:
    namespace, _, name = account.name.partition("/")
    cluster = account.setting.eks_cluster_arn
    tags = {
        "kubernetes-namespace": namespace,
        "kubernetes-service-account": name,
        "kubernetes-pod-name": "ebs-csi-controller-0",
        "kubernetes-pod-uid": "00000000-0000-0000-0000-000000000000",
        "eks-cluster-arn": cluster,
        "eks-cluster-name": account.setting.eks_cluster,
    }
    return _Way(
        name="Pod Identity",
        principal=Principal(type=PrincipalType.SERVICE, arn=POD_IDENTITY),
        actions=("sts:AssumeRole", "sts:TagSession"),
        context={
            **{f"aws:RequestTag/{key}": value for key, value in tags.items()},
            "aws:TagKeys": list(tags),
            "aws:SourceAccount": account.setting.account,
            "aws:SourceArn": cluster,
        },
        reference=_statement(trust_policy_pod_identity(account.setting, account.name)),
    )


def _irsa(account: ServiceAccount, host: str) -> _Way:
    provider = account.setting.iam_arn(f"oidc-provider/{host}")
    namespace, _, name = account.name.partition("/")
    return _Way(
        name="IRSA",
        principal=Principal(type=PrincipalType.FEDERATED, arn=provider),
        actions=(_WEB_IDENTITY,),
        context={
            f"{host}:aud": AUDIENCE,
            f"{host}:sub": f"system:serviceaccount:{namespace}:{name}",
            "aws:FederatedProvider": provider,
        },
        reference=_statement(trust_policy_irsa(account.setting, f"https://{host}", account.name)),
    )


def _statement(document: Document) -> RawStatement:
    statement: RawStatement = json.loads(json.dumps(document.statements[0].json))
    return statement


def _request(way: _Way, action: str, context: Values | None = None) -> Request:
    values = way.context if context is None else context
    return Request(principal=way.principal, action=action, resource="", resource_account="", context=Context(values))


def _missing_actions(policy: GivenPolicy, way: _Way) -> list[str]:
    """The actions that the policy does not allow."""
    policies = Policies(resource=ResourcePolicy(policy=policy.compiled, is_required=True))
    return [action for action in way.actions if not isinstance(decide(_request(way, action), policies), Allowed)]


def _refusal(policy: GivenPolicy, ways: Sequence[_Way], account: ServiceAccount) -> Finding:
    """Why the driver's pods do not get the role."""
    who = f"the driver's pods cannot get the role as {account.name}"
    policies = Policies(resource=ResourcePolicy(policy=policy.compiled, is_required=True))
    for way in ways:
        for action in way.actions:
            decision = decide(_request(way, action), policies)
            if isinstance(decision, DeniedExplicitly):
                name = decision.rule.statement.name
                message = f"{who}: {name} of the trust policy denies {action} explicitly"
                return Finding(kind=FindingKind.MISSING, policy=policy.name, statement=name, message=message)
    repairs = [repair for way in ways for repair in _repairs(policy, way)]
    if repairs:
        return min(repairs, key=lambda pair: pair[0])[1].with_head(who)
    statement = ways[0].reference
    return Finding(
        kind=FindingKind.MISSING,
        policy=policy.name,
        message=f"{who}: the trust policy has a statement neither for Pod Identity nor for the cluster's OIDC provider",
        patch=[policy.addition(statement)],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Repair:
    """A statement that nearly allows what a way needs, and its change."""

    policy: GivenPolicy
    index: int
    reason: str
    kind: FindingKind
    patch: Sequence[Operation]

    def with_head(self, head: str) -> Finding:
        """The finding, whose message begins with this text."""
        return Finding(
            kind=self.kind,
            policy=self.policy.name,
            statement=self.policy.statement_name(self.index),
            message=f"{head}: {self.reason}",
            patch=self.patch,
        )


def _repairs(policy: GivenPolicy, way: _Way) -> Iterator[tuple[int, _Repair]]:
    """The repairs of statements that are near, each with the number of changed members."""
    for statement in policy.compiled.statements:
        raw = policy.statements[statement.index]
        if statement.effect is not Effect.ALLOW or not _is_near(statement, way):
            continue
        reasons, patch, kind = list[str](), list[Operation](), FindingKind.MISSING
        mismatch = statement.mismatch(_request(way, way.actions[0]), has_boundary=False)
        lacking = [action for action in way.actions if not has_action(statement, action)]
        if statement.principals and not statement.principals.grant(way.principal):
            named = ", ".join(sorted(statement.principals.federated | statement.principals.services))
            reasons.append(f"it trusts {named}, not {way.principal.arn}")
            patch.append(_replacement(policy, statement.index, "Principal", way.reference["Principal"]))
            kind = FindingKind.MISTYPED
        if lacking:
            reasons.append(f"it does not allow {' and '.join(lacking)}")
            actions = [*strings(raw.get("Action")), *lacking] if len(lacking) < len(way.actions) else [*way.actions]
            patch.append(_replacement(policy, statement.index, "Action", short(actions)))
        unmet = [each for each in statement.conditions if not each.is_met(Context(way.context))]
        for condition in unmet:
            wanted = ", ".join(value.source for value in condition.values)
            actual = ", ".join(Context(way.context).get(condition.key)) or "absent"
            reasons.append(f"it wants {condition.key} to be {wanted}, and it is {actual}")
            kind = FindingKind.MISTYPED
        if unmet:
            patch.append(_replacement(policy, statement.index, "Condition", way.reference["Condition"]))
        if reasons and (mismatch is None or mismatch.element >= Element.ACTION):
            text = f"{statement.name} is for {way.name}, but {'; '.join(reasons)}"
            yield len(patch), _Repair(policy=policy, index=statement.index, reason=text, kind=kind, patch=tuple(patch))


def _replacement(policy: GivenPolicy, index: int, member: str, value: object) -> Operation:
    operation = "replace" if member in policy.statements[index] else "add"
    return {"op": operation, "path": policy.path(index, member), "value": json.loads(json.dumps(value))}


def _is_near(statement: Statement, way: _Way) -> bool:
    """Whether a statement is meant for pods in this way."""
    if statement.principals is None:
        return False
    if way.principal.type is PrincipalType.SERVICE:
        return any("eks" in name or "pod" in name for name in statement.principals.services)
    return any(":oidc-provider/" in name for name in statement.principals.federated)


def _too_wide(policy: GivenPolicy, statement: Statement, ways: Sequence[_Way]) -> Iterator[Finding]:
    """Who else may get the role by a statement."""
    texts, patch = list[str](), list[Operation]()
    own = [way for way in ways if statement.mismatch(_request(way, way.actions[0]), has_boundary=False) is None]
    for way in own:
        others = [key for key, context in _others(way) if _allows(statement, way, context)]
        if others:
            texts.append(_WIDE[way.name].format(keys=" and ".join(dict.fromkeys(others))))
            patch = [_replacement(policy, statement.index, "Condition", way.reference["Condition"])]
    principals = statement.principals
    if principals is not None:
        named = sorted(principals.aws) + sorted(principals.services - {POD_IDENTITY})
        trusted = {way.principal.arn for way in ways}
        named += sorted(principals.federated - trusted)
        if named:
            texts.append(f"{', '.join(named)} may get the role too")
            if not own and isinstance(policy.raw.get("Statement"), list):
                patch = [{"op": "remove", "path": policy.path(statement.index)}]
    if texts:
        yield Finding(
            kind=FindingKind.TOO_WIDE,
            policy=policy.name,
            statement=statement.name,
            message=f"{statement.name} of the trust policy: {'; '.join(texts)}",
            patch=patch,
        )


_WIDE: Final = {
    "IRSA": "other service accounts of the cluster may get the role, because it has no condition on {keys}",
    "Pod Identity": "any Pod Identity association of the account may use the role, as it has no condition on {keys}",
}


def _others(way: _Way) -> Iterator[tuple[str, Values]]:
    """Contexts of other pods, each with the key that differs."""
    condition = way.reference["Condition"]
    for keys in condition.values() if isinstance(condition, dict) else ():
        for key in keys if isinstance(keys, dict) else ():
            for value in Context(way.context).get(key):
                yield from ((key, {**way.context, key: other}) for other in other_values(value))


def _allows(statement: Statement, way: _Way, context: Values) -> bool:
    return statement.mismatch(_request(way, way.actions[0], context), has_boundary=False) is None
