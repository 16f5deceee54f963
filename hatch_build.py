"""Cut botocore's service models down to the operations the driver calls, when the package is built.

A process that loads the whole ec2 and sagemaker models pays for some thousand
operations with its memory and its start-up time. The cut ones lie in botocore's own
data layout, so that putting their directory first on a loader's search path is all
it takes; what is not there (endpoint rules, partitions) still comes from botocore.
They are made from the botocore that is installed, never committed.
"""

import json
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from botocore.loaders import Loader
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

AWS = Path("src/hyperpod_ebs/driver/aws")


class CutModels(BuildHookInterface):  # type: ignore[type-arg] # hatchling's own configuration type is not exported
    """Writes the models before a wheel, or an editable install, is put together."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 - hatchling's signature
        """Write one model for each service called."""
        aws = Path(self.root) / AWS
        for service, operations in runpy.run_path(str(aws / "operations.py"))["CALLED"].items():
            write(aws / "models", service, operations)


def write(models: Path, service: str, operations: frozenset[str]) -> None:
    """Write the model of `service`, with these operations alone, into the directory `models`."""
    loader = Loader()
    version = loader.determine_latest_version(service, "service-2")
    path = models / service / version / "service-2.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(cut(loader.load_service_model(service, "service-2", version), operations)))


def cut(model: dict[str, Any], operations: frozenset[str]) -> dict[str, Any]:
    """`model` with these operations, the shapes that they reach, and no documentation.

    Raises:
        KeyError: The service has no such operation.
    """
    kept = {name: model["operations"][name] for name in sorted(operations)}
    shapes = dict(sorted(reached(model["shapes"], kept)))
    parts = {name: part for name, part in model.items() if name not in {"operations", "shapes", "documentation"}}
    return {**parts, "operations": undocumented(kept), "shapes": undocumented(shapes)}


def reached(shapes: dict[str, Any], start: Any) -> Iterator[tuple[str, Any]]:
    """Each shape that `start` names, directly or through other shapes."""
    found = set()
    ahead = list(named(start))
    while ahead:
        name = ahead.pop()
        if name not in found:
            found.add(name)
            ahead.extend(named(shapes[name]))
            yield name, shapes[name]


def named(part: Any) -> Iterator[str]:
    """The shapes that a part of a model refers to."""
    if isinstance(part, dict):
        if isinstance(part.get("shape"), str):
            yield part["shape"]
        part = list(part.values())
    if isinstance(part, list):
        for inner in part:
            yield from named(inner)


def undocumented(part: Any) -> Any:
    """`part` without the texts; a member that is called documentation is kept."""
    if isinstance(part, dict):
        return {
            name: undocumented(inner)
            for name, inner in part.items()
            if not (name == "documentation" and isinstance(inner, str))
        }
    if isinstance(part, list):
        return [undocumented(inner) for inner in part]
    return part
