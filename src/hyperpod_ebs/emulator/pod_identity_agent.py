"""`hyperpod-ebs emulator pod-identity-agent`: the EKS Pod Identity agent of a node.

A pod's SDK sends the token of the pod's service account; the agent exchanges it at EKS Auth
for credentials. The agent signs with credentials of its own, which it finds as every SDK does.

Sources: AWS SDKs and Tools Reference Guide, "Container credential provider"; EKS User Guide,
"Understand how EKS Pod Identity works"; aws/eks-pod-identity-agent, pkg/credentials/model.go.
"""

import asyncio
import logging
import os
import signal
from contextlib import AsyncExitStack
from datetime import UTC
from typing import Any, Final

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from aiohttp import web
from botocore.exceptions import BotoCoreError, ClientError

from hyperpod_ebs.emulator.commands import fail, say
from hyperpod_ebs.emulator.http.door import Door

log: Final = logging.getLogger(__name__)

PATH: Final = "/v1/credentials"

STOPPING: Final = 5.0
"""Seconds that running requests have to finish when the agent stops."""

MAX_REQUEST: Final = 1024
"""Bytes of the largest body; SDKs send none."""

CONFIG: Final = AioConfig(connect_timeout=5, read_timeout=5, retries={"total_max_attempts": 2, "mode": "standard"})
"""An SDK waits for the agent for a few seconds, and then asks again."""


def run(*, cluster: str, address: str = "169.254.170.23", port: int = 80) -> int:
    """Run the agent until SIGTERM or Ctrl-C.

    Args:
        cluster: Name of the EKS cluster of the pods.
        address: IP address to listen on; the node must have it.
        port: Port to listen on; 0 selects a free port.
    """
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    try:
        asyncio.run(_serve(cluster, address, port))
    except (OSError, BotoCoreError) as error:
        return fail(f"the Pod Identity agent cannot serve on {address}:{port}: {error}")
    return 0


def application(client: Any, cluster: str) -> web.Application:  # Any: a client of eks-auth, which has no types
    """The agent's routes.

    Args:
        client: A client of EKS Auth.
        cluster: The name of the EKS cluster of the pods.
    """

    async def credentials(request: web.Request) -> web.Response:
        """Answer a pod; neither its token nor its credentials are logged."""
        if not (token := request.headers.get("Authorization", "").strip()):
            return web.Response(status=400, text="Service account token cannot be empty")
        try:
            answer = await client.assume_role_for_pod_identity(clusterName=cluster, token=token)
        except ClientError as error:
            code, message, status = _parts(error)
            log.warning("EKS Auth gives a pod no credentials: %s (%s)", message, code)
            return web.Response(status=status, text=f"({code}): {message}")
        except BotoCoreError as error:
            log.warning("EKS Auth does not answer: %s", error)
            return web.Response(status=500, text=str(error))
        return web.json_response(_document(answer))

    app = web.Application(client_max_size=MAX_REQUEST)
    app.add_routes([web.get(PATH, credentials)])
    return app


def _document(answer: Any) -> dict[str, str]:  # Any: the answer of AssumeRoleForPodIdentity
    """The credentials as SDKs expect them from a container's credential server."""
    found = answer["credentials"]
    return {
        "AccessKeyId": found["accessKeyId"],
        "SecretAccessKey": found["secretAccessKey"],
        "Token": found["sessionToken"],
        "AccountId": answer["assumedRoleUser"]["arn"].split(":")[4],
        "Expiration": f"{found['expiration'].astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
    }


def _parts(error: ClientError) -> tuple[str, str, int]:
    """The code, message and HTTP status of an error that EKS Auth answered."""
    response = error.response
    answered, metadata = response.get("Error", {}), response.get("ResponseMetadata", {})
    return answered.get("Code", ""), answered.get("Message", ""), metadata.get("HTTPStatusCode", 500)


async def _serve(cluster: str, address: str, port: int) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        # The SDK for Python reads only AWS_DEFAULT_REGION.
        client: Any = await stack.enter_async_context(  # Any: see `application`
            get_session().create_client("eks-auth", region_name=os.environ.get("AWS_REGION"), config=CONFIG)
        )
        door = await stack.enter_async_context(Door.build(application(client, cluster), stopping=STOPPING))
        host, bound = await stack.enter_async_context(door.listen(address, port))
        authority = f"[{host}]:{bound}" if ":" in host else f"{host}:{bound}"
        say(f"Pod Identity agent ready at http://{authority}{PATH}")
        await stop.wait()
