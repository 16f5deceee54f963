"""What calls of EKS and EKS Auth need: actions, resources and condition keys.

Sources: Service Authorization Reference, "Actions, resources, and condition keys for Amazon
Elastic Kubernetes Service" and "... for Amazon EKS Auth"; EKS User Guide, "Assign an IAM role
to a Kubernetes service account" for the permissions on the role.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from hyperpod_ebs.emulator.eks.arns import addon_arn, association_arn, cluster_arn, entry_arn, principal_parts
from hyperpod_ebs.emulator.eks.pod_roles import SERVICE
from hyperpod_ebs.emulator.eks.tagging import find_resource
from hyperpod_ebs.emulator.identity.authorizer import Need
from hyperpod_ebs.emulator.identity.pass_role import pass_role_need
from hyperpod_ebs.emulator.identity.tag_values import request_tags, resource_tags
from hyperpod_ebs.emulator.state.world import World
from hyperpod_ebs.emulator.wire.operations import Parameters

Values = dict[str, str | Sequence[str]]

_ON_ASSOCIATION: Final = ("Describe", "Update", "Delete")
_ON_ENTRY: Final = (
    *("DescribeAccessEntry", "UpdateAccessEntry", "DeleteAccessEntry"),
    *("AssociateAccessPolicy", "DisassociateAccessPolicy", "ListAssociatedAccessPolicies"),
)


class EksNeeds:
    """Lists what calls of EKS need."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._store = world.store
        self._region = world.region
        on_association = {f"{verb}PodIdentityAssociation": self._on_association for verb in _ON_ASSOCIATION}
        self._by_operation: Final[Mapping[str, Callable[[str, Parameters], Need]]] = {
            **dict.fromkeys(_ON_ENTRY, self._on_entry),
            **{f"{verb}Addon": self._on_addon for verb in ("Describe", "Update", "Delete")},
            **on_association,
            **dict.fromkeys(("TagResource", "UntagResource", "ListTagsForResource"), self._on_tagged),
        }

    def needs(self, operation: str, parameters: Parameters) -> Sequence[Need]:
        """What a call needs; an operation without an entry is on a cluster, or on nothing."""
        own = self._by_operation.get(operation, self._on_cluster)(operation, parameters)
        return [own, *self._on_associations(operation, parameters), *self._on_roles(parameters)]

    def _on_cluster(self, operation: str, parameters: Parameters) -> Need:
        if not (name := parameters.get("name") or parameters.get("clusterName")):
            return Need(action=f"eks:{operation}")
        cluster = self._store.eks_clusters.get(name)
        context: Values = {**resource_tags(cluster.tags if cluster else {}), **_request_values(operation, parameters)}
        return Need(action=f"eks:{operation}", resource=cluster_arn(self._region, name), context=context)

    def _on_association(self, operation: str, parameters: Parameters) -> Need:
        name, id_ = parameters.get("clusterName", "*"), parameters.get("associationId", "*")
        association = self._store.pod_identity_associations.get(id_)
        if association is None or association.cluster != name:
            resource = self._region.arn("eks", f"podidentityassociation/{name}/{id_}")
            return Need(action=f"eks:{operation}", resource=resource)
        resource = association_arn(self._region, association)
        return Need(action=f"eks:{operation}", resource=resource, context=resource_tags(association.tags))

    def _on_entry(self, operation: str, parameters: Parameters) -> Need:
        name, principal = parameters.get("clusterName", "*"), parameters.get("principalArn", "")
        context = _request_values(operation, parameters)
        if (entry := self._store.access_entries.get(f"{name}/{principal}")) is None:
            resource = self._region.arn("eks", f"access-entry/{name}/{_principal_path(principal)}/*")
            return Need(action=f"eks:{operation}", resource=resource, context=context)
        context.update(resource_tags(entry.tags))
        context.update(
            {
                "eks:accessEntryType": entry.kind,
                "eks:clusterName": entry.cluster,
                "eks:kubernetesGroups": list(entry.groups),
                "eks:principalArn": entry.principal,
                "eks:username": entry.username,
            }
        )
        if operation == "DisassociateAccessPolicy":
            for policy in entry.policies:
                if policy["arn"] == parameters.get("policyArn"):
                    context.update(_scope_values(policy["scope"], policy["namespaces"]))
        return Need(action=f"eks:{operation}", resource=entry_arn(self._region, entry), context=context)

    def _on_addon(self, operation: str, parameters: Parameters) -> Need:
        name, addon = parameters.get("clusterName", "*"), parameters.get("addonName", "*")
        if (record := self._store.addons.get(f"{name}/{addon}")) is None:
            return Need(action=f"eks:{operation}", resource=self._region.arn("eks", f"addon/{name}/{addon}/*"))
        resource = addon_arn(self._region, record)
        return Need(action=f"eks:{operation}", resource=resource, context=resource_tags(record.tags))

    def _on_associations(self, operation: str, parameters: Parameters) -> Sequence[Need]:
        """The associations that an add-on is created with, or that are deleted with it."""
        name = parameters.get("clusterName", "*")
        if operation == "CreateAddon" and parameters.get("podIdentityAssociations"):
            resource = self._region.arn("eks", f"podidentityassociation/{name}/*")
            return [Need(action=f"eks:{operation}", resource=resource, context=_request_values(operation, parameters))]
        if operation != "DeleteAddon" or parameters.get("preserve"):
            return []
        addon = self._store.addons.get(f"{name}/{parameters.get('addonName', '*')}")
        return [
            self._on_association(operation, {"clusterName": name, "associationId": id_})
            for id_ in (addon.associations if addon else ())
        ]

    def _on_tagged(self, operation: str, parameters: Parameters) -> Need:
        arn = parameters.get("resourceArn", "*")
        resource = find_resource(self._store, self._region, arn)
        context: Values = {
            **resource_tags(resource.tags if resource else {}),
            **_request_values(operation, parameters),
        }
        return Need(action=f"eks:{operation}", resource=arn, context=context)

    def _on_roles(self, parameters: Parameters) -> Sequence[Need]:
        """The permissions to hand roles to services: to EKS for a cluster or nodes, or to EKS Pod Identity for pods.

        Only the caller of Pod Identity must also be allowed to read the role.
        """
        role, for_pods = parameters.get("roleArn"), "name" not in parameters
        wanted = parameters.get("podIdentityAssociations", ())
        pod_roles = [each.get("roleArn", "*") for each in wanted] + ([role] if role and for_pods else [])
        needs = [pass_role_need(arn, SERVICE, self._tags_of_role(arn)) for arn in pod_roles]
        needs += [Need(action="iam:GetRole", resource=arn, context=self._role_tags(arn)) for arn in pod_roles]
        if role and not for_pods:
            needs.append(pass_role_need(role, "eks.amazonaws.com", self._tags_of_role(role)))
        for role in (parameters.get("serviceAccountRoleArn"), parameters.get("computeConfig", {}).get("nodeRoleArn")):
            if role:
                needs.append(pass_role_need(role, "eks.amazonaws.com", self._tags_of_role(role)))
        return needs

    def _role_tags(self, arn: str) -> Values:
        tags = self._tags_of_role(arn)
        return {f"{prefix}:ResourceTag/{key}": value for key, value in tags.items() for prefix in ("aws", "iam")}

    def _tags_of_role(self, arn: str) -> Mapping[str, str]:
        role = self._store.roles.get(arn.rpartition("/")[2])
        return role.tags if role else {}


