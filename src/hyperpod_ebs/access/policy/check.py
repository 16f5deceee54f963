"""`hyperpod-ebs policy … --check`: compare a role, a policy, a file or a key's policy with what a job needs."""

import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal, assert_never

from hyperpod_ebs.access.aws.keys import find_key, key_policy
from hyperpod_ebs.access.aws.role_policies import PolicyText, read_managed_policy, read_role_policies
from hyperpod_ebs.access.aws.roles import Role, find_role
from hyperpod_ebs.access.aws.session import Aws
from hyperpod_ebs.access.console import note, print_json, print_table
from hyperpod_ebs.access.policy.comparison.compare import findings
from hyperpod_ebs.access.policy.comparison.findings import Finding, exit_code, sorted_findings
from hyperpod_ebs.access.policy.comparison.given_policies import (
    GivenPolicy,
    compile_policy,
    find_documents,
    kind_of,
)
from hyperpod_ebs.access.policy.comparison.inferred_setting import inferred_values
from hyperpod_ebs.access.policy.comparison.job_requests import Values as ContextValues
from hyperpod_ebs.access.policy.comparison.jobs import (
    Job,
    Subject,
    caller_job,
    driver_job,
    has_action,
    key_job,
)
from hyperpod_ebs.access.policy.comparison.mistakes import refusal
from hyperpod_ebs.access.policy.comparison.trust import POD_IDENTITY, ServiceAccount, trust_findings
from hyperpod_ebs.access.policy.key_documents import KeyUsers
from hyperpod_ebs.access.policy.statements import EVERY, Setting
from hyperpod_ebs.access.policy.trust_documents import SERVICE_ACCOUNT
from hyperpod_ebs.access.policy.values import AccountValues, Lookup, Values, known_values
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.iam.documents import Json, Kind, MalformedPolicy
from hyperpod_ebs.kit.files import off_loop

JobName = Literal["driver", "attach", "detach"]
CheckOutput = Literal["table", "json"]

_STDIN: Final = "-"
_SESSION: Final = re.compile(r"arn:[^:]+:sts::\d{12}:assumed-role/(?P<role>[^/]+)/.+")
"""The ARN of a role's session, as `aws sts get-caller-identity` prints it."""

