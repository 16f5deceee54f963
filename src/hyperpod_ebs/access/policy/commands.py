"""`hyperpod-ebs policy`: print, or check, the IAM and KMS policies that volumes on HyperPod nodes need."""

import asyncio
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from cyclopts import App, Parameter

from hyperpod_ebs.access.aws.session import ANY_CALLER, AwsOptions
from hyperpod_ebs.access.console import note
from hyperpod_ebs.access.exit_codes import FAILS, MAY_FAIL, OK
from hyperpod_ebs.access.help_texts import epilogue
from hyperpod_ebs.access.policy.check import JobName, check_key, check_role
from hyperpod_ebs.access.policy.check_output import CheckOutput, show
from hyperpod_ebs.access.policy.documents import ATTACH, DETACH, attach_document, detach_document, driver_documents
from hyperpod_ebs.access.policy.formats import CallerPolicy, Format, KeyPolicy, NewRole, Policies, text_of
from hyperpod_ebs.access.policy.key_documents import KeyUsers, key_policy, key_statements
from hyperpod_ebs.access.policy.present_policy import read_policy, with_statements
from hyperpod_ebs.access.policy.statements import EVERY, Document, Setting
from hyperpod_ebs.access.policy.trust_documents import SERVICE_ACCOUNT, trust_policy_irsa, trust_policy_pod_identity
from hyperpod_ebs.access.policy.values import (
    FIND_ACCOUNT,
    FIND_ALL,
    AccountValues,
    Lookup,
    Values,
    principal_arn,
    require_form,
)
from hyperpod_ebs.driver.model import errors

app = App(
    name="policy",
    help="Print or check the IAM and KMS policies that volumes on HyperPod nodes need, with this account's own values.",
)

Checked = Annotated[str | None, Parameter(allow_leading_hyphen=True)]
"""What is checked; a hyphen stands for stdin."""

Output = Literal["json", "table", "terraform", "cloudformation", "cli"]

_CHECK_CODES: Final = {
    FAILS: "--check: something that is needed is missing or mistyped",
    MAY_FAIL: "--check: only too wide, or missing for uses that not every user has",
}
_FINDINGS: Final = "with --check: fits, and findings, each with kind, policy, statement, message and patch (RFC 6902)"

Trust = Literal["pod-identity", "irsa"]

_DESCRIBE_NOTE: Final = (
    "ec2:DescribeVolumes is allowed on *, because EC2's describe actions have no other resource. SageMaker's guide "
    "allows ec2:DescribeVolume, which does not exist, or ec2:DescribeVolumes on volume/*. Both allow nothing."
)
_IRSA_NOTE: Final = (
    "Annotate the service account {namespace}/{name} with eks.amazonaws.com/role-arn={role}. IAM needs a provider for "
    "the issuer {issuer}: the output for the AWS CLI creates it, that for Terraform and CloudFormation does not."
)
_POD_IDENTITY_NOTE: Final = (
    "Associate the role with the service account: aws eks create-pod-identity-association --region {region} "
    "--cluster-name {cluster} --namespace {namespace} --service-account {name} --role-arn {role}. An association that "
    "disables session tags does not meet the conditions of the trust policy."
)
_KEY_NOTE: Final = (
    "A key has one policy, so this one replaces the key's present policy. To keep its other statements, pass it with "
    "--add-to: aws kms get-key-policy --key-id {key} --output text --query Policy"
)
_NAMED_NOTE: Final = "Deploy the template with --capabilities CAPABILITY_NAMED_IAM, because it names what it creates."
_NEW_KEY_NOTE: Final = (
    "CloudFormation cannot change the policy of a key outside of its stacks, so the template creates a key. To keep "
    "your key, import it into the stack as the resource Key."
)


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class DriverRole:
    """The role of the driver."""

    inline: bool = False
    """Spell out the part of AWS's AmazonEBSCSIDriverPolicyV2 that the driver uses, for this account and region."""

    trust: Trust = "pod-identity"
    """How the driver's pods get the role."""

    issuer: str | None = None
    """The URL of the EKS cluster's OIDC issuer, for IRSA; by default EKS is asked."""

    role: str = "hyperpod-ebs"
    """The name of the role to create."""

    service_account: str = SERVICE_ACCOUNT
    """The driver's service account, as NAMESPACE/NAME."""


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class KeyUse:
    """A key, and who uses it."""

    key: str | None = None
    """The key, by ARN or id."""

    driver: str | None = None
    """The driver's role, by name or ARN."""

    caller: Annotated[tuple[str, ...], Parameter(negative=())] = ()
    """A role or user that attaches volumes by hand, by a role's name or an ARN; may be repeated."""

    execution_role: Annotated[tuple[str, ...], Parameter(negative=())] = ()
    """The execution role of an instance group whose own volumes have the key, by name or ARN; may be repeated."""

    add_to: Path | None = None
    """A file with the key's present policy, to which the statements are added."""


