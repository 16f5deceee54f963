"""Pod identity associations: which role the pods of a service account get.

Source: EKS User Guide, "Learn how EKS Pod Identity grants Pods access to AWS services".
"""

import secrets
import string
from dataclasses import replace
from typing import Final

from hyperpod_ebs.emulator.eks.arns import association_arn
from hyperpod_ebs.emulator.eks.lookup import check_tags, is_repeated, limit_exceeded, require_cluster
from hyperpod_ebs.emulator.eks.pages import page
from hyperpod_ebs.emulator.eks.pod_roles import PodRoles
from hyperpod_ebs.emulator.eks_records import PodIdentityAssociation
from hyperpod_ebs.emulator.state.world import World, now, to_datetime
from hyperpod_ebs.emulator.wire.operations import Answer, AwsFault, Call, Operations, Parameters
from hyperpod_ebs.iam import documents
from hyperpod_ebs.iam.documents import Kind, MalformedPolicy

MAX_POLICY: Final = 2048
"""Characters of the longest session policy (STS API Reference, AssumeRole)."""

MAX_ASSOCIATIONS: Final = 5000
"""Associations of a cluster (EKS User Guide, "Learn how EKS Pod Identity grants Pods access to AWS services")."""

_ALPHABET: Final = string.ascii_lowercase + string.digits


