"""The service models of the installed SDK: each operation's input, output and errors."""

import functools
from collections.abc import Mapping

from botocore.loaders import Loader
from botocore.model import ServiceModel, Shape


@functools.cache  # a model is immutable, takes about 0.1 s and 30 MB, and one process may run several emulators
def load(service: str) -> ServiceModel:
    """Load the newest model of `service`, by its name in the SDK; reads files.

    Raises:
        botocore.exceptions.UnknownServiceError: The SDK has no such service.
    """
    return ServiceModel(Loader().load_service_model(service, "service-2"), service)


def error_shapes(model: ServiceModel) -> Mapping[str, Shape]:
    """The errors in the service's model, by their code on the wire."""
    return {shape.error_code: shape for shape in model.error_shapes}  # type: ignore[attr-defined] # the stubs type them as Shape, which lacks it


def error_status(shape: Shape) -> int | None:
    """The HTTP status that the model gives an error, None if it gives none."""
    status: int | None = shape.metadata.get("error", {}).get("httpStatusCode")
    return status