_DEFAULT_ROLE: Final = DriverRole()
_NO_KEY: Final = KeyUse()


@app.command(
    help_epilogue=epilogue(
        {
            "hyperpod-ebs policy driver --output cli | sh": "Create the role of the driver for EKS Pod Identity.",
            "hyperpod-ebs policy driver --inline --trust irsa --output terraform > role.tf": (
                "A role for IRSA with only what the driver uses, for Terraform."
            ),
            "hyperpod-ebs policy driver --check my-role": "What the driver's role lacks, or has beyond its needs.",
        },
        codes=_CHECK_CODES,
        json="an object with RoleName, AssumeRolePolicyDocument, ManagedPolicyArns, and Policies by name; " + _FINDINGS,
    )
)
def driver(
    *,
    role: DriverRole = _DEFAULT_ROLE,
    check: Checked = None,
    output: Output | None = None,
    values: Values = FIND_ALL,
    aws: AwsOptions = ANY_CALLER,
) -> int:
    """Print the role of the driver's service account: its trust policy and its permissions.

    Args:
        role: The role.
        check: Compare with what is needed instead: a role by name or ARN, a policy by ARN, a file, or - for stdin.
        output: The form of the output, by default json; with --check table or json, by default table.
        values: The values in the policies.
        aws: The caller, whose credentials are used if AWS has to be asked, and the region.
    """
    if check is not None:
        return asyncio.run(_check_role("driver", check, output, values, aws, role.service_account))
    asyncio.run(_print_driver(role, _form(output), values, aws))
    return OK


@app.command(
    help_epilogue=epilogue(
        {
            "hyperpod-ebs policy attach --role researcher --output cli | sh": "Let a role attach volumes by hand.",
            "hyperpod-ebs policy attach --scope account > attach.json": "A policy for all clusters, as a file.",
            "hyperpod-ebs policy attach --check researcher": "What a role lacks, or has beyond its needs.",
        },
        codes=_CHECK_CODES,
        json="the policy document; " + _FINDINGS,
    )
)
def attach(
    *,
    role: str | None = None,
    check: Checked = None,
    output: Output | None = None,
    values: Values = FIND_ALL,
    aws: AwsOptions = ANY_CALLER,
) -> int:
    """Print what a caller of AttachClusterNodeVolume needs, to attach volumes to HyperPod nodes by hand.

    Args:
        role: The name of a role that exists, which gets the policy; without it, the output creates a policy that can be
            attached to roles, users and groups.
        check: Compare with what is needed instead: a role by name or ARN, a policy by ARN, a file, or - for stdin.
        output: The form of the output, by default json; with --check table or json, by default table.
        values: The values in the policy.
        aws: The caller, whose credentials are used if AWS has to be asked, and the region.
    """
    if check is not None:
        return asyncio.run(_check_role("attach", check, output, values, aws))
    asyncio.run(_print_caller(ATTACH, attach_document, role, _form(output), values, aws))
    return OK


