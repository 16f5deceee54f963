"""The roles that EKS Pod Identity assumes for pods, and whether their trust policies let it.

Source: EKS User Guide, "EKS Pod Identity role trust policy" and "Grant Pods access to AWS
resources based on tags". The trust policy must allow pods.eks.amazonaws.com sts:AssumeRole and,
unless the association disables session tags, sts:TagSession.
"""

from collections.abc import Mapping
from typing import Final

from hyperpod_ebs.emulator.identity.authorizer import Authorizer, Need
from hyperpod_ebs.emulator.identity.identities import Identities
from hyperpod_ebs.emulator.identity.service_principals import service_identity
from hyperpod_ebs.emulator.identity.trust import Assumption
from hyperpod_ebs.emulator.identity_records import Role
from hyperpod_ebs.emulator.state.region import Region
from hyperpod_ebs.emulator.wire.operations import Call
from hyperpod_ebs.iam.request import Context, Request
from hyperpod_ebs.iam.statements import Effect, Element

SERVICE: Final = "pods.eks.amazonaws.com"
"""The service principal that assumes roles for pods; also the audience of the pods' tokens."""

_IDENTITY: Final = service_identity(SERVICE)


class PodRoles:
    """Knows the account's roles and whom they trust."""

    def __init__(self, identities: Identities, authorizer: Authorizer, region: Region) -> None:
        self._identities = identities
        self._authorizer = authorizer
        self._region = region

    def find(self, arn: str) -> Role | None:
        """The role with this ARN; None if there is none, or it belongs to another account."""
        return self._identities.role(arn)

    def may_trust_pods(self, role: str, *, has_session_tags: bool) -> bool:
        """Whether the trust policy names EKS Pod Identity; what its conditions say depends on the pod.

        Args:
            role: The role's ARN.
            has_session_tags: Whether the sessions will have tags.
        """
        tags = {"eks-cluster-name": ""} if has_session_tags else {}
        assumption = Assumption(role=role, session_name="", tags=tags)
        return all(self._names_pods(need) for need in assumption.needs(self._identities))

    def trusts_pod(self, call: Call, role: str, *, session: str, cluster: str, tags: Mapping[str, str]) -> bool:
        """Whether the trust policy lets EKS Pod Identity assume the role for a pod.

        Args:
            call: The call that asks for the pod's credentials.
            role: The role's ARN.
            session: The session's name.
            cluster: The ARN of the pod's cluster.
            tags: The session tags.
        """
        assumption = Assumption(
            role=role,
            session_name=session,
            tags=tags,
            transitive=list(tags),
            context={"aws:SourceAccount": self._region.account, "aws:SourceArn": cluster},
        )
        return self._authorizer.allows(call, _IDENTITY, assumption.needs(self._identities))

    def _names_pods(self, need: Need) -> bool:
        """Whether an Allow statement of the trust policy is about the action and EKS Pod Identity."""
        request = Request(
            principal=_IDENTITY.principal,
            action=need.action,
            resource=need.resource,
            resource_account=self._region.account,
            context=Context(need.context),
        )
        statements = need.policy.policy.statements if need.policy else ()
        for statement in statements:
            mismatch = statement.mismatch(request, has_boundary=False)
            if statement.effect is Effect.ALLOW and (mismatch is None or mismatch.element is Element.CONDITION):
                return True
        return False
