"""Constraints on the chart's values beyond what their defaults and comments say."""

from typing import Any, Final

Schema = dict[str, Any]  # JSON

FREE: Final = frozenset(
    {
        # Kubernetes' own objects; the API server checks them.
        "affinity",
        "containerSecurityContext",
        "dnsConfig",
        "probeDirVolume",
        "resources",
        "securityContext",
        "socketDirVolume",
        "updateStrategy",
        "sidecars.nodeDriverRegistrar.livenessProbe",
        # Upstream's; the chart reads only `enabled`.
        "sidecars.metadataLabeler",
        "sidecars.volumemodifier",
    }
)
"""Names and paths whose contents the schema does not check."""

STRING_MAPS: Final = frozenset(
    {
        "annotations",
        "customLabels",
        "daemonSetAnnotations",
        "deploymentAnnotations",
        "labels",
        "nodeSelector",
        "podAnnotations",
        "podLabels",
    }
)
"""Maps from strings to strings."""

_STRING: Final[Schema] = {"type": "string"}
_PORT: Final[Schema] = {"type": "integer", "minimum": 1, "maximum": 65535}

ITEMS: Final[dict[str, Schema]] = {
    "additionalArgs": _STRING,
    "egressPorts": _PORT,
    "imagePullSecrets": _STRING,
}
"""Schemas of list items by the list's name; the items of other lists are objects."""

_COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
_AMOUNT: Final[Schema] = {"type": ["integer", "string", "null"]}
_LEVEL: Final[Schema] = {"type": "integer", "minimum": 0, "maximum": 10}
_DURATION: Final[Schema] = {"type": ["string", "null"], "pattern": "^([0-9]+([.][0-9]*)?(ns|us|µs|ms|s|m|h))*$"}
"""A Go duration: 1.5m, 1h30m."""
_NAME: Final[Schema] = {"type": "string", "minLength": 1}
_PULL: Final = ("Always", "IfNotPresent", "Never")
_MAP: Final[Schema] = {"type": ["object", "null"], "additionalProperties": _STRING}
_PARAMETERS: Final[Schema] = {
    "type": ["object", "null"],
    "additionalProperties": {"type": ["string", "number", "boolean"]},
}


def _class(required: list[str], **more: Schema) -> Schema:
    return {
        "type": ["array", "null"],
        "items": {
            "type": "object",
            "additionalProperties": False,
            "required": required,
            "properties": {
                "name": _NAME,
                "annotations": _MAP,
                "labels": _MAP,
                "parameters": _PARAMETERS,
                **more,
            },
        },
    }


_DELETION: Final = ("Delete", "Retain")
_DRIVER: Final[Schema] = {"enum": ["ebs.csi.aws.com", None]}
"""The driver's name, which a class copied from a manifest has; the chart writes it in any case."""

BY_PATH: Final[dict[str, Schema]] = {
    "hyperpod.clusterArn": {
        "type": ["string", "null"],
        "pattern": "^(arn:aws[a-z-]*:sagemaker:[a-z0-9-]+:[0-9]{12}:cluster/[a-z0-9]{12})?$",
    },
    "hyperpod.account": {"type": ["string", "null"], "pattern": "^([0-9]{12})?$"},
    "hyperpod.partition": {"type": ["string", "null"], "pattern": "^(aws[a-z-]*)?$"},
    "hyperpod.role.arn": {"type": ["string", "null"], "pattern": "^(arn:aws[a-z-]*:iam::[0-9]{12}:role/.+)?$"},
    "hyperpod.role.through": {"enum": ["irsa", "podIdentity"]},
    "embeddedCloud.endpoint": {"type": ["string", "null"], "pattern": "^(https?://[^/]+/?)?$"},
    "image.tag": {"type": ["string", "null"]},
    "image.pullPolicy": {"enum": _PULL},
    "awsAccessSecret.name": _NAME,
    "awsAccessSecret.keyId": _NAME,
    "awsAccessSecret.accessKey": _NAME,
    "controller.serviceAccount.name": _NAME,
    "node.serviceAccount.name": _NAME,
    "controller.httpEndpoint": {"type": ["string", "null"], "pattern": "^(.*:[0-9]{1,5})?$"},
    # EKS API reference, CreateCluster, name. An ARN would become the name in the tags of all volumes.
    "hyperpod.eksClusterName": {"type": ["string", "null"], "pattern": "^([0-9A-Za-z][0-9A-Za-z_-]{0,99})?$"},
    # EC2 allows 128 characters in a tag's key, here kubernetes.io/cluster/<id>.
    "controller.k8sTagClusterId": {"type": ["string", "null"], "maxLength": 106},
    "controller.extraVolumeTags": {
        "type": ["object", "null"],
        "propertyNames": {"minLength": 1, "maxLength": 128},
        "additionalProperties": {"type": "string", "maxLength": 256},
    },
    "controller.podDisruptionBudget.maxUnavailable": _AMOUNT,
    "controller.podDisruptionBudget.minAvailable": _AMOUNT,
    "controller.podDisruptionBudget.unhealthyPodEvictionPolicy": {"enum": ["AlwaysAllow", "IfHealthyBudget", "", None]},
    "node.reservedVolumeAttachments": {"type": ["integer", "null"], "minimum": -1},
    "node.volumeAttachLimit": {"type": ["integer", "null"], "minimum": 0},
    "node.kubeletPath": {"type": "string", "pattern": "^/"},
    "sidecars.nodeDriverRegistrar.healthPort": {"type": ["integer", "null"], "minimum": 0, "maximum": 65535},
    "sidecars.metadataLabeler": {"type": "object", "properties": {"enabled": {"type": "boolean"}}},
    "additionalDaemonSets": {
        "type": ["object", "null"],
        "propertyNames": {"pattern": "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"},
        "additionalProperties": {"anyOf": [{"$ref": "#/definitions/additionalDaemonSet"}, {"type": "null"}]},
    },
    "storageClasses": _class(
        ["name"],
        mountOptions={"type": ["array", "null"], "items": _STRING},
        volumeBindingMode={"enum": ["WaitForFirstConsumer", "Immediate", None]},
        reclaimPolicy={"enum": [*_DELETION, None]},
        allowVolumeExpansion={"type": ["boolean", "null"]},
        allowedTopologies={"type": ["array", "null"], "items": {"type": "object"}},
        provisioner=_DRIVER,
    ),
    "volumeSnapshotClasses": _class(["name", "deletionPolicy"], deletionPolicy={"enum": _DELETION}, driver=_DRIVER),
    "volumeAttributesClasses": _class(["name", "parameters"], driverName=_DRIVER),
    "nodeAllocatableUpdatePeriodSeconds": {"anyOf": [{"enum": [-1, 0, None]}, {"type": "integer", "minimum": 10}]},
}
"""Schemas by a value's path."""

BY_NAME: Final[dict[str, Schema]] = {
    "logLevel": _LEVEL,
    "loggingFormat": {"enum": ["text", "json"]},
    "pullPolicy": {"enum": [*_PULL, None]},
    "replicaCount": {"type": "integer", "minimum": 1},
    "revisionHistoryLimit": _COUNT,
    "terminationGracePeriodSeconds": _COUNT,
    "leaseDuration": _DURATION,
    "renewDeadline": _DURATION,
    "retryPeriod": _DURATION,
    "repository": _NAME,
    "tag": _NAME,
    "disableMutation": {"type": ["boolean", "null"]},
}
"""Schemas by a value's name, in any group."""