@app.command(
    help_epilogue=epilogue(
        {
            "hyperpod-ebs policy detach --role researcher --output cli | sh": "Let a role detach volumes by hand.",
            "hyperpod-ebs policy detach --scope account > detach.json": "A policy for all clusters, as a file.",
            "hyperpod-ebs policy detach --check researcher": "What a role lacks, or has beyond its needs.",
        },
        codes=_CHECK_CODES,
        json="the policy document; " + _FINDINGS,
    )
)
def detach(
    *,
    role: str | None = None,
    check: Checked = None,
    output: Output | None = None,
    values: Values = FIND_ALL,
    aws: AwsOptions = ANY_CALLER,
) -> int:
    """Print what a caller of DetachClusterNodeVolume needs, to detach volumes from HyperPod nodes by hand.

    No permission for a volume's KMS key is needed.

    Args:
        role: The name of a role that exists, which gets the policy; without it, the output creates a policy that can be
            attached to roles, users and groups.
        check: Compare with what is needed instead: a role by name or ARN, a policy by ARN, a file, or - for stdin.
        output: The form of the output, by default json; with --check table or json, by default table.
        values: The values in the policy.
        aws: The caller, whose credentials are used if AWS has to be asked, and the region.
    """
    if check is not None:
        return asyncio.run(_check_role("detach", check, output, values, aws))
    asyncio.run(_print_caller(DETACH, detach_document, role, _form(output), values, aws))
    return OK


@app.command(
    help_epilogue=epilogue(
        {
            "aws kms get-key-policy --key-id $KEY --output text --query Policy > old.json": (
                "Read the key's policy, to keep its other statements."
            ),
            "hyperpod-ebs policy key --key $KEY --driver my-role --add-to old.json": (
                "Let the driver use the key, in addition to what the policy allows already."
            ),
            "hyperpod-ebs policy key --key $KEY --caller researcher --execution-role node": (
                "A key for volumes that are attached by hand, and for the cluster's own volumes."
            ),
            "hyperpod-ebs policy key --check alias/volumes --driver my-role": "What a key's policy lacks.",
        },
        codes=_CHECK_CODES,
        json="the whole policy of the key; " + _FINDINGS,
    )
)
def key(
    *,
    use: KeyUse = _NO_KEY,
    check: Checked = None,
    output: Output | None = None,
    values: AccountValues = FIND_ACCOUNT,
    aws: AwsOptions = ANY_CALLER,
) -> int:
    """Print the policy of a customer-managed KMS key whose volumes are attached to HyperPod nodes.

    Attaching volumes by hand and the driver's work need other statements than the cluster's own volumes, for which
    SageMaker uses the key as the execution role of the instance group.

    Args:
        use: The key and its users.
        check: Compare with what is needed instead: a key by id, ARN or alias, a file, or - for stdin.
        output: The form of the output, by default json; with --check table or json, by default table.
        values: The values in the policy.
        aws: The caller, whose credentials are used if AWS has to be asked, and the region.
    """
    if check is not None:
        return asyncio.run(_check_key(check, use, output, values, aws))
    present = None if use.add_to is None else read_policy(use.add_to)
    asyncio.run(_print_key(use, present, _form(output), values, aws))
    return OK


async def _print_driver(role: DriverRole, output: Format, values: Values, aws: AwsOptions) -> None:
    require_form("--role", role.role)
    require_form("--service-account", role.service_account)
    if role.issuer is not None:
        require_form("--issuer", role.issuer)
    async with Lookup.open(aws) as lookup:
        setting = await lookup.setting(values)
        issuer = (role.issuer or await lookup.issuer(setting)) if role.trust == "irsa" else ""
    new = NewRole(
        name=role.role,
        trust=trust_policy_irsa(setting, issuer, role.service_account)
        if issuer
        else trust_policy_pod_identity(setting, role.service_account),
        managed=() if role.inline else (setting.managed_policy_arn,),
        documents=driver_documents(setting, inline=role.inline),
        issuer=issuer,
    )
    _write(new, output)
    namespace, _, name = role.service_account.partition("/")
    note(
        (_IRSA_NOTE if issuer else _POD_IDENTITY_NOTE).format(
            role=setting.iam_arn(f"role/{role.role}"),
            issuer=issuer,
            region=setting.region,
            cluster="CLUSTER" if setting.eks_cluster == EVERY else setting.eks_cluster,
            namespace=namespace,
            name=name,
        )
    )