class PodIdentities:
    """The operations on pod identity associations."""

    operations = Operations["PodIdentities"]()

    def __init__(self, world: World, roles: PodRoles) -> None:
        self._world = world
        self._store = world.store
        self._roles = roles

    @operations("CreatePodIdentityAssociation")
    async def create(self, parameters: Parameters, _: Call) -> Answer:
        """Associate a role with a service account, which has at most one."""
        cluster = require_cluster(self._store, parameters["clusterName"])
        for member in ("namespace", "serviceAccount"):
            if not parameters[member]:
                raise _invalid(f"{member} must not be empty")
        existing = self.find(cluster.id, parameters["namespace"], parameters["serviceAccount"])
        if existing is not None and is_repeated(existing.client_token, parameters):
            return await self._answer(existing)
        _refuse_target_role(parameters)
        check_tags(parameters.get("tags", {}))
        association = PodIdentityAssociation(
            id=new_association_id(),
            cluster=cluster.id,
            namespace=parameters["namespace"],
            service_account=parameters["serviceAccount"],
            role=parameters["roleArn"],
            created=(created := now()),
            modified=created,
            has_session_tags=not parameters.get("disableSessionTags", False),
            policy=parameters.get("policy", ""),
            client_token=parameters.get("clientRequestToken", ""),
            tags=dict(parameters.get("tags", {})),
        )
        self.require_creatable(association)
        self.require_space(cluster.id, 1)
        return await self._answer(self._store.pod_identity_associations.put(association))

    @operations("DescribePodIdentityAssociation")
    async def describe(self, parameters: Parameters, _: Call) -> Answer:
        """Describe an association."""
        return await self._answer(self._find(parameters))

    @operations("ListPodIdentityAssociations")
    async def list_associations(self, parameters: Parameters, _: Call) -> Answer:
        """List the associations of a cluster, a namespace or a service account."""
        cluster = require_cluster(self._store, parameters["clusterName"])
        namespace, service_account = parameters.get("namespace"), parameters.get("serviceAccount")
        matching = {
            each.id: each
            for each in self._store.pod_identity_associations.where("cluster", cluster.id)
            if namespace in {None, each.namespace} and service_account in {None, each.service_account}
        }
        ids, token = page(matching, parameters)
        summaries = [
            {
                "clusterName": each.cluster,
                "namespace": each.namespace,
                "serviceAccount": each.service_account,
                "associationArn": association_arn(self._world.region, each),
                "associationId": each.id,
                "ownerArn": each.owner or None,
            }
            for each in map(matching.__getitem__, ids)
        ]
        return await self._world.acknowledge({"associations": summaries, "nextToken": token})

    @operations("UpdatePodIdentityAssociation")
    async def update(self, parameters: Parameters, _: Call) -> Answer:
        """Replace the role, the session policy, or whether there are session tags."""
        old = self._find(parameters)
        _refuse_target_role(parameters)
        association = replace(
            old,
            role=parameters.get("roleArn", old.role),
            has_session_tags=not parameters.get("disableSessionTags", not old.has_session_tags),
            policy=parameters.get("policy", old.policy),
            modified=now(),
        )
        self._check(association)
        return await self._answer(self._store.pod_identity_associations.put(association))

    @operations("DeletePodIdentityAssociation")
    async def delete(self, parameters: Parameters, _: Call) -> Answer:
        """Delete an association; credentials that pods have remain valid until they expire."""
        association = self._find(parameters)
        self._store.pod_identity_associations.drop(association.id)
        return await self._answer(association)

    def find(self, cluster: str, namespace: str, service_account: str) -> PodIdentityAssociation | None:
        """The association of a service account; None if it has none."""
        return next(
            (
                each
                for each in self._store.pod_identity_associations.where("cluster", cluster)
                if (each.namespace, each.service_account) == (namespace, service_account)
            ),
            None,
        )

    def require_creatable(self, association: PodIdentityAssociation) -> None:
        """Check a new association.

        Raises:
            AwsFault: EKS cannot assume the role, the policy is invalid, or the service account has an association.
        """
        self._check(association)
        if existing := self.find(association.cluster, association.namespace, association.service_account):
            raise AwsFault("ResourceInUseException", f"Association already exists: {existing.id}", 409)

    def require_space(self, cluster: str, count: int) -> None:
        """Refuse more associations than a cluster can have.

        Args:
            cluster: The name of the cluster.
            count: The number of new associations.

        Raises:
            AwsFault: ResourceLimitExceededException.
        """
        if len(self._store.pod_identity_associations.where("cluster", cluster)) + count > MAX_ASSOCIATIONS:
            raise limit_exceeded(f"A cluster can have at most {MAX_ASSOCIATIONS} pod identity associations.")

    def _check(self, association: PodIdentityAssociation) -> None:
        """Check the role and the session policy.

        Raises:
            AwsFault: The role does not exist or does not trust EKS, or the policy is invalid.
        """
        if self._roles.find(association.role) is None:
            raise _invalid("Role provided in the request does not exist.")
        if not self._roles.may_trust_pods(association.role, has_session_tags=association.has_session_tags):
            raise _invalid(
                "Trust policy of the role provided in the request does not allow pods.eks.amazonaws.com to perform "
                "sts:AssumeRole and sts:TagSession."
            )
        if not association.policy:
            return
        if association.has_session_tags:
            raise _invalid("disableSessionTags must be true when a policy is specified.")
        if len(association.policy) > MAX_POLICY:
            raise _invalid(f"policy must have at most {MAX_POLICY} characters")
        try:
            documents.parse(association.policy, kind=Kind.IDENTITY, name="policy")
        except MalformedPolicy as error:
            raise _invalid(f"policy is not valid: {error}") from error

    def _find(self, parameters: Parameters) -> PodIdentityAssociation:
        """The association that a request names.

        Raises:
            AwsFault: The cluster or the association does not exist.
        """
        cluster, id_ = require_cluster(self._store, parameters["clusterName"]), parameters["associationId"]
        association = self._store.pod_identity_associations.get(id_)
        if association is None or association.cluster != cluster.id:
            text = f"Association with ID {id_} not found in cluster {cluster.id}"
            raise AwsFault("ResourceNotFoundException", text, 404)
        return association

    async def _answer(self, association: PodIdentityAssociation) -> Answer:
        members = {
            "clusterName": association.cluster,
            "namespace": association.namespace,
            "serviceAccount": association.service_account,
            "roleArn": association.role,
            "associationArn": association_arn(self._world.region, association),
            "associationId": association.id,
            "tags": dict(association.tags),
            "createdAt": to_datetime(association.created),
            "modifiedAt": to_datetime(association.modified),
            "ownerArn": association.owner or None,
            "disableSessionTags": not association.has_session_tags,
            "policy": association.policy or None,
        }
        return await self._world.acknowledge({"association": members})


def new_association_id() -> str:
    """A new id of an association."""
    return "a-" + "".join(secrets.choice(_ALPHABET) for _ in range(17))


def _refuse_target_role(parameters: Parameters) -> None:
    """Refuse a chain of two roles.

    Raises:
        AwsFault: The request has a target role.
    """
    if parameters.get("targetRoleArn"):
        raise _invalid("targetRoleArn is not emulated: leave it out, and give the role of the pods as roleArn")


def _invalid(text: str) -> AwsFault:
    return AwsFault("InvalidParameterException", text)
