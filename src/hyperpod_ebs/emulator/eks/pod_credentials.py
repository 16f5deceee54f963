"""EKS Auth: credentials for a pod, in exchange for the token of its service account.

Sources: EKS Auth API Reference, "AssumeRoleForPodIdentity"; EKS User Guide, "Understand how EKS
Pod Identity works" and "Grant Pods access to AWS resources based on tags".
"""

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from hyperpod_ebs.emulator.eks.arns import association_arn, cluster_arn
from hyperpod_ebs.emulator.eks.lookup import require_cluster
from hyperpod_ebs.emulator.eks.pod_identities import PodIdentities
from hyperpod_ebs.emulator.eks.pod_roles import SERVICE, PodRoles
from hyperpod_ebs.emulator.eks_records import PodIdentityAssociation
from hyperpod_ebs.emulator.identity import web_tokens
from hyperpod_ebs.emulator.identity.issuer_keys import ClusterIssuerKeys
from hyperpod_ebs.emulator.identity.sessions import Sessions, new_session
from hyperpod_ebs.emulator.identity.web_tokens import Flaw, TokenRefused, WebToken
from hyperpod_ebs.emulator.identity_records import Role, Session
from hyperpod_ebs.emulator.state.world import World, to_datetime
from hyperpod_ebs.emulator.wire.operations import Answer, AwsFault, Call, Operations, Parameters

POD_SECONDS: Final = 6 * 3600
"""Seconds that the credentials of a pod last (EKS User Guide, "Learn how EKS Pod Identity grants ...")."""

_MAX_NAME: Final = 64
"""Characters of the longest session name."""

_NOT_IN_NAMES: Final = re.compile(r"[^\w+=,.@-]", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """A pod and its service account, as the claims of a token name them."""

    namespace: str
    service_account: str
    name: str
    uid: str

    @classmethod
    def from_claims(cls, claims: Mapping[str, Any]) -> "Pod | None":  # Any: JSON
        """The pod that a token is bound to; None if it is bound to none, or is not of a service account."""
        try:
            kubernetes = claims["kubernetes.io"]
            pod = cls(
                namespace=kubernetes["namespace"],
                service_account=kubernetes["serviceaccount"]["name"],
                name=kubernetes["pod"]["name"],
                uid=kubernetes["pod"]["uid"],
            )
        except (KeyError, TypeError):
            return None
        texts = (pod.namespace, pod.service_account, pod.name, pod.uid)
        return pod if all(isinstance(text, str) and text for text in texts) else None

    @property
    def subject(self) -> str:
        """The subject of tokens of the service account."""
        return f"system:serviceaccount:{self.namespace}:{self.service_account}"


class PodCredentials:
    """The operation of EKS Auth."""

    operations = Operations["PodCredentials"]()

    def __init__(
        self,
        world: World,
        *,
        identities: PodIdentities,
        roles: PodRoles,
        sessions: Sessions,
        seconds: int = POD_SECONDS,
    ) -> None:
        """Create the service; credentials last `seconds` seconds."""
        self._world = world
        self._store = world.store
        self._identities = identities
        self._roles = roles
        self._keys = ClusterIssuerKeys(world.store)
        self._sessions = sessions
        self._seconds = seconds

    @operations("AssumeRoleForPodIdentity")
    async def assume_role(self, parameters: Parameters, call: Call) -> Answer:
        """Return credentials of the role that is associated with the service account of the token."""
        cluster = require_cluster(self._store, parameters["clusterName"])
        token = self._verify(parameters["token"], cluster.id)
        if (pod := Pod.from_claims(token.claims)) is None or pod.subject != token.subject:
            raise _invalid_token("The token included in the request is not the token of a pod's service account")
        association = self._identities.find(cluster.id, pod.namespace, pod.service_account)
        if association is None:
            text = f"No association found for service account {pod.namespace}/{pod.service_account}"
            raise AwsFault("ResourceNotFoundException", text, 404)
        arn = cluster_arn(self._world.region, cluster.id)
        tags = _session_tags(pod, cluster.id, arn) if association.has_session_tags else {}
        name = _session_name(cluster.id, pod)
        role = self._roles.find(association.role)
        if role is None or not self._roles.trusts_pod(call, association.role, session=name, cluster=arn, tags=tags):
            text = "Unauthorized Exception! EKS does not have permissions to assume the associated role."
            raise AwsFault("AccessDeniedException", text)
        session = self._new_session(association, role, name, tags)
        region = self._world.region
        user_arn = f"arn:{region.partition}:sts::{region.account}:assumed-role/{role.id}/{session.name}"
        return await self._world.acknowledge(
            {
                "subject": {"namespace": pod.namespace, "serviceAccount": pod.service_account},
                "audience": SERVICE,
                "podIdentityAssociation": {
                    "associationArn": association_arn(region, association),
                    "associationId": association.id,
                },
                "assumedRoleUser": {"arn": user_arn, "assumeRoleId": f"{role.unique_id}:{session.name}"},
                "credentials": {
                    "accessKeyId": session.id,
                    "secretAccessKey": session.secret,
                    "sessionToken": session.token,
                    "expiration": to_datetime(session.expires),
                },
            }
        )

    def _verify(self, token: str, cluster: str) -> WebToken:
        """Verify a token of the cluster for EKS Pod Identity.

        Raises:
            AwsFault: The token is not valid.
        """
        try:
            verified = web_tokens.verify(token, self._keys)
        except TokenRefused as refusal:
            if refusal.flaw is Flaw.EXPIRED:
                raise AwsFault("ExpiredTokenException", "The token included in the request is expired") from None
            raise _invalid_token("The token included in the request is invalid") from None
        issuer = self._store.oidc_issuers.get(verified.issuer)
        if issuer is None or issuer.cluster != cluster:
            raise _invalid_token(f"The token included in the request is not issued by cluster {cluster}")
        if SERVICE not in verified.audiences:
            raise _invalid_token(f"The audience of the token included in the request is not {SERVICE}")
        return verified

    def _new_session(
        self, association: PodIdentityAssociation, role: Role, name: str, tags: Mapping[str, str]
    ) -> Session:
        return self._sessions.add(
            replace(
                new_session(self._seconds),
                role=role.id,
                name=name,
                policies=(association.policy,) if association.policy else (),
                tags=dict(tags),
                transitive=tuple(tags),
            )
        )


def _session_tags(pod: Pod, cluster: str, arn: str) -> Mapping[str, str]:
    return {
        "eks-cluster-arn": arn,
        "eks-cluster-name": cluster,
        "kubernetes-namespace": pod.namespace,
        "kubernetes-service-account": pod.service_account,
        "kubernetes-pod-name": pod.name,
        "kubernetes-pod-uid": pod.uid,
    }


def _session_name(cluster: str, pod: Pod) -> str:
    """The session's name: eks-CLUSTER-POD-UUID, of which the first two parts are cut if it is too long."""
    unique = secrets.token_hex(8)
    start = _NOT_IN_NAMES.sub("-", f"eks-{cluster}-{pod.name}")
    return f"{start[: _MAX_NAME - 1 - len(unique)]}-{unique}"


def _invalid_token(text: str) -> AwsFault:
    return AwsFault("InvalidTokenException", text)
