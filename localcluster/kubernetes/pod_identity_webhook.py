"""The admission webhook that gives pods AWS credentials, for IRSA and Pod Identity; EKS has it on its control plane.

It runs in the hub's network, where the API server calls it for every new pod. For each pod it
reads the service account from the API server, and asks EKS for an association. If it fails, the
API server creates the pod without credentials, as on EKS.
"""

import asyncio
import base64
import json
import logging
import ssl
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from typing import Any, Final

import aiohttp
from aiobotocore.session import get_session
from aiohttp import web

from hyperpod_ebs.kit import files
from localcluster import cloud
from localcluster.kubernetes.certificates import ADMINS
from localcluster.kubernetes.control_plane import SERVER
from localcluster.kubernetes.infrastructure import Infrastructure
from localcluster.kubernetes.kubectl import Kubectl
from localcluster.kubernetes.pod_credentials import Annotations, Json, pod_patch
from localcluster.machines import network
from localcluster.machines.daemon import Daemon

MODULE: Final = "localcluster.kubernetes.pod_identity_webhook"
PORT: Final = 9443

_NAME: Final = "pod-identity-webhook"
_PATH: Final = "/mutate"
_READY: Final = "the pod identity webhook is ready"
_READY_TIMEOUT: Final = 60.0
_TIMEOUT: Final = 30
"""Seconds that the API server waits for an answer, its maximum: a pod without an answer never gets credentials."""

_CALL_TIMEOUT: Final = 12.0
"""Seconds for a call of the API server or of EKS; an answer needs one of each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of the process; the AWS credentials are in its environment."""

    certificate: str
    key: str
    authority: str
    region: str


async def start(infrastructure: Infrastructure, kubectl: Kubectl, environment: Mapping[str, str]) -> None:
    """Start the webhook, and let the API server call it for every new pod from now on.

    Args:
        infrastructure: The sandbox, certificates and network of the cluster.
        kubectl: An administrator's.
        environment: The variables for an SDK that calls the emulator.

    Raises:
        ProcessEnded, ProcessNotReady: It did not start.
    """
    authority = infrastructure.authority
    certificate, key = authority.issue(_NAME, network.GATEWAY, user=_NAME, group=ADMINS)
    settings = Settings(
        certificate=str(certificate),
        key=str(key),
        authority=str(authority.certificate),
        region=environment["AWS_REGION"],
    )
    argv = [sys.executable, "-m", MODULE, json.dumps(asdict(settings))]
    daemon = await Daemon.start(
        infrastructure.sandbox,
        _NAME,
        infrastructure.hub.network_argv(*argv),
        env={**environment, "AWS_ENDPOINT_URL": cloud.URL},
    )
    log = infrastructure.sandbox.path / f"{_NAME}.log"

    async def is_ready() -> bool:
        return _READY in await files.off_loop(log.read_text)

    await daemon.wait_until(is_ready, seconds=_READY_TIMEOUT)
    await kubectl.apply(_configuration(authority.certificate.read_bytes()))


def _configuration(authority: bytes) -> Json:
    """The registration at the API server (Kubernetes API reference, MutatingWebhookConfiguration v1)."""
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": _NAME},
        "webhooks": [
            {
                "name": "pod-identity-webhook.amazonaws.com",
                "failurePolicy": "Ignore",
                "timeoutSeconds": _TIMEOUT,
                "reinvocationPolicy": "IfNeeded",
                "clientConfig": {
                    "url": f"https://{network.GATEWAY}:{PORT}{_PATH}",
                    "caBundle": base64.b64encode(authority).decode(),
                },
                "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}],
                "sideEffects": "None",
                "admissionReviewVersions": ["v1"],
            }
        ],
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """Answers the API server's questions about pods."""

    eks: Any  # a client of the SDK's, which has no types
    api_server: aiohttp.ClientSession
    region: str

    async def mutate(self, request: web.Request) -> web.Response:
        """Answer an AdmissionReview with the patch for its pod."""
        review = await request.json()
        asked = review["request"]
        pod, namespace = asked["object"], asked["namespace"]
        account = pod["spec"]["serviceAccountName"]
        patch = pod_patch(
            pod,
            await self._annotations(namespace, account),
            has_association=await self._has_association(namespace, account),
            region=self.region,
        )
        response: dict[str, Any] = {"uid": asked["uid"], "allowed": True}
        if patch:
            response |= {"patchType": "JSONPatch", "patch": base64.b64encode(json.dumps(patch).encode()).decode()}
        return web.json_response({"apiVersion": review["apiVersion"], "kind": review["kind"], "response": response})

    async def _annotations(self, namespace: str, account: str) -> Annotations:
        """The annotations of a service account."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}"
        async with self.api_server.get(path, raise_for_status=True) as answer:
            annotations: Annotations = (await answer.json())["metadata"].get("annotations", {})
        return annotations

    async def _has_association(self, namespace: str, account: str) -> bool:
        """Whether a service account has a Pod Identity association."""
        async with asyncio.timeout(_CALL_TIMEOUT):
            listed = await self.eks.list_pod_identity_associations(
                clusterName=cloud.NAME, namespace=namespace, serviceAccount=account
            )
        return bool(listed["associations"])


async def serve(settings: Settings) -> None:
    """Serve until killed."""
    identity = ssl.create_default_context(cafile=settings.authority)
    identity.load_cert_chain(settings.certificate, settings.key)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(settings.certificate, settings.key)
    async with AsyncExitStack() as stack:
        eks = await stack.enter_async_context(get_session().create_client("eks"))
        api_server = await stack.enter_async_context(
            aiohttp.ClientSession(
                SERVER,
                connector=aiohttp.TCPConnector(ssl=identity),
                timeout=aiohttp.ClientTimeout(total=_CALL_TIMEOUT),
            )
        )
        webhook = Webhook(eks=eks, api_server=api_server, region=settings.region)
        app = web.Application(client_max_size=4 * 1024**2)  # the API server's limit of a request is 3 MiB
        app.add_routes([web.post(_PATH, webhook.mutate)])
        runner = web.AppRunner(app)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, network.GATEWAY, PORT, ssl_context=server).start()
        sys.stdout.write(f"{_READY}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    asyncio.run(serve(Settings(**json.loads(sys.argv[1]))))
