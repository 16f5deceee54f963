"""Whether AWS accepts the caller's credentials."""

from collections.abc import AsyncIterator
from typing import Final

from hyperpod_ebs.access.doctor.checks import Check
from hyperpod_ebs.access.doctor.context import Context
from hyperpod_ebs.access.doctor.findings import Finding, may_fail


async def _check_identity(context: Context) -> AsyncIterator[Finding]:
    caller = await context.caller()
    if caller.arn.endswith(":root"):
        yield may_fail(
            f"caller {caller.arn}",
            "the credentials are those of the account's root user",
            "No policy limits what these credentials can do",
            "run `aws sso login`, or use a role",
        )


CHECKS: Final = (Check(name="identity", promise="AWS accepts the caller's credentials", run=_check_identity),)
