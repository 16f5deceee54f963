"""The account's quotas (Service Quotas API reference, ListServiceQuotas)."""
# botocore marks every member of an answer as optional. A missing one is a KeyError, which `calls` reports:
# pyright: reportTypedDictNotRequiredAccess=false

from dataclasses import dataclass

from hyperpod_ebs.access.aws.session import Aws
from hyperpod_ebs.driver.aws.calls import translate_sdk_errors


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """How much of something the account may have in the region."""

    code: str
    name: str
    value: float


async def list_quotas(aws: Aws, service: str) -> list[Quota]:
    """The quotas of a service, such as `ebs`.

    Raises:
        Error: The caller may not list them.
    """
    client, quotas = await aws.quotas(), list[Quota]()
    token: dict[str, str] = {}
    with translate_sdk_errors(f"list the quotas of {service}"):
        while True:
            page = await client.list_service_quotas(ServiceCode=service, **token)  # type: ignore[arg-type] # NextToken
            quotas += [
                Quota(code=quota["QuotaCode"], name=quota["QuotaName"], value=quota["Value"])
                for quota in page["Quotas"]
            ]
            if not (next_token := page.get("NextToken")):
                return quotas
            token = {"NextToken": next_token}
