"""EKS clusters, which orchestrate HyperPod clusters: their settings, states, issuers and keys, without Kubernetes."""

import re
import secrets
from dataclasses import replace
from typing import Final

from hyperpod_ebs.emulator.eks.access_entries import AccessEntries
from hyperpod_ebs.emulator.eks.arns import cluster_arn
from hyperpod_ebs.emulator.eks.cluster_answers import access_config, cluster_members
from hyperpod_ebs.emulator.eks.cluster_keys import ClusterKeys
from hyperpod_ebs.emulator.eks.key_files import KeyFiles
from hyperpod_ebs.emulator.eks.lookup import check_tags, is_repeated, issuer_of, limit_exceeded, require_cluster
from hyperpod_ebs.emulator.eks.pages import page
from hyperpod_ebs.emulator.eks_records import OidcIssuer
from hyperpod_ebs.emulator.records import EksCluster
from hyperpod_ebs.emulator.state.world import World, now
from hyperpod_ebs.emulator.wire.operations import Answer, AwsFault, Call, Operations, Parameters
from hyperpod_ebs.kit.files import off_loop

VERSION: Final = "1.35"
"""The default Kubernetes version of a cluster."""

MAX_CLUSTERS: Final = 100
"""Clusters of an account and Region (EKS User Guide, "View and manage Amazon EKS and Fargate service quotas")."""

_NETWORK_QUOTAS: Final = {"securityGroupIds": 4, "publicAccessCidrs": 40}
"""The most values of members of resourcesVpcConfig (the same page)."""

_VERSION: Final = re.compile(r"1\.[0-9]{2}", re.ASCII)

_GENERATION: Final = 60.0
"""Maximum seconds to generate keys; it takes about 0.1 s on an idle machine."""

_FIELDS: Final = frozenset({"name", "roleArn", "version", "tags", "clientRequestToken"})
"""The parameters that are not kept in `EksCluster.given`."""


