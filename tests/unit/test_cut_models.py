"""The service models that ship with the package are the installed botocore's, less what is never called."""

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


def installed(service: str) -> Mapping[str, Any]:
    """The whole model, as botocore has it."""
    model: Mapping[str, Any] = Loader().load_service_model(service, "service-2")
    return model


def shipped(service: str) -> Mapping[str, Any]:
    """The model that was cut from it."""
    version_of_api = Loader().determine_latest_version(service, "service-2")
    model: Mapping[str, Any] = json.loads((MODELS / service / version_of_api / "service-2.json").read_text())
    return model


def without_texts(part: Any) -> Any:  # any part of a model
    """`part` with every text that only people read taken out."""
    match part:
        case dict():
            kept = {key: inner for key, inner in part.items() if key != "documentation" or not isinstance(inner, str)}
            return {key: without_texts(inner) for key, inner in kept.items()}
        case list():
            return [without_texts(inner) for inner in part]
        case _:
            return part


@pytest.mark.parametrize("service", OPERATIONS)
def test_a_cut_model_has_just_the_operations_called(service: str) -> None:
    """Ours: the list has one place."""
    assert shipped(service)["operations"].keys() == OPERATIONS[service]


@pytest.mark.requirement("source.cut-models")
@pytest.mark.parametrize("service", OPERATIONS)
def test_what_is_kept_is_as_the_installed_botocore_has_it(service: str) -> None:
    """AWS: a member that is missing would be dropped from requests and answers without a word."""
    whole = without_texts(installed(service))

    cut = shipped(service)

    assert cut["metadata"] == whole["metadata"]
    assert cut["operations"] == {name: whole["operations"][name] for name in cut["operations"]}
    assert cut["shapes"] == {name: whole["shapes"][name] for name in cut["shapes"]}


@pytest.mark.parametrize("service", OPERATIONS)
def test_every_shape_that_is_named_is_there(service: str) -> None:
    """Botocore resolves shapes late, so that a missing one would show in the middle of a call."""
    model = shipped(service)

    pending = [model["operations"], model["shapes"]]
    named: set[str] = set()
    while pending:
        part = pending.pop()
        named.update({part["shape"]} if isinstance(part, dict) and isinstance(part.get("shape"), str) else ())
        inner = part.values() if isinstance(part, dict) else part
        pending.extend(value for value in inner if isinstance(value, dict | list))

    assert named == model["shapes"].keys()


@pytest.mark.parametrize("service", OPERATIONS)
async def test_a_client_is_made_from_the_cut_model(service: str) -> None:
    """Endpoint rules and partitions still come from botocore's own directory."""
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


def test_a_wheel_is_built_from_the_botocore_that_the_tests_run_with() -> None:
    """Ours: the build's pin and the locked one move together."""
    build = tomllib.loads(PROJECT.read_text())["build-system"]["requires"]

    assert f"botocore=={version('botocore')}" in build