_COLUMNS: Final = ("no", "kind", "policy", "statement", "finding")
_NO_ROLE: Final = "role/hyperpod-ebs"
"""The role of a document that is compared without a role."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """What is compared, as it was read."""

    name: str
    policies: Sequence[PolicyText]
    trust: str = ""
    boundary: PolicyText | None = None
    role: Role | None = None


async def check_role(
    job: JobName, source: str, lookup: Lookup, values: Values, service_account: str = SERVICE_ACCOUNT
) -> tuple[Setting, list[Finding]]:
    """Compare a role, a policy or a file with what a job needs.

    Args:
        job: The job.
        source: A role's name or ARN, a policy's ARN, a file, or - for stdin.
        lookup: Finds what the values do not give.
        values: The account and the clusters.
        service_account: The driver's service account, as NAMESPACE/NAME.

    Raises:
        Error: The source cannot be read, or a value cannot be found.
    """
    if await off_loop(_is_file, source):
        text = await off_loop(_read_file, source)
        documents = find_documents(text, _shown_name(source))
        setting = await _setting_of_file(lookup, values, [raw for _, raw in documents])
        read = _source_of(_shown_name(source), documents)
    else:
        setting = await lookup.setting(values)
        read = await _read_source(await lookup.aws(setting.region), source)
    account = ServiceAccount(setting=setting, name=service_account)
    if job == "driver" and ":oidc-provider/" in read.trust:
        account = replace(account, issuer=await _issuer(lookup, setting, is_live=read.role is not None))
    return setting, await off_loop(_findings, job, setting, account, read)


async def check_key(
    source: str,
    lookup: Lookup,
    values: AccountValues,
    users: Callable[[Setting], KeyUsers],
) -> tuple[Setting, list[Finding]]:
    """Compare a key's policy with what the users of the key need.

    Args:
        source: A key's id, ARN or alias, a file, or - for stdin.
        lookup: Finds what the values do not give.
        values: The account.
        users: The principals that use the key, in a setting.

    Raises:
        Error: The source cannot be read, or a value cannot be found.
    """
    if await off_loop(_is_file, source):
        documents = find_documents(await off_loop(_read_file, source), _shown_name(source))
        if len(documents) != 1:
            raise errors.InvalidRequest(f"{source} has {len(documents)} policy documents, but a key has one")
        setting = await _setting_of_file(lookup, values, [raw for _, raw in documents])
        arn = f"arn:{setting.partition}:kms:{setting.region}:{setting.account}:key/00000000-0000-0000-0000-000000000000"
        identities: Mapping[str, Subject] = {}
        texts = [PolicyText(name=name, document=json.dumps(raw)) for name, raw in documents]
        by_arn = users(setting)
    else:
        setting = await lookup.key_setting(values, source if ":key/" in source else None)
        aws = await lookup.aws(setting.region)
        if (found := await find_key(aws, source)) is None:
            raise errors.NotFound(f"cannot check KMS key {source}: region {aws.region} has no such key")
        arn = found.arn
        texts = [PolicyText(name=arn, document=await key_policy(aws, found.arn))]
        by_arn, identities = await _with_identities(aws, users(setting))
    compiled, refused = _compile(texts, Kind.RESOURCE)
    if refused:
        return setting, refused
    subject = Subject(policies=compiled, identities=identities)
    return setting, await off_loop(findings, key_job(setting, arn, by_arn), subject)


def _is_file(source: str) -> bool:
    """Whether a source is a file; a role or key can have no name with a slash, unless it is an ARN or an alias.

    Raises:
        InvalidRequest: The source is another flag.
    """
    if source.startswith("-") and source != _STDIN:
        raise errors.InvalidRequest(f"--check needs a value, and {source} is a flag")
    if source.startswith(("arn:", "alias/")):
        return False
    return source == _STDIN or "/" in source or source.endswith(".json") or Path(source).is_file()


def show(source: str, job: str, setting: Setting, found: Sequence[Finding], output: CheckOutput) -> int:
    """Print the findings; the exit code."""
    code = exit_code(found)
    source = _shown_name(source)
    match output:
        case "json":
            print_json(
                {
                    "source": source,
                    "job": job,
                    "fits": not found,
                    "region": setting.region,
                    "account": setting.account,
                    "eks_cluster": setting.eks_cluster,
                    "hyperpod_cluster": setting.hyperpod_cluster,
                    "findings": [finding.document for finding in found],
                }
            )
        case "table" if not found:
            sys.stdout.write(f"{source} allows what is needed ({job}), and nothing else\n")
        case "table":
            rows = [
                {
                    "no": number,
                    "kind": finding.kind.value,
                    "policy": finding.policy,
                    "statement": finding.statement,
                    "finding": finding.message,
                }
                for number, finding in enumerate(found, 1)
            ]
            print_table(rows, _COLUMNS)
            _print_changes(found)
        case _:
            assert_never(output)
    return code


def _print_changes(found: Sequence[Finding]) -> None:
    """Print the change for each finding; each is a change of the document as it is."""
    for number, finding in enumerate(found, 1):
        if finding.patch:
            lines = ",\n".join(f"  {json.dumps(operation)}" for operation in finding.patch)
            sys.stdout.write(f"\nFor finding {number}, a JSON patch of {finding.policy}:\n[\n{lines}\n]\n")
        elif finding.new_statement is not None:
            statement = json.dumps(finding.new_statement, indent=2)
            sys.stdout.write(f"\nFor finding {number}, a statement for {finding.policy}:\n{statement}\n")


def _findings(job: JobName, setting: Setting, account: ServiceAccount, read: _Source) -> list[Finding]:
    """The findings about the permissions, and for the driver about the trust policy."""
    compiled, refused = _compile(read.policies, Kind.IDENTITY)
    boundary, boundary_refused = _compile([read.boundary] if read.boundary else [], Kind.IDENTITY)
    trust, trust_refused = _compile(
        [PolicyText(name="trust policy", document=read.trust)] if read.trust else [], Kind.TRUST
    )
    found = [*refused, *boundary_refused]
    if not found and (compiled or read.role):
        subject = Subject(
            policies=compiled, boundary=boundary if read.boundary else None, context=_principal_tags(account, read)
        )
        found = findings(_without_own_policy(_job(job, setting, read), subject, read), subject)
    if job == "driver":
        found += trust_refused
        found += [finding for policy in trust for finding in trust_findings(policy, account)]
    return sorted_findings(found)


def _job(job: JobName, setting: Setting, read: _Source) -> Job:
    role = read.role.arn if read.role else setting.iam_arn(_NO_ROLE)
    match job:
        case "driver":
            return driver_job(setting, role)
        case "attach":
            return caller_job(setting, "Attach", role)
        case "detach":
            return caller_job(setting, "Detach", role)
        case _:
            assert_never(job)


def _without_own_policy(job: Job, subject: Subject, read: _Source) -> Job:
    """The job without EC2, for the guide's addition to the driver's role, which needs AWS's policy next to it."""
    own = [step.need.action for step in job.steps if step.need.action.startswith("ec2:")]
    statements = [statement for policy in subject.policies for statement in policy.compiled.statements]
    is_about_ec2 = any("ec2:" in str(policy.raw).lower() for policy in subject.policies)
    if read.role or is_about_ec2 or any(has_action(each, action) for each in statements for action in own):
        return job
    note(f"{read.name} has no action of EC2; the role needs AmazonEBSCSIDriverPolicyV2 or its like as well")
    return replace(job, steps=[step for step in job.steps if not step.need.action.startswith("ec2:")])


