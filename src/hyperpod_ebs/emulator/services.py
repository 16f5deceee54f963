"""The AWS services of one emulator."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hyperpod_ebs.emulator.call_log import CallLog
from hyperpod_ebs.emulator.cloudtrail.lookup_events import LookupEvents
from hyperpod_ebs.emulator.cloudtrail.needs import CloudTrailNeeds
from hyperpod_ebs.emulator.ec2.default_encryption import DefaultEncryption
from hyperpod_ebs.emulator.ec2.describe_instances import DescribeInstances
from hyperpod_ebs.emulator.ec2.describe_snapshots import DescribeSnapshots
from hyperpod_ebs.emulator.ec2.describe_status import DescribeStatus
from hyperpod_ebs.emulator.ec2.describe_tags import DescribeTags
from hyperpod_ebs.emulator.ec2.describe_volumes import DescribeVolumes
from hyperpod_ebs.emulator.ec2.instance_types import InstanceTypes
from hyperpod_ebs.emulator.ec2.instances import Instances
from hyperpod_ebs.emulator.ec2.launch_keys import LaunchKeys
from hyperpod_ebs.emulator.ec2.metadata_options import MetadataOptions
from hyperpod_ebs.emulator.ec2.modifications import Modifications, Rate
from hyperpod_ebs.emulator.ec2.needs import Ec2Needs
from hyperpod_ebs.emulator.ec2.regions import Regions
from hyperpod_ebs.emulator.ec2.run_instances import RunInstances
from hyperpod_ebs.emulator.ec2.snapshot_attributes import SnapshotAttributes
from hyperpod_ebs.emulator.ec2.snapshot_copies import SnapshotCopies
from hyperpod_ebs.emulator.ec2.snapshots import SnapshotRate, Snapshots
from hyperpod_ebs.emulator.ec2.tagging import Tagging
from hyperpod_ebs.emulator.ec2.volume_attachments import VolumeAttachments
from hyperpod_ebs.emulator.ec2.volumes import Volumes
from hyperpod_ebs.emulator.ec2.zones import Zones
from hyperpod_ebs.emulator.eks.needs import EksAuthNeeds, EksNeeds
from hyperpod_ebs.emulator.eks.pod_credentials import POD_SECONDS
from hyperpod_ebs.emulator.eks.service import eks_services
from hyperpod_ebs.emulator.http.dispatch import Service
from hyperpod_ebs.emulator.iam_api.service import create_iam
from hyperpod_ebs.emulator.identity.authorizer import AccessControl, Authorizer, Needs
from hyperpod_ebs.emulator.identity.identities import Identities
from hyperpod_ebs.emulator.identity.issuer_keys import ClusterIssuerKeys
from hyperpod_ebs.emulator.identity.sessions import Sessions
from hyperpod_ebs.emulator.kms.service import create_kms
from hyperpod_ebs.emulator.nodes.attachments import Attachments
from hyperpod_ebs.emulator.nodes.instance_credentials import InstanceCredentials
from hyperpod_ebs.emulator.nodes.machines import Machines
from hyperpod_ebs.emulator.sagemaker.cluster_events import ClusterEvents
from hyperpod_ebs.emulator.sagemaker.cluster_lists import ClusterLists
from hyperpod_ebs.emulator.sagemaker.cluster_updates import ClusterUpdates
from hyperpod_ebs.emulator.sagemaker.clusters import Clusters
from hyperpod_ebs.emulator.sagemaker.needs import SageMakerNeeds
from hyperpod_ebs.emulator.sagemaker.node_batches import NodeBatches
from hyperpod_ebs.emulator.sagemaker.node_storage import NodeStorage
from hyperpod_ebs.emulator.sagemaker.node_volumes import NodeVolumes
from hyperpod_ebs.emulator.sagemaker.tags import ClusterTags
from hyperpod_ebs.emulator.state.world import World
from hyperpod_ebs.emulator.sts.service import create_sts


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsServices:
    """The services, and the gate in front of them."""

    objects: Mapping[str, Sequence[Service]]
    """The objects that serve each service, by signing name."""

    access: AccessControl

    instance_credentials: InstanceCredentials
    """The credentials of the machines, which their metadata serves."""


def create_services(  # noqa: PLR0913 - the settings of the services; two have defaults
    world: World,
    *,
    rate: Rate,
    enforces: bool,
    call_log: CallLog,
    snapshot_rate: SnapshotRate = "one-in-15-seconds",
    pod_seconds: int = POD_SECONDS,
) -> AwsServices:
    """Create the services.

    Args:
        world: The state of the account.
        rate: How often a volume may be modified.
        snapshot_rate: How often a volume's snapshot may be taken.
        enforces: Whether IAM policies decide what callers may do.
        call_log: The calls that CloudTrail shows.
        pod_seconds: How long the credentials last that EKS Pod Identity gives a pod.
    """
    identities = Identities(world.store, world.region)
    authorizer = Authorizer(identities, world.region, enforces=enforces)
    iam = create_iam(world, identities, authorizer)
    sessions = Sessions(world.store)
    sts = create_sts(world, identities, authorizer, sessions, ClusterIssuerKeys(world.store))
    kms = create_kms(world, authorizer)
    needs: Mapping[str, Needs] = {
        "cloudtrail": CloudTrailNeeds(),
        "ec2": Ec2Needs(world),
        "sagemaker": SageMakerNeeds(world),
        "eks": EksNeeds(world),
        "eks-auth": EksAuthNeeds(world),
        "iam": iam.needs,
        "kms": kms.needs,
        "sts": sts.needs,
    }
    attachments = Attachments(world, kms.volume_keys)
    machines = Machines(world, attachments, kms.volume_keys)
    clusters = Clusters(world, machines, NodeStorage(machines, kms.cluster_keys))
    objects: Mapping[str, Sequence[Service]] = {
        "cloudtrail": [LookupEvents(call_log, world.region)],
        "ec2": [
            Volumes(world, kms.volume_keys),
            DefaultEncryption(world, kms.volume_keys),
            DescribeVolumes(world),
            VolumeAttachments(world, attachments),
            Modifications(world, rate=rate),
            Snapshots(world, rate=snapshot_rate),
            DescribeSnapshots(world),
            RunInstances(world, machines, kms.volume_keys),
            Instances(world, machines, LaunchKeys(world, kms.volume_keys)),
            DescribeInstances(world),
            InstanceTypes(),
            Zones(world),
            Regions(world),
            Tagging(world),
            DescribeTags(world),
            DescribeStatus(world),
            MetadataOptions(world),
            SnapshotAttributes(world),
            SnapshotCopies(world, kms.volume_keys),
        ],
        "sagemaker": [
            clusters,
            ClusterLists(world, clusters),
            ClusterTags(world, clusters),
            ClusterEvents(world, clusters),
            ClusterUpdates(world, clusters, machines),
            NodeBatches(world, clusters, machines),
            NodeVolumes(world, clusters, attachments, authorizer, SageMakerNeeds(world)),
        ],
        **eks_services(world, identities, authorizer, sessions, pod_seconds=pod_seconds),
        "iam": iam.objects,
        "kms": kms.objects,
        "sts": sts.objects,
    }
    return AwsServices(
        objects=objects,
        access=AccessControl(identities, authorizer, world.region, needs),
        instance_credentials=InstanceCredentials(world, identities, authorizer, sessions),
    )
