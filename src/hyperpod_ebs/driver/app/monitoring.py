"""What a process serves over HTTP: /livez, /healthz, /metrics and /debug/state.

`/livez` returns ok as long as the event loop responds and clients can connect to the CSI socket. A
restart fixes none of the other problems that a process can have, and interrupts running calls.
`/healthz` and CSI's Probe report every problem; see docs/decisions/0014. `/debug/state` shows people what the process
does at the moment: its running operations and, in the controller, the calls to AWS that wait.
"""

import json
import ssl
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, is_dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import structlog

from hyperpod_ebs import __version__
from hyperpod_ebs.driver.app.options import ServingOptions
from hyperpod_ebs.driver.csi.server import SOCKET
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


def check_options(options: ServingOptions) -> None:
    """Check the flags for the addresses and the certificate.

    Raises:
        InvalidRequest: An address cannot be parsed, both addresses have one port, or a certificate flag is missing.
    """
    endpoints = ((HEALTH, options.health_endpoint), (HTTP, options.http_endpoint))
    ports = [address.port for flag, text in endpoints if text and (address := Address.parse(flag, text)).port]
    if len(ports) != len(set(ports)):
        raise errors.InvalidRequest(
            f"{HEALTH} and {HTTP} have the same port {ports[0]}; use two ports, or only {HTTP}: it serves /healthz too"
        )
    pair = (options.metrics_cert_file, options.metrics_key_file)
    if any(pair) and not (all(pair) and options.http_endpoint):
        raise errors.InvalidRequest(
            f"--metrics-cert-file and --metrics-key-file require each other and {HTTP}; give all three flags, or "
            "neither of the two"
        )


def create_metrics(options: ServingOptions, condition: Condition, *, deprecated: bool) -> "Metrics | None":
    """Create the process's metrics, if the options ask to serve them."""
    if not options.http_endpoint:
        return None
    from hyperpod_ebs.driver.observe.metrics import Metrics  # noqa: PLC0415 - saves the client library's 4 MiB

    return Metrics(__version__, lambda: str(condition), deprecated=deprecated)


@asynccontextmanager
async def serve_pages(
    options: ServingOptions, condition: Condition, metrics: "Metrics | None", state: Callable[[], object] = dict
) -> AsyncGenerator[Mapping[str, int]]:
    """Serve the pages that the options ask for while the block runs, and yield the port of each flag.

    `state` returns what /debug/state shows: values, mappings, lists and dataclasses.

    Raises:
        Refused: An address is in use, or the certificate cannot be loaded.
    """
    health: Pages = {
        "/livez": lambda: _health_page(condition.problem_of(SOCKET)),
        "/healthz": lambda: _health_page(str(condition)),
    }
    ports: dict[str, int] = {}
    async with AsyncExitStack() as stack:
        if options.health_endpoint:
            ports[HEALTH] = await _serve(stack, HEALTH, options.health_endpoint, health, None)
        if options.http_endpoint and metrics is not None:
            certificate = await _load_certificate(options)
            pages = {**health, "/metrics": metrics.page, "/debug/state": lambda: _state_page(state())}
            ports[HTTP] = await _serve(stack, HTTP, options.http_endpoint, pages, certificate)
        yield ports


async def _serve(stack: AsyncExitStack, flag: str, text: str, pages: Pages, certificate: ssl.SSLContext | None) -> int:
    """Serve pages at the address in a flag until the stack closes, and return the port."""
    address = Address.parse(flag, text)
    try:
        port = await stack.enter_async_context(httpd.serve(address.host, address.port, pages, certificate))
    except OSError as error:
        raise errors.Refused(
            f"cannot serve on {flag} {text}: {error.strerror or error}; choose another address"
        ) from error
    log.info("pages served", flag=flag, port=port, pages=list(pages), tls=certificate is not None)
    return port


async def _load_certificate(options: ServingOptions) -> ssl.SSLContext | None:
    """Load the certificate of the HTTP endpoint, if there is one."""
    certificate, key = options.metrics_cert_file, options.metrics_key_file
    if not (certificate and key):
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)  # TLS 1.2 or later
    try:
        await off_loop(context.load_cert_chain, str(certificate), str(key))
    except OSError as error:  # includes the ssl module's own errors
        raise errors.Refused(
            f"cannot load --metrics-cert-file {certificate} with --metrics-key-file {key}: {error}"
        ) from error
    return context


def _state_page(state: object) -> Page:
    return Page(json.dumps(state, default=_jsonable, indent=2) + "\n", media_type="application/json")


def _jsonable(value: object) -> object:
    """A value in a form that has a place in JSON."""
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else str(value)


def _health_page(problem: str | None) -> Page:
    return Page(f"{problem}\n", HTTPStatus.SERVICE_UNAVAILABLE) if problem else Page("ok\n")
