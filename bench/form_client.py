"""Signed calls of AWS services whose requests are forms: EC2, IAM and STS."""

import re
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

import aiohttp
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

REGION: Final = "us-west-2"

_VERSIONS: Final = {"ec2": "2016-11-15", "iam": "2010-05-08", "sts": "2011-06-15"}
_FORM: Final = {"content-type": "application/x-www-form-urlencoded; charset=utf-8"}


class CallRefused(Exception):  # noqa: N818 - named for what happened
    """The server answers an error."""


@dataclass(frozen=True, slots=True)
class FormClient:
    """A caller with credentials, which sends a request with far less work than an SDK does."""

    http: aiohttp.ClientSession
    url: str
    credentials: Credentials

    async def call(self, service: str, action: str, **parameters: Any) -> str:
        """Call an operation; two underscores in a parameter's name stand for a dot. Return the XML of the answer.

        Raises:
            CallRefused: The server answers an error.
            aiohttp.ClientError: The server does not answer.
        """
        form = {name.replace("__", "."): value for name, value in parameters.items()}
        body = urlencode({"Action": action, "Version": _VERSIONS[service], **form})
        request = AWSRequest("POST", f"{self.url}/", headers=_FORM, data=body)
        SigV4Auth(self.credentials, service, "us-east-1" if service == "iam" else REGION).add_auth(request)
        async with self.http.post(f"{self.url}/", data=body, headers=dict(request.headers)) as answer:
            text = await answer.text()
        if answer.status != 200:  # noqa: PLR2004 - the only status of success here
            raise CallRefused(f"{service}:{action} is answered with {answer.status}: {text}")
        return text


def element(answer: str, name: str) -> str:
    """The text of the first element with this name in the XML of an answer.

    Raises:
        LookupError: There is none.
    """
    if (match := re.search(f"<{name}>(.*?)<", answer)) is None:
        raise LookupError(f"the answer has no {name}: {answer}")
    return match[1]
