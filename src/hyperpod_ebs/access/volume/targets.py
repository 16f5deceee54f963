"""Find the node that a user means: in a HyperPod cluster, or among the EC2 instances of the account."""

from hyperpod_ebs.access.aws import clusters
from hyperpod_ebs.access.aws.clusters import Cluster
from hyperpod_ebs.access.aws.instances import find_instances_by_name
from hyperpod_ebs.access.aws.session import Aws
from hyperpod_ebs.access.volume.facts import Absent, Target, Unread
from hyperpod_ebs.access.volume.node_names import NodeName, is_private_dns_name, parse_node_name
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.nodes import Ec2Node, HyperPodNode, Node


async def find_target(aws: Aws, name: str, cluster: str | None) -> Target:
    """The node with this name; without the id of a cluster, it is searched for in the clusters of the region.

    Raises:
        InvalidRequest: No node can have this name, or it does not say which cluster is meant.
        NotFound: There is no such cluster.
        Error: AWS does not let the caller find it.
    """
    node = await read_node_name(aws, name)
    if node.cluster or cluster:
        return await _find_in_cluster(aws, node, cluster)
    try:
        names = await clusters.list_cluster_names(aws)
    except errors.Denied as denial:
        if node.is_hyperpod:
            raise errors.InvalidRequest(f"{denial}; or give --cluster with the cluster's ARN") from denial
        return _instance(node)
    for each in names:
        try:
            found = await clusters.describe_cluster(aws, each)
            if len(names) > 1 or not node.is_hyperpod:
                await clusters.describe_node(aws, found, node.instance)
        except errors.NotFound:
            continue
        except errors.Denied:
            if node.is_hyperpod:
                raise
            continue  # the caller may know only EC2
        return _hyperpod(node, found)
    if not node.is_hyperpod:
        return _instance(node)
    where = f"the HyperPod clusters of {aws.region} ({', '.join(names) or 'there are none'})"
    raise errors.NodeNotFound(f"node {name} is in none of {where}; it may have been replaced, or give --region")


async def read_node_name(aws: Aws, name: str) -> NodeName:
    """What the name of a node says, also the private DNS name that an EC2 node has in Kubernetes.

    Raises:
        InvalidRequest: No node can have this name, or several instances have it.
        NodeNotFound: No instance has this private DNS name.
        Error: AWS does not let the caller find it.
    """
    if not is_private_dns_name(name):
        return parse_node_name(name)
    match await find_instances_by_name(aws, name):
        case []:
            raise errors.NodeNotFound(
                f"no EC2 instance in {aws.region} has the private DNS name {name}; give its instance id, or --region"
            )
        case [instance]:
            return NodeName(instance=instance, is_hyperpod=False, cluster="")
        case several:
            raise errors.InvalidRequest(
                f"private DNS name {name} is that of instances {', '.join(several)}: give one of these ids"
            )


async def target_of(aws: Aws, node: Node, resource: str) -> Target:
    """The node that holds a volume, by the resource that EC2 shows."""
    match node:
        case Ec2Node():
            return Target(node=node, cluster_arn="", cluster=None)
        case HyperPodNode():
            arn = resource.removesuffix(f"-{node.instance}")
            return Target(node=node, cluster_arn=arn, cluster=await _describe(aws, arn))


async def _find_in_cluster(aws: Aws, node: NodeName, wanted: str | None) -> Target:
    arn = ""
    if wanted and wanted.startswith("arn:"):
        arn = wanted
    elif wanted:
        arn = (await clusters.find_cluster(aws, wanted)).arn
    if node.cluster and arn and node.cluster != arn.rpartition("/")[2]:
        raise errors.InvalidRequest(
            f"the node's name is one of cluster {node.cluster}, and --cluster is {wanted}: leave out one of them"
        )
    arn = arn or await clusters.cluster_arn(aws, node.cluster)
    instance = HyperPodNode(arn.rpartition("/")[2], node.instance)
    return Target(node=instance, cluster_arn=arn, cluster=await _describe(aws, arn))


async def _describe(aws: Aws, arn: str) -> Cluster | Unread | Absent:
    try:
        return await clusters.describe_cluster(aws, arn)
    except errors.NotFound as error:
        return Absent(str(error))
    except (errors.Denied, errors.Unavailable) as error:
        return Unread(str(error))


def _hyperpod(node: NodeName, cluster: Cluster) -> Target:
    return Target(node=HyperPodNode(cluster.id, node.instance), cluster_arn=cluster.arn, cluster=cluster)


def _instance(node: NodeName) -> Target:
    return Target(node=Ec2Node(node.instance), cluster_arn="", cluster=None)
