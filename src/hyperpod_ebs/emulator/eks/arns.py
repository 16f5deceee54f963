"""The ARNs of EKS's resources.

Source: Service Authorization Reference, "Resource types defined by Amazon Elastic Kubernetes Service".
"""

from hyperpod_ebs.emulator.eks_records import AccessEntry, Addon, PodIdentityAssociation
from hyperpod_ebs.emulator.state.region import Region


def cluster_arn(region: Region, name: str) -> str:
    """The ARN of the cluster with this name."""
    return region.arn("eks", f"cluster/{name}")


def association_arn(region: Region, association: PodIdentityAssociation) -> str:
    """The ARN of a pod identity association."""
    return region.arn("eks", f"podidentityassociation/{association.cluster}/{association.id}")


def entry_arn(region: Region, entry: AccessEntry) -> str:
    """The ARN of an access entry, which contains the kind, account and name of its principal."""
    account, kind, name = principal_parts(entry.principal)
    return region.arn("eks", f"access-entry/{entry.cluster}/{kind}/{account}/{name}/{entry.unique_id}")


def addon_arn(region: Region, addon: Addon) -> str:
    """The ARN of an add-on."""
    return region.arn("eks", f"addon/{addon.cluster}/{addon.name}/{addon.unique_id}")


def policy_arn(partition: str, name: str) -> str:
    """The ARN of an access policy, which has neither region nor account."""
    return f"arn:{partition}:eks::aws:cluster-access-policy/{name}"


def principal_parts(arn: str) -> tuple[str, str, str]:
    """The account, kind and name of a user or role, without its path: 123456789012, role, node."""
    _, _, _, _, account, resource = arn.split(":", 5)
    return account, resource.partition("/")[0], resource.rpartition("/")[2]