def _principal_tags(account: ServiceAccount, read: _Source) -> ContextValues:
    """The tags of the role, and those of its sessions if Pod Identity starts them."""
    tags = dict(read.role.tags) if read.role else {}
    if not read.role or POD_IDENTITY in read.trust:
        namespace, _, name = account.name.partition("/")
        tags |= {
            "eks-cluster-arn": account.setting.eks_cluster_arn,
            "eks-cluster-name": account.setting.eks_cluster,
            "kubernetes-namespace": namespace,
            "kubernetes-service-account": name,
        }
    return {f"aws:PrincipalTag/{key}": value for key, value in tags.items()}


def _compile(texts: Sequence[PolicyText], kind: Kind) -> tuple[list[GivenPolicy], list[Finding]]:
    """The compiled policies, and findings for those that IAM would refuse."""
    compiled, refused = list[GivenPolicy](), list[Finding]()
    for text in texts:
        raw: dict[str, Json] = json.loads(text.document)
        try:
            compiled.append(compile_policy(text.name, raw, kind, is_aws_managed=text.is_aws_managed))
        except MalformedPolicy as error:
            refused.append(refusal(text.name, str(error)))
    return compiled, refused


async def _read_source(aws: Aws, source: str) -> _Source:
    """Read a role or a policy.

    Raises:
        Error: There is none, or the caller may not read it.
    """
    if ":policy/" in source:
        return _Source(name=source, policies=[await read_managed_policy(aws, source)])
    if match := _SESSION.fullmatch(source):
        source = match["role"]
    if source.startswith("arn:") and ":role/" not in source:
        raise errors.InvalidRequest(f"--check {source} is neither a role nor a policy nor a file")
    if (role := await find_role(aws, source)) is None:
        raise errors.NotFound(
            f"cannot check role {source}: account {(await aws.caller()).account} has no such role or file"
        )
    note(f"reading the policies of role {role.name}")
    boundary = await read_managed_policy(aws, role.boundary) if role.boundary else None
    policies = await read_role_policies(aws, role.name)
    return _Source(name=role.name, policies=policies, trust=role.trust, boundary=boundary, role=role)


