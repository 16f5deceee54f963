"""`hyperpod-ebs policy … --check`: compare a role, a policy, a file or a key's policy with what a job needs."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final, Literal, assert_never

from hyperpod_ebs.access.aws.keys import find_key, key_policy
from hyperpod_ebs.access.aws.role_policies import PolicyText
from hyperpod_ebs.access.console import note
from hyperpod_ebs.access.policy.check_sources import (
    Source,
    compile_texts,
    is_file,
    read_file,
    read_identities,
    read_source,
    shown_name,
    source_of_documents,
)
from hyperpod_ebs.access.policy.comparison.compare import findings
from hyperpod_ebs.access.policy.comparison.findings import Finding, sorted_findings
from hyperpod_ebs.access.policy.comparison.given_policies import find_documents
from hyperpod_ebs.access.policy.comparison.inferred_setting import inferred_values
from hyperpod_ebs.access.policy.comparison.job_requests import Values as ContextValues
from hyperpod_ebs.access.policy.comparison.jobs import Job, Subject, caller_job, driver_job, has_action, key_job
from hyperpod_ebs.access.policy.comparison.trust import POD_IDENTITY, ServiceAccount, trust_findings
from hyperpod_ebs.access.policy.key_documents import KeyUsers
from hyperpod_ebs.access.policy.statements import EVERY, Setting
from hyperpod_ebs.access.policy.trust_documents import SERVICE_ACCOUNT
from hyperpod_ebs.access.policy.values import AccountValues, Lookup, Values, known_values
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.iam.documents import Json, Kind
from hyperpod_ebs.kit.files import off_loop

JobName = Literal["driver", "attach", "detach"]

_NO_ROLE: Final = "role/hyperpod-ebs"
"""The role of a document that is compared without a role."""


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
    if await off_loop(is_file, source):
        text = await off_loop(read_file, source)
        documents = find_documents(text, shown_name(source))
        setting = await _setting_of_file(lookup, values, [raw for _, raw in documents])
        read = source_of_documents(shown_name(source), documents)
    else:
        setting = await lookup.setting(values)
        read = await read_source(await lookup.aws(setting.region), source)
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
    if await off_loop(is_file, source):
        documents = find_documents(await off_loop(read_file, source), shown_name(source))
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
        by_arn, identities = await read_identities(aws, users(setting))
    compiled, refused = compile_texts(texts, Kind.RESOURCE)
    if refused:
        return setting, refused
    subject = Subject(policies=compiled, identities=identities)
    return setting, await off_loop(findings, key_job(setting, arn, by_arn), subject)


def _findings(job: JobName, setting: Setting, account: ServiceAccount, read: Source) -> list[Finding]:
    """The findings about the permissions, and for the driver about the trust policy."""
    compiled, refused = compile_texts(read.policies, Kind.IDENTITY)
    boundary, boundary_refused = compile_texts([read.boundary] if read.boundary else [], Kind.IDENTITY)
    trust, trust_refused = compile_texts(
        [PolicyText(name="trust policy", document=read.trust)] if read.trust else [], Kind.TRUST
    )
    found = [*refused, *boundary_refused]
    if not found and (compiled or read.role):
        subject = Subject(
            policies=compiled, boundary=boundary if read.boundary else None, context=_principal_tags(account, read)
        )
        needed = _job(job, setting, read)
        found = findings(_without_own_policy(needed, subject, read) if job == "driver" else needed, subject)
    if job == "driver":
        found += trust_refused
        found += [finding for policy in trust for finding in trust_findings(policy, account)]
    return sorted_findings(found)


def _job(job: JobName, setting: Setting, read: Source) -> Job:
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


def _without_own_policy(job: Job, subject: Subject, read: Source) -> Job:
    """The job without EC2, for the guide's addition to the driver's role, which needs AWS's policy next to it."""
    own = [step.need.action for step in job.steps if step.need.action.startswith("ec2:")]
    statements = [statement for policy in subject.policies for statement in policy.compiled.statements]
    is_about_ec2 = any("ec2:" in str(policy.raw).lower() for policy in subject.policies)
    if read.role or is_about_ec2 or any(has_action(each, action) for each in statements for action in own):
        return job
    note(f"{read.name} has no action of EC2; the role needs AmazonEBSCSIDriverPolicyV2 or its like as well")
    return replace(job, steps=[step for step in job.steps if not step.need.action.startswith("ec2:")])


def _principal_tags(account: ServiceAccount, read: Source) -> ContextValues:
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


async def _issuer(lookup: Lookup, setting: Setting, *, is_live: bool) -> str:
    """The issuer of the cluster; empty if it is not known, because then those of the trust policy are accepted."""
    if setting.eks_cluster == EVERY or not is_live:
        return ""
    try:
        return await lookup.issuer(setting)
    except errors.Error as error:
        note(f"the issuer in the trust policy is not checked: {error}")
        return ""


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
