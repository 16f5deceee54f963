"""The service models in the package are those of the installed botocore, without what the driver never calls."""

import json
import tomllib
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import pytest
from aiobotocore.session import get_session
from botocore.loaders import Loader

from hyperpod_ebs.driver import aws
from hyperpod_ebs.driver.aws.operations import OPERATIONS

MODELS: Final = Path(aws.__path__[0]) / "models"
PROJECT: Final = Path(__file__).parents[2] / "pyproject.toml"


def whole_model(service: str) -> Mapping[str, Any]:
    """The model in botocore."""
    model: Mapping[str, Any] = Loader().load_service_model(service, "service-2")
    return model


def cut_model(service: str) -> Mapping[str, Any]:
    """The model in the package."""
    version_of_api = Loader().determine_latest_version(service, "service-2")
    model: Mapping[str, Any] = json.loads((MODELS / service / version_of_api / "service-2.json").read_text())
    return model


def without_documentation(part: Any) -> Any:  # any part of a model
    """`part` without its documentation texts."""
    match part:
        case dict():
            kept = {key: inner for key, inner in part.items() if key != "documentation" or not isinstance(inner, str)}
            return {key: without_documentation(inner) for key, inner in kept.items()}
        case list():
            return [without_documentation(inner) for inner in part]
        case _:
            return part


@pytest.mark.parametrize("service", OPERATIONS)
def test_a_cut_model_has_exactly_the_operations_that_the_driver_calls(service: str) -> None:
    assert cut_model(service)["operations"].keys() == OPERATIONS[service]


@pytest.mark.requirement("source.cut-models")
@pytest.mark.parametrize("service", OPERATIONS)
def test_operations_and_shapes_are_the_same_as_in_botocore(service: str) -> None:
    """Botocore silently drops members that a model lacks from requests and answers."""
    whole = without_documentation(whole_model(service))

    cut = cut_model(service)

    assert cut["metadata"] == whole["metadata"]
    assert cut["operations"] == {name: whole["operations"][name] for name in cut["operations"]}
    assert cut["shapes"] == {name: whole["shapes"][name] for name in cut["shapes"]}


@pytest.mark.parametrize("service", OPERATIONS)
def test_every_shape_that_a_model_refers_to_is_in_it(service: str) -> None:
    """Botocore resolves shapes late, so a missing one would fail in the middle of a call."""
    model = cut_model(service)

    pending = [model["operations"], model["shapes"]]
    named: set[str] = set()
    while pending:
        part = pending.pop()
        named.update({part["shape"]} if isinstance(part, dict) and isinstance(part.get("shape"), str) else ())
        inner = part.values() if isinstance(part, dict) else part
        pending.extend(value for value in inner if isinstance(value, dict | list))

    assert named == model["shapes"].keys()


def test_the_list_of_endpoints_has_the_services_that_the_driver_calls_as_botocore_has_them() -> None:
    """Botocore falls back to a service's default endpoint, without an error, if its list lacks the service."""
    whole = Loader().load_data("endpoints")
    cut = json.loads((MODELS / "endpoints.json").read_text())
    prefixes = {whole_model(service)["metadata"]["endpointPrefix"] for service in OPERATIONS}

    assert cut.keys() == whole.keys()
    for ours, botocores in zip(cut["partitions"], whole["partitions"], strict=True):
        services = {name: service for name, service in botocores["services"].items() if name in prefixes}
        assert ours == {**botocores, "services": services}


@pytest.mark.parametrize("service", OPERATIONS)
async def test_a_client_works_with_the_cut_model(service: str) -> None:
    """Endpoint rules and partitions still come from botocore's own data directory."""
    session: Any = get_session()  # its stubs take no service name that is not a literal
    session.get_component("data_loader").search_paths.insert(0, str(MODELS))

    async with session.create_client(
        service,
        region_name="us-west-2",
        aws_access_key_id="id",
        aws_secret_access_key="key",
    ) as client:
        assert set(client.meta.service_model.operation_names) == OPERATIONS[service]
        assert client.meta.endpoint_url.endswith(".amazonaws.com")


def test_a_wheel_is_built_with_the_botocore_of_the_tests() -> None:
    """The pin in pyproject.toml and the one in requirements/ must move together."""
    build = tomllib.loads(PROJECT.read_text())["build-system"]["requires"]

    assert f"botocore=={version('botocore')}" in build
