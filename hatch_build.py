"""Cut botocore's service models down to the operations that this package calls, when the package is built.

A process that loads the whole models of EC2 and SageMaker spends memory and start-up time
on about a thousand operations. The cut models have the layout of botocore's data directory.
Put first on a loader's search path, they replace the whole models, and botocore still
provides everything else (endpoint rules, partitions). Its list of the endpoints of all services
is cut down to the called services as well. They are made from the installed
botocore and never committed.
"""

import json
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from botocore.loaders import Loader
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

CALLERS = (Path("src/hyperpod_ebs/driver/aws"), Path("src/hyperpod_ebs/access/aws"))
"""The folders that call AWS: each lists its operations, and gets its own models."""


class CutModels(BuildHookInterface):  # type: ignore[type-arg] # hatchling does not export its configuration type
    """Writes the cut models before a wheel or an editable install is built."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 - hatchling's signature
        """Write the models of each folder that calls AWS."""
        for folder in (Path(self.root) / caller for caller in CALLERS):
            operations = runpy.run_path(str(folder / "operations.py"))["OPERATIONS"]
            prefixes = {write_model(folder / "models", service, operations[service]) for service in operations}
            endpoints = cut_endpoints(Loader().load_data("endpoints"), prefixes)
            (folder / "models" / "endpoints.json").write_text(json.dumps(endpoints))


def write_model(models: Path, service: str, operations: frozenset[str]) -> str:
    """Write the model of `service`, cut down to `operations`, into the directory `models`; return its endpoint prefix.

    The prefix is the service's name in botocore's list of endpoints.
    """
    loader = Loader()
    version = loader.determine_latest_version(service, "service-2")
    path = models / service / version / "service-2.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    model = loader.load_service_model(service, "service-2", version)
    path.write_text(json.dumps(cut_model(model, operations)))
    prefix: str = model["metadata"]["endpointPrefix"]
    return prefix


def cut_endpoints(endpoints: dict[str, Any], prefixes: set[str]) -> dict[str, Any]:
    """The list of endpoints with only the services of these endpoint prefixes: 7 MiB of memory less in each process."""
    partitions = [
        {
            **partition,
            "services": {name: partition["services"][name] for name in sorted(prefixes & partition["services"].keys())},
        }
        for partition in endpoints["partitions"]
    ]
    return {**endpoints, "partitions": partitions}


def cut_model(model: dict[str, Any], operations: frozenset[str]) -> dict[str, Any]:
    """`model` with these operations and the shapes that they use, and without documentation.

    Raises:
        KeyError: The service has no such operation.
    """
    called = {name: model["operations"][name] for name in sorted(operations)}
    shapes = dict(sorted(used_shapes(model["shapes"], called)))
    parts = {name: part for name, part in model.items() if name not in {"operations", "shapes", "documentation"}}
    return {**parts, "operations": without_documentation(called), "shapes": without_documentation(shapes)}


def used_shapes(shapes: dict[str, Any], start: Any) -> Iterator[tuple[str, Any]]:
    """Each shape that `start` refers to, directly or through other shapes."""
    found = set()
    pending = list(shape_names(start))
    while pending:
        name = pending.pop()
        if name not in found:
            found.add(name)
            pending.extend(shape_names(shapes[name]))
            yield name, shapes[name]


def shape_names(part: Any) -> Iterator[str]:
    """The names of the shapes that a part of a model refers to."""
    if isinstance(part, dict):
        if isinstance(part.get("shape"), str):
            yield part["shape"]
        part = list(part.values())
    if isinstance(part, list):
        for inner in part:
            yield from shape_names(inner)


def without_documentation(part: Any) -> Any:
    """`part` without its documentation texts; a structure's own member called "documentation" stays."""
    if isinstance(part, dict):
        return {
            name: without_documentation(inner)
            for name, inner in part.items()
            if not (name == "documentation" and isinstance(inner, str))
        }
    if isinstance(part, list):
        return [without_documentation(inner) for inner in part]
    return part
