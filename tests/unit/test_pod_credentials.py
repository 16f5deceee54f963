"""The patch with which the local cluster's webhook gives pods AWS credentials.

Sources: EKS User Guide, "Configure Pods to use a Kubernetes service account" and "Understand how
EKS Pod Identity works"; aws/amazon-eks-pod-identity-webhook, README.md and pkg/handler/handler.go.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from localcluster.kubernetes.pod_credentials import pod_patch

ROLE: Final = "arn:aws:iam::123456789012:role/hyperpod-ebs"
IRSA: Final = {"eks.amazonaws.com/role-arn": ROLE}

IRSA_VARIABLES: Final = {
    "AWS_STS_REGIONAL_ENDPOINTS": "regional",
    "AWS_DEFAULT_REGION": "us-west-2",
    "AWS_REGION": "us-west-2",
    "AWS_ROLE_ARN": ROLE,
    "AWS_WEB_IDENTITY_TOKEN_FILE": "/var/run/secrets/eks.amazonaws.com/serviceaccount/token",
}
POD_IDENTITY_VARIABLES: Final = {
    "AWS_STS_REGIONAL_ENDPOINTS": "regional",
    "AWS_DEFAULT_REGION": "us-west-2",
    "AWS_REGION": "us-west-2",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://169.254.170.23/v1/credentials",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": (
        "/var/run/secrets/pods.eks.amazonaws.com/serviceaccount/eks-pod-identity-token"
    ),
}

Pod = Mapping[str, Any]  # JSON


def pod(*containers: Mapping[str, Any], annotations: Mapping[str, str] | None = None, **spec: Any) -> Pod:
    """A pod with these containers; with one called `app` if there are none."""
    return {"metadata": {"annotations": annotations or {}}, "spec": {"containers": containers or [app()], **spec}}


def app(name: str = "app", **fields: Any) -> Mapping[str, Any]:
    """A container."""
    return {"name": name, "image": "app:1", **fields}


def apply_patch(original: Pod, account: Mapping[str, str], *, has_association: bool = False) -> Any:  # JSON
    """The pod's spec after the patch, whose operations all are `add` (RFC 6902, section 4.1)."""
    spec = dict(original["spec"])
    for operation in pod_patch(original, account, has_association=has_association, region="us-west-2"):
        assert operation["op"] == "add"
        _, top, member, *index = operation["path"].split("/")
        assert top == "spec"
        assert index in ([], ["0"])
        spec[member] = [operation["value"], *spec[member]] if index else operation["value"]
    return spec


def variables(container: Mapping[str, Any]) -> Mapping[str, str]:
    """A container's environment variables."""
    return {variable["name"]: variable["value"] for variable in container.get("env", [])}


def token(spec: Mapping[str, Any], volume: str) -> Mapping[str, Any]:
    """The projected token of a volume of the pod."""
    (found,) = (each for each in spec["volumes"] if each["name"] == volume)
    (source,) = found["projected"]["sources"]
    projected: Mapping[str, Any] = source["serviceAccountToken"]
    return projected


def names(items: Sequence[Mapping[str, Any]]) -> list[str]:
    return [item["name"] for item in items]


def test_a_pod_whose_service_account_has_no_role_is_left_alone() -> None:
    assert pod_patch(pod(), {}, has_association=False, region="us-west-2") == []


def test_a_role_annotation_adds_the_variables_and_the_token_of_irsa() -> None:
    spec = apply_patch(pod(), IRSA)

    (container,) = spec["containers"]
    assert variables(container) == IRSA_VARIABLES
    assert container["volumeMounts"] == [
        {
            "name": "aws-iam-token",
            "mountPath": "/var/run/secrets/eks.amazonaws.com/serviceaccount",
            "readOnly": True,
        }
    ]
    assert container["image"] == "app:1"
    expected = {"audience": "sts.amazonaws.com", "expirationSeconds": 86400, "path": "token"}
    assert token(spec, "aws-iam-token") == expected


def test_an_association_adds_the_variables_and_the_token_of_pod_identity_even_if_there_is_a_role_annotation() -> None:
    spec = apply_patch(pod(), IRSA, has_association=True)

    (container,) = spec["containers"]
    assert variables(container) == POD_IDENTITY_VARIABLES
    assert names(spec["volumes"]) == names(container["volumeMounts"]) == ["eks-pod-identity-token"]
    assert container["volumeMounts"][0]["mountPath"] == "/var/run/secrets/pods.eks.amazonaws.com/serviceaccount"
    expected = {"audience": "pods.eks.amazonaws.com", "expirationSeconds": 86400, "path": "eks-pod-identity-token"}
    assert token(spec, "eks-pod-identity-token") == expected


def test_the_service_accounts_annotations_change_the_audience_the_expiration_and_the_sts_endpoints() -> None:
    account = IRSA | {
        "eks.amazonaws.com/audience": "mine",
        "eks.amazonaws.com/token-expiration": "7200",
        "eks.amazonaws.com/sts-regional-endpoints": "false",
    }

    spec = apply_patch(pod(), account)

    assert token(spec, "aws-iam-token") == {"audience": "mine", "expirationSeconds": 7200, "path": "token"}
    assert "AWS_STS_REGIONAL_ENDPOINTS" not in variables(spec["containers"][0])


def test_the_pods_own_expiration_wins_over_the_service_accounts_and_is_an_hour_at_least() -> None:
    account = IRSA | {"eks.amazonaws.com/token-expiration": "7200"}

    for given, expiration in {"4000": 4000, "60": 3600, "soon": 7200}.items():
        spec = apply_patch(pod(annotations={"eks.amazonaws.com/token-expiration": given}), account)

        assert token(spec, "aws-iam-token")["expirationSeconds"] == expiration


def test_init_containers_are_patched_and_skipped_containers_are_not() -> None:
    skip = {"eks.amazonaws.com/skip-containers": "sidecar,other"}

    spec = apply_patch(pod(app(), app("sidecar"), initContainers=[app("first")], annotations=skip), IRSA)

    assert variables(spec["initContainers"][0]) == variables(spec["containers"][0]) == IRSA_VARIABLES
    assert spec["containers"][1] == app("sidecar")


def test_a_container_keeps_the_variables_that_it_sets_itself() -> None:
    """One variable of a pair keeps the other from being added."""
    own = [{"name": "AWS_REGION", "value": "eu-west-1"}, {"name": "AWS_ROLE_ARN", "value": "mine"}]

    spec = apply_patch(pod(app(env=own)), IRSA)

    assert variables(spec["containers"][0]) == {
        "AWS_REGION": "eu-west-1",
        "AWS_ROLE_ARN": "mine",
        "AWS_STS_REGIONAL_ENDPOINTS": "regional",
    }


def test_a_pod_keeps_its_volumes_and_its_own_volume_of_the_tokens_name() -> None:
    mount = {"name": "aws-iam-token", "mountPath": "/mine"}
    data = {"name": "data", "emptyDir": {}}

    added = apply_patch(pod(volumes=[data]), IRSA)
    kept = apply_patch(pod(app(volumeMounts=[mount]), volumes=[{"name": "aws-iam-token", "emptyDir": {}}]), IRSA)

    assert names(added["volumes"]) == ["aws-iam-token", "data"]
    assert kept["volumes"] == [{"name": "aws-iam-token", "emptyDir": {}}]
    assert kept["containers"][0]["volumeMounts"] == [mount]
