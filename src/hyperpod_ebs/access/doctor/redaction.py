"""Removal of secrets from what the doctor writes into a bundle.

A bundle leaves the company. So values are kept only where they are known to be harmless: the parameters, annotations,
tags and environment variables that the driver, Kubernetes and AWS define. All other values in these places are removed,
and their names kept. Texts such as logs keep everything but what looks like a secret.
"""

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

from hyperpod_ebs.driver.model import parameters, tags

Json = Any  # any JSON value, as the API server writes it

REMOVED: Final = "(removed)"

_SECRET_NAME: Final = re.compile(
    r"(?i)(secret(?!ref|name|keyref|namespace|s$)|token|password|passwd|credential|private.?key|api.?key|access.?key|"
    r"authorization|signature|ca.?bundle|-data$|cookie)"
)
"""Names of members and flags whose values are secrets."""

_TEXT_PATTERNS: Final[Sequence[tuple[re.Pattern[str], str]]] = (
    (re.compile(r"-----BEGIN [A-Z0-9 ]+-----.*?(-----END [A-Z0-9 ]+-----|\Z)", re.DOTALL), REMOVED),
    (re.compile(r"\beyJ[\w-]{5,}\.[\w-]*\.?[\w-]*"), REMOVED),  # JSON Web Tokens
    (re.compile(r"\b(?:AKIA|ASIA|AROA|AIDA)[A-Z0-9]{12,}\b"), REMOVED),
    (re.compile(r"(?i)\b(bearer|basic|negotiate)\s+[\w.~+/=-]+"), rf"\1 {REMOVED}"),
    (re.compile(r"(\w{1,20}://)[^\s@\"']{1,300}@"), rf"\1{REMOVED}@"),
    (re.compile(r"(\w{1,20}://[^\s?\"'<>\\]{1,300})\?[^\s\"'<>\\]+"), rf"\1?{REMOVED}"),
    (
        re.compile(
            r"(?i)((?:secret|token|password|passwd|credential|private[_-]?key|api[_-]?key|access[_-]?key|authorization|"
            r"signature|cookie)[\w.-]{0,60}[\\\"']{0,4}\s{0,20}[:=]\s{0,20})"
            r"(?:\\?\"(?:[^\"\\]|\\.)*\"?|'[^']*'?|[^\s,;&}\]]+)"
        ),
        rf"\1{REMOVED}",
    ),
    (re.compile(r"(?<![\w/+=.-])(?=[\w/+]*\d)(?=[\w/+]*[a-z])(?=[\w/+]*[A-Z])[A-Za-z0-9/+]{40}(?![\w/+=.-])"), REMOVED),
)
"""What looks like a secret in a text, and what replaces it; the last one is a secret access key.

Repetitions have bounds, because a search must not take the square of the length of a line of megabytes.
"""

_ANNOTATIONS: Final = (
    "eks.amazonaws.com/role-arn",
    "ebs.csi.aws.com/",
    "pv.kubernetes.io/",
    "volume.kubernetes.io/",
    "volume.beta.kubernetes.io/",
    "storageclass.kubernetes.io/",
    "deployment.kubernetes.io/revision",
    "csi.volume.kubernetes.io/nodeid",
)
"""Annotations whose values say how volumes work; an entry that ends with a slash is a prefix."""

_ENVIRONMENT: Final = frozenset(
    {"AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ROLE_ARN", "AWS_STS_REGIONAL_ENDPOINTS", "CSI_ENDPOINT", "CSI_NODE_NAME"}
)
_PARAMETERS: Final = frozenset(
    {
        *(parameter.key.lower() for parameter in parameters.TABLE),
        "csi.storage.k8s.io/fstype",
        "fstype",
        "storage.kubernetes.io/csiprovisioneridentity",
    }
)
_MAPS: Final = frozenset({"parameters", "volumeAttributes", "data", "binaryData", "stringData"})
"""Members with names and values that users choose."""

_DRIVER_CONTAINERS: Final = ("ebs-plugin", "csi-", "liveness-probe", "node-driver-registrar")
_CONTAINERS: Final = frozenset({"containers", "initContainers", "ephemeralContainers"})
_OF_OTHERS: Final = frozenset({"name", "image", "resources", "volumeMounts", "volumeDevices", "securityContext"})
"""What is kept of the containers of other programs."""

_TAGS: Final = (tags.MANAGED, tags.CLUSTER, tags.VOLUME_NAME, tags.SNAPSHOT_NAME, "kubernetes.io/", "eks:")


def redact_text(text: str) -> str:
    """The text without what looks like a secret."""
    for pattern, replacement in _TEXT_PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def redact_object(value: Json) -> Json:
    """A Kubernetes object, or a part of it, without secrets."""
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, list):
        return [redact_object(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.get("kind") == "Secret":
        return {"kind": "Secret", "metadata": {"name": value.get("metadata", {}).get("name", "")}}
    return {key: _redact_member(key, member) for key, member in value.items() if key not in {"managedFields", "images"}}


def redact_tags(given: Mapping[str, str]) -> dict[str, str]:
    """Tags of AWS; of tags that are not the driver's or Kubernetes', only the keys."""
    return {redact_text(key): redact_text(value) if key.startswith(_TAGS) else REMOVED for key, value in given.items()}


def _redact_member(key: str, member: Json) -> Json:  # noqa: PLR0911 - one for each kind of member
    match key, member:
        case "annotations", dict():
            return {name: redact_text(text) if _is_known(name) else REMOVED for name, text in member.items()}
        case "env", list():
            return [_redact_variable(variable) for variable in member]
        case "args" | "command", list():
            return [_redact_argument(str(flag), str(argument)) for flag, argument in pairwise(["", *member])]
        case "httpHeaders", list():
            return [{"name": header.get("name", ""), "value": REMOVED} for header in member]
        case name, dict() if name in _MAPS:
            return {inner: _redact_parameter(inner, value) for inner, value in member.items()}
        case name, list() if name in _CONTAINERS:
            return [_redact_container(container) for container in member]
        case name, str() if _SECRET_NAME.search(name):
            return REMOVED
        case _:
            return redact_object(member)


def _is_known(annotation: str) -> bool:
    return any(annotation == name or (name.endswith("/") and annotation.startswith(name)) for name in _ANNOTATIONS)


def _redact_parameter(name: str, value: Json) -> Json:
    return redact_object(value) if name.lower() in _PARAMETERS else REMOVED


def _redact_variable(variable: Mapping[str, Json]) -> Json:
    if variable.get("name") in _ENVIRONMENT or "value" not in variable:
        return redact_object(dict(variable))
    return {**variable, "value": REMOVED}


def _redact_argument(before: str, argument: str) -> str:
    """An argument, which may be the value of the flag before it."""
    if before.startswith("-") and "=" not in before and _SECRET_NAME.search(before) and not argument.startswith("-"):
        return REMOVED
    name, equals, _ = argument.partition("=")
    if equals and _SECRET_NAME.search(name):
        return f"{name}={REMOVED}"
    return redact_text(argument) if argument.startswith("-") or "=" not in argument else REMOVED


def _redact_container(container: Mapping[str, Json]) -> Json:
    if str(container.get("name", "")).startswith(_DRIVER_CONTAINERS):
        return redact_object(dict(container))
    return {key: redact_object(value) for key, value in container.items() if key in _OF_OTHERS}