async def _print_caller(  # noqa: PLR0913, PLR0917 - the flags, and what differs between the two commands
    name: str,
    document: Callable[[Setting], Document],
    role: str | None,
    output: Format,
    values: Values,
    aws: AwsOptions,
) -> None:
    if role is not None:
        require_form("--role", role)
    async with Lookup.open(aws) as lookup:
        setting = await lookup.setting(values)
    _write(CallerPolicy(name=name, document=document(setting), role=role or ""), output)
    note(_DESCRIBE_NOTE)


async def _print_key(
    use: KeyUse, present: Mapping[str, Any] | None, output: Format, values: AccountValues, aws: AwsOptions
) -> None:
    _require_users(use)
    if use.key is not None:
        require_form("--key", use.key)
    elif output in {"terraform", "cli"}:
        raise errors.InvalidRequest(f"--output {output} names the key; give --key")
    async with Lookup.open(aws) as lookup:
        setting = await lookup.key_setting(values, use.key)
    users = _users(use, setting)
    document: Mapping[str, object] = key_policy(setting, users).json
    if present is not None:
        document = with_statements(present, [statement.json for statement in key_statements(setting, users)])
    _write(KeyPolicy(key=use.key or "", region=setting.region, document=document), output)
    if present is None and output != "cloudformation":
        note(_KEY_NOTE.format(key=use.key or "KEY"))


async def _check_role(  # noqa: PLR0913, PLR0917 - the flags of three commands
    job: JobName,
    source: str,
    output: Output | None,
    values: Values,
    aws: AwsOptions,
    service_account: str = SERVICE_ACCOUNT,
) -> int:
    form = _check_form(output)
    require_form("--service-account", service_account)
    async with Lookup.open(aws) as lookup:
        setting, found = await check_role(job, source, lookup, values, service_account)
    return show(source, job, setting, found, form)


async def _check_key(source: str, use: KeyUse, output: Output | None, values: AccountValues, aws: AwsOptions) -> int:
    form = _check_form(output)
    _require_users(use)
    async with Lookup.open(aws) as lookup:
        setting, found = await check_key(source, lookup, values, lambda setting: _users(use, setting))
    return show(source, "key", setting, found, form)


def _form(output: Output | None) -> Format:
    """The form of a printed policy.

    Raises:
        InvalidRequest: Only findings have it.
    """
    if output == "table":
        raise errors.InvalidRequest("--output table shows the findings of --check; give --check, or another --output")
    return output or "json"


def _check_form(output: Output | None) -> CheckOutput:
    """The form of the findings.

    Raises:
        InvalidRequest: Only printed policies have it.
    """
    if output not in {None, "table", "json"}:
        raise errors.InvalidRequest(f"--output {output} is a form of policies; with --check, use table or json")
    return "json" if output == "json" else "table"


def _require_users(use: KeyUse) -> None:
    """Refuse a key without users.

    Raises:
        InvalidRequest: The key has none.
    """
    if not (use.driver or use.caller or use.execution_role):
        raise errors.InvalidRequest("the policy has no users; give --driver, --caller or --execution-role")


def _users(use: KeyUse, setting: Setting) -> KeyUsers:
    """The users of the key by their ARNs.

    Raises:
        InvalidRequest: One is neither a role nor a user, or is in another account.
    """
    return KeyUsers(
        driver=principal_arn(setting, "--driver", use.driver) if use.driver else "",
        callers=tuple(principal_arn(setting, "--caller", each) for each in use.caller),
        execution_roles=tuple(principal_arn(setting, "--execution-role", each) for each in use.execution_role),
    )


def _write(policies: Policies, output: Format) -> None:
    """Print the policies to stdout, and what is to be known about the form to stderr."""
    sys.stdout.write(text_of(policies, output))
    sys.stdout.flush()
    if output == "cloudformation":
        note(_NEW_KEY_NOTE if isinstance(policies, KeyPolicy) else _NAMED_NOTE)
