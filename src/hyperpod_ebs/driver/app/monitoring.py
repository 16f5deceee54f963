"""What a process shows of itself over HTTP: whether it lives, whether all is well, and its metrics.

`/livez` says ok for as long as the event loop answers: a restart would mend nothing
else that can be wrong here, and would cut off calls under way. `/healthz` and CSI's
Probe tell all that is wrong; see docs/decisions/0014.
"""

import ssl
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from hyperpod_ebs import __version__
from hyperpod_ebs.driver.app.options import ServingOptions
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.address import Address
from hyperpod_ebs.driver.observe import httpd
from hyperpod_ebs.driver.observe.condition import Condition
from hyperpod_ebs.driver.observe.httpd import Page, Pages
from hyperpod_ebs.kit.files import off_loop

if TYPE_CHECKING:
    from hyperpod_ebs.driver.observe.metrics import Metrics

HEALTH: Final = "--health-endpoint"
HTTP: Final = "--http-endpoint"

log = structlog.get_logger()


def check(options: ServingOptions) -> None:
    """Accept flags that can be followed.

    Raises:
        InvalidRequest: They cannot; the text says which.
    """
    given = ((HEALTH, options.health_endpoint), (HTTP, options.http_endpoint))
    ports = [address.port for flag, text in given if text and (address := Address.parse(flag, text)).port]
    if len(ports) != len(set(ports)):
        raise errors.InvalidRequest(
            f"{HEALTH} and {HTTP} have one port; take two, or {HTTP} alone: it has /healthz too"
        )
    pair = (options.metrics_cert_file, options.metrics_key_file)
    if any(pair) and not (all(pair) and options.http_endpoint):
        raise errors.InvalidRequest(f"--metrics-cert-file and --metrics-key-file need each other, and {HTTP}")


def metrics(options: ServingOptions, condition: Condition, *, deprecated: bool) -> "Metrics | None":
    """What will be told to Prometheus; None where it is not to come."""
    if not options.http_endpoint:
        return None
    from hyperpod_ebs.driver.observe.metrics import Metrics  # noqa: PLC0415 - the client library, see there

    return Metrics(__version__, lambda: str(condition), deprecated=deprecated)


@asynccontextmanager
async def shown(
    options: ServingOptions, condition: Condition, found: "Metrics | None"
) -> AsyncGenerator[Mapping[str, int]]:
    """The pages that the options ask for, served while the block runs; the port of each flag.

    Raises:
        Refused: An address is taken, or the certificate cannot be used.
    """
    health: Pages = {"/livez": lambda: Page("ok\n"), "/healthz": lambda: _health(condition)}
    ports: dict[str, int] = {}
    async with AsyncExitStack() as stack:
        if options.health_endpoint:
            ports[HEALTH] = await _served(stack, HEALTH, options.health_endpoint, health, None)
        if options.http_endpoint and found is not None:
            certificate = await _certificate(options)
            ports[HTTP] = await _served(
                stack, HTTP, options.http_endpoint, {**health, "/metrics": found.page}, certificate
            )
        yield ports


async def _served(stack: AsyncExitStack, flag: str, text: str, pages: Pages, certificate: ssl.SSLContext | None) -> int:
    address = Address.parse(flag, text)
    try:
        port = await stack.enter_async_context(httpd.serve(address.host, address.port, pages, certificate))
    except OSError as error:
        raise errors.Refused(f"{flag} {text} cannot be had: {error.strerror or error}; take another") from error
    log.info("pages served", flag=flag, port=port, pages=list(pages), tls=certificate is not None)
    return port


async def _certificate(options: ServingOptions) -> ssl.SSLContext | None:
    if not (options.metrics_cert_file and options.metrics_key_file):
        return None
    try:
        return await off_loop(_loaded, options.metrics_cert_file, options.metrics_key_file)
    except OSError as error:  # ssl's own among them
        raise errors.Refused(
            f"--metrics-cert-file {options.metrics_cert_file} with --metrics-key-file {options.metrics_key_file} "
            f"cannot be used: {error}"
        ) from error


def _loaded(certificate: Path | None, key: Path | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)  # TLS 1.2 at least
    context.load_cert_chain(str(certificate), str(key))
    return context


def _health(condition: Condition) -> Page:
    trouble = str(condition)
    return Page(f"{trouble}\n", HTTPStatus.SERVICE_UNAVAILABLE) if trouble else Page("ok\n")
