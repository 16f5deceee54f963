"""Add-ons: the programs that EKS installs in a cluster. The emulator records them and runs none.

Source: EKS User Guide, "Amazon EKS add-ons".
"""

import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from hyperpod_ebs.emulator.eks.arns import addon_arn, association_arn
from hyperpod_ebs.emulator.eks.lookup import check_tags, is_repeated, require_cluster
from hyperpod_ebs.emulator.eks.pages import page
from hyperpod_ebs.emulator.eks.pod_identities import PodIdentities, new_association_id
from hyperpod_ebs.emulator.eks_records import Addon, PodIdentityAssociation
from hyperpod_ebs.emulator.records import EksCluster
from hyperpod_ebs.emulator.state.world import World, now, to_datetime
from hyperpod_ebs.emulator.wire.operations import Answer, AwsFault, Call, Operations, Parameters


@dataclass(frozen=True, slots=True, kw_only=True)
class AddonType:
    """An add-on that can be installed."""

    version: str
    """The default version."""

    namespace: str = "kube-system"


TYPES: Final[Mapping[str, AddonType]] = {
    "aws-ebs-csi-driver": AddonType(version="v1.53.0-eksbuild.1"),
    "coredns": AddonType(version="v1.12.4-eksbuild.1"),
    "eks-pod-identity-agent": AddonType(version="v1.3.9-eksbuild.3"),
    "kube-proxy": AddonType(version="v1.35.0-eksbuild.2"),
    "metrics-server": AddonType(version="v0.8.0-eksbuild.2"),
    "snapshot-controller": AddonType(version="v8.3.0-eksbuild.1"),
    "vpc-cni": AddonType(version="v1.20.4-eksbuild.1"),
}
"""The add-ons by name; AWS has more, and of each many versions."""

_VERSION: Final = re.compile(r"v[0-9]+\.[0-9]+\.[0-9]+-eksbuild\.[0-9]+", re.ASCII)


