"""Whether a principal may do something, asked of IAM's policy simulator without doing it.

The simulator knows identity policies, boundaries and service control policies, but no key policies, session policies or
conditions on the network (IAM User Guide, "IAM policy testing with the IAM policy simulator").
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from hyperpod_ebs.access.aws.session import Aws
from hyperpod_ebs.driver.aws.calls import translate_sdk_errors
from hyperpod_ebs.driver.model import errors

_ASSUMED_ROLE: Final = re.compile(r"arn:[^:]+:sts::\d{12}:assumed-role/(?P<role>[^/]+)/.+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """An action that a principal needs to be allowed."""

    action: str
    resource: str = "*"
    context: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """The values of condition keys, as AWS has them for this call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the simulator says of a need."""

    need: Need
    decision: Literal["allowed", "denied", "unknown"]
    reason: str = ""
    """Why it is denied or not known; empty if it is allowed."""


async def principal_arn(aws: Aws, caller_arn: str) -> str:
    """The ARN of the user or role behind a caller, which for a session is the role's, with its path.

    Raises:
        Error: The role cannot be read.
    """
    if not (match := _ASSUMED_ROLE.fullmatch(caller_arn)):
        return caller_arn
    iam = await aws.iam()
    with translate_sdk_errors(f"read role {match['role']}"):
        return (await iam.get_role(RoleName=match["role"]))["Role"]["Arn"]


async def simulate(aws: Aws, principal: str, needs: Sequence[Need]) -> list[Verdict]:
    """Ask the simulator about each need of a user or role.

    A simulator that may not be asked gives `unknown` for all needs.
    """
    verdicts, iam = list[Verdict](), await aws.iam()
    for need in needs:
        try:
            with translate_sdk_errors(f"simulate {need.action} for {principal}"):
                answer = await iam.simulate_principal_policy(
                    PolicySourceArn=principal,
                    ActionNames=[need.action],
                    ResourceArns=[need.resource],
                    ContextEntries=[
                        {
                            "ContextKeyName": key,
                            "ContextKeyValues": list(values),
                            "ContextKeyType": "string" if len(values) == 1 else "stringList",
                        }
                        for key, values in need.context.items()
                    ],
                )
        except errors.Denied as denial:
            return [Verdict(need=other, decision="unknown", reason=str(denial)) for other in needs]
        result = answer["EvaluationResults"][0]
        verdicts.append(_verdict(need, result["EvalDecision"], principal))
    return verdicts


def _verdict(need: Need, decision: str, principal: str) -> Verdict:
    if decision == "allowed":
        return Verdict(need=need, decision="allowed")
    why = "a policy denies it" if decision == "explicitDeny" else "no policy allows it"
    return Verdict(need=need, decision="denied", reason=f"{principal} may not {need.action} on {need.resource}: {why}")