class Clusters:
    """The operations on clusters."""

    operations = Operations["Clusters"]()

    def __init__(self, world: World, entries: AccessEntries) -> None:
        self._world = world
        self._store = world.store
        self._entries = entries
        self._files = KeyFiles(world.state / "eks")
        world.clock.register("eks active", self._set_active)
        world.clock.register("eks gone", self._remove)

    @operations("CreateCluster")
    async def create(self, parameters: Parameters, call: Call) -> Answer:
        """Create a cluster in status CREATING, with an issuer of service account tokens."""
        existing = self._store.eks_clusters.get(parameters["name"])
        if existing is not None and is_repeated(existing.client_token, parameters):
            return await self._answer(existing)
        self._check(parameters)
        keys, url = await self._new_keys()
        self._check(parameters)  # another call may have created it meanwhile
        cluster = self._save(
            EksCluster(
                id=parameters["name"],
                created=now(),
                role=parameters["roleArn"],
                version=parameters.get("version", VERSION),
                subnets=tuple(parameters["resourcesVpcConfig"].get("subnetIds", ())),
                given={member: value for member, value in parameters.items() if member not in _FIELDS},
                client_token=parameters.get("clientRequestToken", ""),
                tags=dict(parameters.get("tags", {})),
            ),
            keys,
            url,
        )
        self._add_creator(cluster, call)
        return await self._answer(cluster)

    @operations("DescribeCluster")
    async def describe(self, parameters: Parameters, _: Call) -> Answer:
        """Describe the cluster with this name."""
        cluster = require_cluster(self._store, parameters["name"])
        if issuer_of(self._store, cluster.id) is None:  # an older version of the emulator created the cluster
            keys, url = await self._new_keys()
            cluster = require_cluster(self._store, cluster.id)
            if issuer_of(self._store, cluster.id) is None and cluster.state != "DELETING":
                cluster = self._save(cluster, keys, url)
        return await self._answer(cluster)

    @operations("ListClusters")
    async def list_names(self, parameters: Parameters, _: Call) -> Answer:
        """List the names of the clusters."""
        names, token = page(self._store.eks_clusters, parameters)
        return await self._world.acknowledge({"clusters": names, "nextToken": token})

    @operations("DeleteCluster")
    async def delete(self, parameters: Parameters, _: Call) -> Answer:
        """Delete a cluster that no HyperPod cluster uses, with everything that belongs to it."""
        cluster = require_cluster(self._store, parameters["name"])
        if cluster.given.get("deletionProtection"):
            text = f"Cannot delete cluster {cluster.id} because deletion protection is enabled"
            raise AwsFault("InvalidRequestException", text)
        arn = cluster_arn(self._world.region, cluster.id)
        if user := next((each for each in self._store.clusters.values() if each.eks == arn), None):
            raise AwsFault("ResourceInUseException", f"Cluster has HyperPod cluster attached: {user.name}", 409)
        cluster = self._store.eks_clusters.put(replace(cluster, state="DELETING"))
        self._world.clock.schedule(_subject(cluster.id), "eks gone")
        return await self._answer(cluster)

    def _check(self, parameters: Parameters) -> None:
        """Check a request to create a cluster.

        Raises:
            AwsFault: The request is invalid, or the name is taken.
        """
        name, version = parameters["name"], parameters.get("version", VERSION)
        if name in self._store.eks_clusters:
            raise AwsFault("ResourceInUseException", f"Cluster already exists with name: {name}", 409)
        if len(self._store.eks_clusters) >= MAX_CLUSTERS:
            raise limit_exceeded("Cluster limit exceeded for account.")
        network = parameters["resourcesVpcConfig"]
        for member, most in _NETWORK_QUOTAS.items():
            if len(network.get(member, ())) > most:
                raise limit_exceeded(f"A cluster can have at most {most} {member}.")
        for subnet in network.get("subnetIds", ()):
            if self._world.region.zone(subnet) is None:
                raise AwsFault("InvalidParameterException", f"The subnet ID '{subnet}' does not exist")
        if not _VERSION.fullmatch(version):
            raise AwsFault("InvalidParameterException", f"unsupported Kubernetes version: {version}")
        check_tags(parameters.get("tags", {}))

    async def _new_keys(self) -> tuple[ClusterKeys, str]:
        """New keys of a cluster, and the URL of the emulator, at which its issuer will be."""
        return await off_loop(ClusterKeys.generate, deadline=_GENERATION), await self._world.endpoint.url()

    def _save(self, cluster: EksCluster, keys: ClusterKeys, url: str) -> EksCluster:
        """Store a cluster with its keys, and let it become active, which also writes the key files."""
        unique_id = secrets.token_hex(16).upper()
        self._store.oidc_issuers.put(
            OidcIssuer(
                id=f"{url}/oidc/{unique_id}",
                cluster=cluster.id,
                key_id=keys.key_id,
                public_key=keys.public_key,
                private_key=keys.private_key,
            )
        )
        self._world.clock.schedule(_subject(cluster.id), "eks active")
        return self._store.eks_clusters.put(
            replace(cluster, unique_id=unique_id, authority=keys.authority, authority_key=keys.authority_key)
        )

    def _add_creator(self, cluster: EksCluster, call: Call) -> None:
        """Make the caller an administrator of the cluster, if access entries are in use and the request wants that."""
        access = access_config(cluster)
        if access["authenticationMode"] != "CONFIG_MAP" and access["bootstrapClusterCreatorAdminPermissions"]:
            self._entries.add_administrator(cluster, call)

    async def _set_active(self, subject: str) -> None:
        if (cluster := self._store.eks_clusters.get(_name(subject))) is None:
            return
        if issuer := issuer_of(self._store, cluster.id):
            await off_loop(self._files.write, cluster, issuer)
        self._store.eks_clusters.put(replace(cluster, state="ACTIVE"))

    async def _remove(self, subject: str) -> None:
        name = _name(subject)
        await off_loop(self._files.delete, name)
        for addon in self._store.addons.where("cluster", name):
            self._world.clock.cancel(f"addon/{addon.id}")
        for table in (self._store.addons, self._store.pod_identity_associations, self._store.access_entries):
            for record in table.where("cluster", name):
                table.drop(record.id)
        for issuer in self._store.oidc_issuers.where("cluster", name):
            self._store.oidc_issuers.drop(issuer.id)
        self._store.eks_clusters.drop(name)

    async def _answer(self, cluster: EksCluster) -> Answer:
        members = cluster_members(self._world.region, cluster, issuer_of(self._store, cluster.id))
        return await self._world.acknowledge({"cluster": members})


def _subject(name: str) -> str:
    return f"eks/{name}"


def _name(subject: str) -> str:
    return subject.removeprefix("eks/")