class Addons:
    """The operations on add-ons."""

    operations = Operations["Addons"]()

    def __init__(self, world: World, identities: PodIdentities) -> None:
        self._world = world
        self._store = world.store
        self._identities = identities
        world.clock.register("addon active", self._set_active)
        world.clock.register("addon gone", self._remove)

    @operations("CreateAddon")
    async def create(self, parameters: Parameters, _: Call) -> Answer:
        """Install an add-on, in status CREATING."""
        cluster, name = self._cluster(parameters), parameters["addonName"]
        existing = self._store.addons.get(f"{cluster.id}/{name}")
        if existing is not None and is_repeated(existing.client_token, parameters):
            return await self._answer(existing)
        if name not in TYPES:
            raise _invalid(f"Addon {name} specified is not supported")
        check_tags(parameters.get("tags", {}))
        addon = Addon(
            cluster=cluster.id,
            name=name,
            unique_id=str(uuid.uuid4()),
            version=_version(parameters, TYPES[name].version),
            role=parameters.get("serviceAccountRoleArn", ""),
            configuration=parameters.get("configurationValues", ""),
            created=(created := now()),
            modified=created,
            client_token=parameters.get("clientRequestToken", ""),
            tags=dict(parameters.get("tags", {})),
        )
        if existing is not None:
            raise AwsFault("ResourceInUseException", "Addon already exists.", 409)
        associations = self._new_associations(addon, parameters)
        for association in associations:
            self._store.pod_identity_associations.put(association)
        addon = self._store.addons.put(replace(addon, associations=tuple(each.id for each in associations)))
        self._world.clock.schedule(_subject(addon), "addon active")
        return await self._answer(addon)

    @operations("DescribeAddon")
    async def describe(self, parameters: Parameters, _: Call) -> Answer:
        """Describe an add-on."""
        return await self._answer(self._find(parameters))

    @operations("ListAddons")
    async def list_names(self, parameters: Parameters, _: Call) -> Answer:
        """List the names of a cluster's add-ons."""
        cluster = self._cluster(parameters)
        names, token = page((addon.name for addon in self._store.addons.where("cluster", cluster.id)), parameters)
        return await self._world.acknowledge({"addons": names, "nextToken": token})

    @operations("UpdateAddon")
    async def update(self, parameters: Parameters, _: Call) -> Answer:
        """Change the version, the role or the configuration of an add-on."""
        old = self._find(parameters)
        if old.state != "ACTIVE":
            raise AwsFault("ResourceInUseException", f"Addon {old.name} is {old.state}, not ACTIVE", 409)
        if "podIdentityAssociations" in parameters:
            text = "podIdentityAssociations of an add-on cannot be changed here: update the association itself"
            raise _invalid(text)
        addon = replace(
            old,
            version=_version(parameters, old.version),
            role=parameters.get("serviceAccountRoleArn", old.role),
            configuration=parameters.get("configurationValues", old.configuration),
            state="UPDATING",
            modified=now(),
        )
        self._store.addons.put(addon)
        self._world.clock.schedule(_subject(addon), "addon active")
        changes = [
            {"type": type_, "value": str(parameters[member])}
            for member, type_ in _CHANGES.items()
            if member in parameters
        ]
        update = {
            "id": str(uuid.uuid4()),
            "status": "InProgress",
            "type": "AddonUpdate",
            "params": changes,
            "createdAt": to_datetime(addon.modified),
            "errors": [],
        }
        return await self._world.acknowledge({"update": update})

    @operations("DeleteAddon")
    async def delete(self, parameters: Parameters, _: Call) -> Answer:
        """Uninstall an add-on with its associations; with `preserve`, only stop managing it and leave these."""
        addon = self._find(parameters)
        for id_ in addon.associations:
            if (association := self._store.pod_identity_associations.get(id_)) is None:
                continue
            if parameters.get("preserve"):
                self._store.pod_identity_associations.put(replace(association, owner=""))
            else:
                self._store.pod_identity_associations.drop(id_)
        addon = self._store.addons.put(replace(addon, state="DELETING", associations=(), modified=now()))
        self._world.clock.schedule(_subject(addon), "addon gone")
        return await self._answer(addon)

    def _new_associations(self, addon: Addon, parameters: Parameters) -> Sequence[PodIdentityAssociation]:
        """The pod identity associations that the request wants for the add-on's service accounts.

        Raises:
            AwsFault: One of them cannot be created.
        """
        associations = [
            PodIdentityAssociation(
                id=new_association_id(),
                cluster=addon.cluster,
                namespace=TYPES[addon.name].namespace,
                service_account=wanted["serviceAccount"],
                role=wanted["roleArn"],
                owner=addon_arn(self._world.region, addon),
                created=addon.created,
                modified=addon.created,
            )
            for wanted in parameters.get("podIdentityAssociations", ())
        ]
        for association in associations:
            self._identities.require_creatable(association)
        if len({each.service_account for each in associations}) < len(associations):
            raise _invalid("podIdentityAssociations must not name a service account twice")
        self._identities.require_space(addon.cluster, len(associations))
        return associations

    async def _set_active(self, subject: str) -> None:
        if addon := self._store.addons.get(subject.removeprefix("addon/")):
            self._store.addons.put(replace(addon, state="ACTIVE"))

    async def _remove(self, subject: str) -> None:
        self._store.addons.drop(subject.removeprefix("addon/"))

    def _cluster(self, parameters: Parameters) -> EksCluster:
        return require_cluster(self._store, parameters["clusterName"])

    def _find(self, parameters: Parameters) -> Addon:
        """The add-on that a request names.

        Raises:
            AwsFault: The cluster or the add-on does not exist.
        """
        cluster, name = self._cluster(parameters), parameters["addonName"]
        if (addon := self._store.addons.get(f"{cluster.id}/{name}")) is None:
            text = f"No addon: {name} found in cluster: {cluster.id}"
            raise AwsFault("ResourceNotFoundException", text, 404)
        return addon

    async def _answer(self, addon: Addon) -> Answer:
        table = self._store.pod_identity_associations
        arns = [association_arn(self._world.region, table[id_]) for id_ in addon.associations if id_ in table]
        members: dict[str, Any] = {  # Any: members of EKS's Addon
            "addonName": addon.name,
            "clusterName": addon.cluster,
            "status": addon.state,
            "addonVersion": addon.version,
            "health": {"issues": []},
            "addonArn": addon_arn(self._world.region, addon),
            "createdAt": to_datetime(addon.created),
            "modifiedAt": to_datetime(addon.modified),
            "serviceAccountRoleArn": addon.role or None,
            "tags": dict(addon.tags),
            "configurationValues": addon.configuration or None,
            "podIdentityAssociations": arns or None,
            "namespaceConfig": {"namespace": TYPES[addon.name].namespace},
        }
        return await self._world.acknowledge({"addon": members})


_CHANGES: Final = {
    "addonVersion": "AddonVersion",
    "serviceAccountRoleArn": "ServiceAccountRoleArn",
    "resolveConflicts": "ResolveConflicts",
    "configurationValues": "ConfigurationValues",
}
"""The types of changes in an Update, by the parameters of UpdateAddon."""


def _version(parameters: Parameters, default: str) -> str:
    """The version that a request wants.

    Raises:
        AwsFault: It is not the version of an add-on.
    """
    version: str = parameters.get("addonVersion") or default
    if not _VERSION.fullmatch(version):
        raise _invalid("Addon version specified is not supported")
    return version


def _subject(addon: Addon) -> str:
    return f"addon/{addon.id}"


def _invalid(text: str) -> AwsFault:
    return AwsFault("InvalidParameterException", text)