class EksAuthNeeds:
    """Lists what calls of EKS Auth need: the action on the cluster."""

    def __init__(self, world: World) -> None:
        self._world = world

    def needs(self, operation: str, parameters: Parameters) -> Sequence[Need]:
        """What a call needs."""
        name = parameters.get("clusterName", "*")
        cluster = self._world.store.eks_clusters.get(name)
        tags = resource_tags(cluster.tags if cluster else {})
        resource = cluster_arn(self._world.region, name)
        return [Need(action=f"eks-auth:{operation}", resource=resource, context=tags)]


def _request_values(operation: str, parameters: Parameters) -> Values:
    """The condition keys that describe a request's own parameters."""
    values = request_tags(parameters.get("tags", {}), parameters.get("tagKeys", []))
    if scope := parameters.get("accessScope"):
        values.update(_scope_values(scope.get("type", "cluster"), scope.get("namespaces", [])))
    if operation == "CreateAccessEntry":
        values["eks:accessEntryType"] = parameters.get("type", "STANDARD")
        values["eks:kubernetesGroups"] = list(parameters.get("kubernetesGroups", []))
    if operation == "CreateCluster":
        values.update(_cluster_values(parameters))
    texts = {"eks:policyArn": "policyArn", "eks:principalArn": "principalArn", "eks:username": "username"}
    return {**values, **{key: parameters[member] for key, member in texts.items() if parameters.get(member)}}