def _source_of(source: str, documents: Sequence[tuple[str, Mapping[str, Json]]]) -> _Source:
    kinds = [(name, raw, kind_of(raw)) for name, raw in documents]
    trust = [raw for _, raw, kind in kinds if kind is Kind.TRUST]
    if any(kind is Kind.RESOURCE for _, _, kind in kinds):
        raise errors.InvalidRequest(
            f"{source} has a policy with principals; for the policy of a key use: policy key --check"
        )
    return _Source(
        name=source,
        policies=[
            PolicyText(name=name, document=json.dumps(raw)) for name, raw, kind in kinds if kind is Kind.IDENTITY
        ],
        trust=json.dumps(trust[0]) if trust else "",
    )


async def _issuer(lookup: Lookup, setting: Setting, *, is_live: bool) -> str:
    """The issuer of the cluster; empty if it is not known, because then those of the trust policy are accepted."""
    if setting.eks_cluster == EVERY or not is_live:
        return ""
    try:
        return await lookup.issuer(setting)
    except errors.Error as error:
        note(f"the issuer in the trust policy is not checked: {error}")
        return ""


async def _with_identities(aws: Aws, users: KeyUsers) -> tuple[KeyUsers, Mapping[str, Subject]]:
    """The users of a key with the ARNs of their roles, and the policies of those that can be read."""
    arns, subjects = dict[str, str](), dict[str, Subject]()
    for arn in dict.fromkeys((*filter(None, [users.driver]), *users.callers, *users.execution_roles)):
        arns[arn] = arn
        if ":role/" not in arn:
            continue
        try:
            role = await find_role(aws, arn.rpartition("/")[2])
            if role is None:
                note(f"{arn} does not exist")
                continue
            policies, _ = _compile(await read_role_policies(aws, role.name), Kind.IDENTITY)
            limit = await read_managed_policy(aws, role.boundary) if role.boundary else None
        except errors.Denied as error:
            note(f"the policies of {arn} are not taken into account: {error}")
            continue
        arns[arn] = role.arn
        boundary = _compile([limit], Kind.IDENTITY)[0] if limit else None
        tags = {f"aws:PrincipalTag/{key}": value for key, value in role.tags.items()}
        subjects[role.arn] = Subject(policies=policies, boundary=boundary, context=tags)
    known = KeyUsers(
        driver=arns.get(users.driver, ""),
        callers=tuple(arns[arn] for arn in users.callers),
        execution_roles=tuple(arns[arn] for arn in users.execution_roles),
    )
    return known, subjects


async def _setting_of_file(lookup: Lookup, values: AccountValues, documents: Sequence[Mapping[str, Json]]) -> Setting:
    """The setting by the flags and AWS; without AWS, what no flag gives is read from the documents themselves."""
    try:
        return await (lookup.setting(values) if isinstance(values, Values) else lookup.key_setting(values, None))
    except errors.InvalidRequest:
        raise
    except errors.Error as error:
        named = values if isinstance(values, Values) else Values(account=values.account, partition=values.partition)
        given = known_values(named, lookup.options.region)
        known = {**inferred_values(documents), **given}
        lacking = [name for name in ("account", "region") if name not in known]
        if lacking:
            flags = " and ".join(f"--{name}" for name in lacking)
            raise errors.InvalidRequest(
                f"the file does not say which {' and '.join(lacking)} it is for; give {flags}"
            ) from error
        note(f"account {known['account']} and region {known['region']} are those of the file: {error}")
        return Setting(
            partition=known.get("partition", "aws"),
            region=known["region"],
            account=known["account"],
            eks_cluster=known.get("name", EVERY),
            hyperpod_cluster=known.get("id", EVERY),
        )


def _shown_name(source: str) -> str:
    return "stdin" if source == _STDIN else source


def _read_file(source: str) -> str:
    """Read a file or stdin.

    Raises:
        InvalidRequest: The file cannot be read, or is not text.
    """
    try:
        return sys.stdin.read() if source == _STDIN else Path(source).read_text(encoding="utf-8")
    except OSError as error:
        raise errors.InvalidRequest(f"cannot read {source}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise errors.InvalidRequest(f"cannot read {source}: it is not UTF-8 text") from error