def _scope_values(kind: object, namespaces: object) -> Values:
    """The condition keys about the scope of an access policy."""
    names = [str(name) for name in namespaces] if isinstance(namespaces, list | tuple) else []
    return {"eks:accessScope": str(kind), "eks:namespaces": names}


def _cluster_values(parameters: Parameters) -> Values:
    """The condition keys of CreateCluster; those of settings that the request leaves to EKS are absent."""
    access, network = parameters.get("accessConfig", {}), parameters.get("resourcesVpcConfig", {})
    found = {
        "eks:blockStorageEnabled": parameters.get("storageConfig", {}).get("blockStorage", {}).get("enabled"),
        "eks:bootstrapClusterCreatorAdminPermissions": access.get("bootstrapClusterCreatorAdminPermissions"),
        "eks:bootstrapSelfManagedAddons": parameters.get("bootstrapSelfManagedAddons"),
        "eks:computeConfigEnabled": parameters.get("computeConfig", {}).get("enabled"),
        "eks:deletionProtection": parameters.get("deletionProtection"),
        "eks:elasticLoadBalancingEnabled": _load_balancing(parameters).get("enabled"),
        "eks:endpointPrivateAccess": network.get("endpointPrivateAccess"),
        "eks:endpointPublicAccess": network.get("endpointPublicAccess"),
        "eks:kubernetesVersion": parameters.get("version"),
        "eks:zonalShiftEnabled": parameters.get("zonalShiftConfig", {}).get("enabled"),
    }
    texts = {
        "eks:authenticationMode": access.get("authenticationMode"),
        "eks:controlPlaneScalingTier": parameters.get("controlPlaneScalingConfig", {}).get("tier"),
        "eks:supportType": parameters.get("upgradePolicy", {}).get("supportType"),
    }
    values: Values = {key: str(value).lower() for key, value in found.items() if value is not None}
    values.update({key: text for key, text in texts.items() if text})
    for setup in parameters.get("logging", {}).get("clusterLogging", []):
        enabled = str(setup.get("enabled", False)).lower()
        values.update({f"eks:loggingType/{kind}": enabled for kind in setup.get("types", [])})
    keys = [each.get("provider", {}).get("keyArn", "") for each in parameters.get("encryptionConfig", [])]
    return {**values, "eks:encryptionConfigProviderKeyArns": keys} if keys else values


def _load_balancing(parameters: Parameters) -> Parameters:
    settings: Parameters = parameters.get("kubernetesNetworkConfig", {}).get("elasticLoadBalancing", {})
    return settings


def _principal_path(arn: str) -> str:
    """The part of an access entry's ARN that names the principal."""
    if arn.count(":") < len(("arn", "partition", "iam", "region", "account")):
        return "*"
    account, kind, name = principal_parts(arn)
    return f"{kind}/{account}/{name}"
