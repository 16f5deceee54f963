"""What is found in policy documents: missing, mistyped and too wide permissions, and the changes that fix them."""

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperpod_ebs.access.exit_codes import FAILS, MAY_FAIL, OK
from hyperpod_ebs.access.policy.comparison.compare import findings
from hyperpod_ebs.access.policy.comparison.findings import Finding, exit_code
from hyperpod_ebs.access.policy.comparison.given_policies import GivenPolicy, compile_policy, find_documents
from hyperpod_ebs.access.policy.comparison.jobs import Job, Subject, caller_job, driver_job, key_job
from hyperpod_ebs.access.policy.documents import attach_document, detach_document, driver_documents
from hyperpod_ebs.access.policy.key_documents import KeyUsers, key_policy
from hyperpod_ebs.access.policy.statements import Setting
from hyperpod_ebs.driver.model.errors import InvalidRequest
from hyperpod_ebs.iam.documents import Kind, MalformedPolicy

Json = Any  # a policy document
Statement = Mapping[str, Any]

ACCOUNT: Final = "123456789012"
SETTING: Final = Setting(
    partition="aws", region="us-west-2", account=ACCOUNT, eks_cluster="training", hyperpod_cluster="abcdefghijkl"
)
ROLE: Final = f"arn:aws:iam::{ACCOUNT}:role/driver"
ANN: Final = f"arn:aws:iam::{ACCOUNT}:user/ann"
NODE: Final = f"arn:aws:iam::{ACCOUNT}:role/node"
USERS: Final = KeyUsers(driver=ROLE, callers=(ANN,), execution_roles=(NODE,))
KEY: Final = f"arn:aws:kms:us-west-2:{ACCOUNT}:key/1"

HYPERPOD: Final = f"arn:aws:sagemaker:us-west-2:{ACCOUNT}:cluster/*"
EKS: Final = f"arn:aws:eks:us-west-2:{ACCOUNT}:cluster/training"
VOLUMES: Final = f"arn:aws:ec2:us-west-2:{ACCOUNT}:volume/*"


def allow(*actions: str, resource: str | list[str] = "*", **members: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": list(actions), "Resource": resource, **members}


def deny(*actions: str, **members: Any) -> dict[str, Any]:
    return {"Effect": "Deny", "Action": list(actions), "Resource": "*", **members}


def document(*statements: Statement, version: str = "2012-10-17") -> Json:
    return {"Version": version, "Statement": list(statements)}


ON_NODES: Final = allow("sagemaker:AttachClusterNodeVolume", resource=HYPERPOD)
DESCRIBE_EKS: Final = allow("eks:DescribeCluster", resource=EKS)
ATTACH: Final = allow("ec2:AttachVolume", resource=VOLUMES)
SEE: Final = allow("ec2:DescribeVolumes")


def guide(*describe: str) -> Json:
    """What SageMaker's guide prints for callers of AttachClusterNodeVolume."""
    return document(ON_NODES, DESCRIBE_EKS, allow("ec2:AttachVolume", *describe, resource=VOLUMES))


def with_condition(operator: str, key: str, *values: Any) -> Json:
    """A fitting document, with another condition on ec2:AttachVolume."""
    return document(ON_NODES, DESCRIBE_EKS, {**ATTACH, "Condition": {operator: {key: list(values)}}}, SEE)


def on_volumes(resource: str | list[str]) -> Json:
    return document(ON_NODES, DESCRIBE_EKS, allow("ec2:AttachVolume", resource=resource), SEE)


FITS: Final = document(ON_NODES, DESCRIBE_EKS, ATTACH, SEE)


class Case(NamedTuple):
    """A document for callers of AttachClusterNodeVolume, the kinds of findings, and a part of the first one."""

    id: str
    document: Json
    kinds: Sequence[str] = ()
    part: str = ""


MISSING, MISTYPED, OPTIONAL, WIDE = "missing", "mistyped", "missing for some uses", "too wide"

CASES: Final = [
    Case("the right document", FITS),
    Case("one statement without brackets", {"Version": "2012-10-17", "Statement": dict(SEE)}, [MISSING] * 3),
    Case("another order and case", document(SEE, allow("EC2:attachvolume", resource=VOLUMES), ON_NODES, DESCRIBE_EKS)),
    Case(
        "actions with wildcards",
        document(allow("sagemaker:Attach*NodeVolume", resource=HYPERPOD), *FITS["Statement"][1:]),
    ),
    Case("ids of volumes", on_volumes(f"arn:aws:ec2:us-west-2:{ACCOUNT}:volume/vol-*")),
    Case("the guide with DescribeVolume", guide("ec2:DescribeVolume"), [MISTYPED], "ec2:DescribeVolume does not exist"),
    Case("the guide with DescribeVolumes", guide("ec2:DescribeVolumes"), [MISTYPED], "takes no resource but *"),
    Case(
        "the guide's line in a statement of its own",
        document(ON_NODES, DESCRIBE_EKS, ATTACH, allow("ec2:DescribeVolumes", resource=VOLUMES)),
        [MISTYPED],
        "takes no resource but *",
    ),
    Case(
        "the guide's line without brackets",
        {"Version": "2012-10-17", "Statement": allow("ec2:AttachVolume", "ec2:DescribeVolume", resource=VOLUMES)},
        [MISSING, MISSING, MISTYPED],
    ),
    Case("without the guide's line", guide(), [OPTIONAL], "see the volume's state"),
    Case("nothing", document(allow("s3:GetObject")), [MISSING, MISSING, MISSING, OPTIONAL, WIDE]),
    Case("without EKS", document(ON_NODES, ATTACH, SEE), [MISSING], "eks:DescribeCluster is not allowed"),
    Case(
        "misspelt action",
        document(allow("sagemaker:AttachClusterNodeVolumes", resource=HYPERPOD), *FITS["Statement"][1:]),
        [MISTYPED],
        "the action is sagemaker:AttachClusterNodeVolume",
    ),
    Case(
        "misspelt service",
        document(allow("sagemakr:AttachClusterNodeVolume", resource=HYPERPOD), *FITS["Statement"][1:]),
        [MISTYPED],
        "the action is sagemaker:AttachClusterNodeVolume",
    ),
    Case(
        "other region",
        on_volumes(VOLUMES.replace("us-west-2", "us-east-1")),
        [MISTYPED],
        "the region is us-east-1, not us-west-2",
    ),
    Case("other account", on_volumes(VOLUMES.replace(ACCOUNT, "1" * 12)), [MISTYPED], "the account is 111111111111"),
    Case(
        "other partition",
        on_volumes(VOLUMES.replace("arn:aws:", "arn:aws-us-gov:")),
        [MISTYPED],
        "the partition is aws-us-gov",
    ),
    Case(
        "other cluster",
        document(ON_NODES, allow("eks:DescribeCluster", resource=EKS + "-2"), ATTACH, SEE),
        [MISTYPED],
        "the resource is cluster/training-2, not cluster/training",
    ),
    Case(
        "misspelt kind",
        on_volumes(VOLUMES.replace("volume", "volumes")),
        [MISTYPED],
        "the resource is volumes/*, not volume/*",
    ),
    Case("other kind", on_volumes(VOLUMES.replace("volume/", "instance/")), [MISSING], "no policy allows it"),
    Case(
        "one volume",
        on_volumes(VOLUMES.replace("*", "vol-1")),
        [MISTYPED],
        "the resource is volume/vol-1, not volume/*",
    ),
    Case("any volume", on_volumes("*"), [WIDE], "any region; resources in any account"),
    Case("any region", on_volumes(VOLUMES.replace("us-west-2", "*")), [WIDE], "resources in any region"),
    Case(
        "any EKS cluster",
        document(ON_NODES, allow("eks:DescribeCluster", resource=EKS.replace("training", "*")), ATTACH, SEE),
        [WIDE],
        "every EKS cluster",
    ),
    Case("administrator", document(allow("*")), [WIDE], "iam:PassRole"),
    Case("all of EC2", document(ON_NODES, DESCRIBE_EKS, allow("ec2:*")), [WIDE], "ec2:TerminateInstances"),
    Case("describe actions", document(ON_NODES, DESCRIBE_EKS, ATTACH, allow("ec2:Describe*")), [WIDE], "and 1"),
    Case(
        "detach as well",
        document(*FITS["Statement"], allow("ec2:DetachVolume", resource=VOLUMES)),
        [WIDE],
        "ec2:DetachVolume",
    ),
    Case("another service", document(*FITS["Statement"], allow("s3:GetObject")), [WIDE], "s3:GetObject"),
    Case("NotAction", document({"Effect": "Allow", "NotAction": "iam:*", "Resource": "*"}), [WIDE], "ec2:RunInstances"),
    Case(
        "all but the needed",
        document({"Effect": "Allow", "NotAction": ["ec2:*", "eks:*"], "Resource": "*"}),
        [MISSING, MISSING, OPTIONAL, WIDE],
        "eks:DescribeCluster",
    ),
    Case(
        "NotResource",
        document(
            ON_NODES, DESCRIBE_EKS, SEE, {"Effect": "Allow", "Action": "ec2:AttachVolume", "NotResource": VOLUMES}
        ),
        [MISSING],
        "no policy allows it",
    ),
    Case("denied", document(*FITS["Statement"], deny("ec2:AttachVolume")), [MISSING], "statement 5 denies it"),
    Case("denied by a pattern", document(*FITS["Statement"], deny("ec2:Att*")), [MISSING], "statement 5 denies it"),
    Case(
        "the rest denied",
        document(
            allow("ec2:AttachVolume", "ec2:RunInstances", resource=VOLUMES),
            ON_NODES,
            DESCRIBE_EKS,
            SEE,
            deny("ec2:RunInstances"),
        ),
    ),
    Case(
        "denied without TLS",
        document(*FITS["Statement"], deny("*", Condition={"Bool": {"aws:SecureTransport": "false"}})),
    ),
    Case(
        "denied elsewhere",
        document(*FITS["Statement"], deny("*", Condition={"StringNotEquals": {"aws:RequestedRegion": "us-west-2"}})),
    ),
    Case(
        "denied outside of a network",
        document(*FITS["Statement"], deny("ec2:*", Condition={"NotIpAddress": {"aws:SourceIp": "10.0.0.0/8"}})),
        [OPTIONAL],
        "depending on aws:SourceIp",
    ),
    Case("inside of a network", with_condition("IpAddress", "aws:SourceIp", "10.0.0.0/8"), [OPTIONAL], "aws:SourceIp"),
    Case(
        "tagged volumes",
        with_condition("StringEquals", "aws:ResourceTag/team", "ml"),
        [MISSING],
        "aws:ResourceTag/team is ml",
    ),
    Case("through SageMaker", with_condition("StringEquals", "aws:CalledViaLast", "sagemaker.amazonaws.com")),
    Case(
        "through EC2",
        with_condition("StringEquals", "aws:CalledViaLast", "ec2.amazonaws.com"),
        [MISSING],
        "which is sagemaker",
    ),
    Case("Boolean as JSON", with_condition("Bool", "aws:ViaAWSService", True)),  # noqa: FBT003 - a value of JSON
    Case("Boolean as string", with_condition("Bool", "aws:viaAWSservice", "true")),
    Case("no Boolean", with_condition("Bool", "aws:ViaAWSService", "yes"), [MISSING, MISTYPED]),
    Case(
        "misspelt key",
        with_condition("StringEqualsIfExists", "aws:PrincipalAcount", ACCOUNT),
        [MISTYPED],
        "the key is aws:PrincipalAccount",
    ),
    Case(
        "wildcard in StringEquals",
        with_condition("StringEquals", "aws:PrincipalArn", "arn:aws:iam::*:role/*"),
        [MISTYPED],
    ),
    Case("wildcard in StringLike", with_condition("StringLike", "aws:PrincipalArn", "arn:aws:iam::*:role/*")),
    Case("no ARN", with_condition("ArnLike", "aws:PrincipalArn", "driver"), [MISSING, MISTYPED]),
    Case(
        "no number",
        with_condition("NumericLessThanIfExists", "ec2:VolumeSize", "small"),
        [MISTYPED],
        "compares numbers",
    ),
    Case(
        "several values",
        with_condition("StringEquals", "aws:CalledVia", "sagemaker.amazonaws.com"),
        [MISTYPED],
        "ForAnyValue:StringEquals",
    ),
    Case(
        "one of several values", with_condition("ForAnyValue:StringEquals", "aws:CalledVia", "sagemaker.amazonaws.com")
    ),
    Case("variables", with_condition("StringEquals", "aws:PrincipalArn", "${aws:PrincipalArn}")),
    Case(
        "variables in the old version",
        {**with_condition("StringEquals", "aws:PrincipalArn", "${aws:PrincipalArn}"), "Version": "2008-10-17"},
        [MISTYPED],
    ),
    Case("the old version", {**FITS, "Version": "2008-10-17"}),
]


def given_policy(raw: Json, kind: Kind = Kind.IDENTITY, name: str = "own") -> GivenPolicy:
    return compile_policy(name, json.loads(json.dumps(raw)), kind)


def kinds_of(found: Sequence[Finding]) -> list[str]:
    return [finding.kind.value for finding in found]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_document_for_callers_of_attach(case: Case) -> None:
    """SageMaker Developer Guide, "Using the Amazon EBS CSI driver on SageMaker HyperPod EKS clusters"."""
    found = findings(caller_job(SETTING, "Attach", ROLE), Subject(policies=[given_policy(case.document)]))

    assert kinds_of(found) == list(case.kinds), found
    assert case.part in "; ".join(finding.message for finding in found)
    codes = {(): OK, (OPTIONAL,): MAY_FAIL, (WIDE,): MAY_FAIL}
    assert exit_code(found) == codes.get(tuple(case.kinds), FAILS)


REPAIRABLE: Final = [case for case in CASES if case.id not in {"denied by a pattern", "denied outside of a network"}]


@pytest.mark.parametrize("case", REPAIRABLE, ids=lambda case: case.id)
def test_the_changes_make_a_document_fit(case: Case) -> None:
    """RFC 6902: the changes are JSON patches of the document."""
    job, policy = caller_job(SETTING, "Attach", ROLE), given_policy(case.document)

    for _ in range(8):
        found = findings(job, Subject(policies=[policy]))
        for finding in found:
            if finding.patch and (changed := policy.with_patch(finding.patch)):
                policy = changed
                break

    left = findings(job, Subject(policies=[policy]))
    assert [finding for finding in left if finding.patch] == []


def test_a_denial_of_several_actions_is_one_finding_with_one_change() -> None:
    inline = [each.json for each in driver_documents(SETTING, inline=True).values()]
    policies = [given_policy(raw, name=f"policy {index}") for index, raw in enumerate(inline)]
    denial = given_policy(document(deny("ec2:DeleteVolume", "ec2:RunInstances", "ec2:ModifyVolume")), name="denial")

    (finding,) = findings(driver_job(SETTING, ROLE), Subject(policies=[*policies, denial]))

    (operation,) = finding.patch
    assert (finding.policy, operation["value"]) == ("denial", "ec2:RunInstances")


@pytest.mark.parametrize("name", ["AmazonEBSCSIDriverPolicyV2", "AdministratorAccess"])
def test_policies_of_aws_are_accepted_for_drivers_alone(name: str) -> None:
    arn = f"arn:aws:iam::aws:policy/{name}"
    policy = compile_policy(arn, document(allow("*")), Kind.IDENTITY, is_aws_managed=True)

    found = findings(driver_job(SETTING, ROLE), Subject(policies=[policy]))

    assert [(finding.policy, finding.patch) for finding in found] == ([] if "EBS" in name else [(arn, ())])
    assert exit_code(found) == (OK if "EBS" in name else MAY_FAIL)


KEY_POLICY: Final = json.loads(json.dumps(key_policy(SETTING, USERS).json))


def key_with(change: str, to: str) -> Json:
    """The printed policy of a key, with another text."""
    text = json.dumps(KEY_POLICY)
    assert change in text
    return json.loads(text.replace(change, to))


KEY_CASES: Final = [
    Case("as printed", KEY_POLICY),
    Case("key in another case", key_with("kms:EncryptionContextKeys", "KMS:encryptionContextkeys")),
    Case(
        "key without its last letter",
        key_with("kms:EncryptionContextKeys", "kms:EncryptionContextKey"),
        [MISTYPED],
        "kms:EncryptionContextKeys",
    ),
    Case("Boolean as JSON", key_with('"kms:GrantIsForAWSResource": "true"', '"kms:GrantIsForAWSResource": true')),
    Case(
        "Boolean that is false",
        key_with('"kms:GrantIsForAWSResource": "true"', '"kms:GrantIsForAWSResource": false'),
        [MISSING, MISSING],
    ),
    Case(
        "other region",
        key_with("ec2.us-west-2", "ec2.us-east-1"),
        [MISSING, MISSING],
        "kms:ViaService is ec2.us-east-1.amazonaws.com",
    ),
    Case("other service", key_with("sagemaker.us-west-2", "ec2.us-west-2"), [MISSING], "role/node may not"),
    Case(
        "other account",
        key_with(f'"kms:CallerAccount": "{ACCOUNT}"', '"kms:CallerAccount": "999988887777"'),
        [MISSING, MISSING],
    ),
    Case(
        "a session", key_with(ROLE, f"arn:aws:sts::{ACCOUNT}:assumed-role/driver/one"), [MISTYPED], "a single session"
    ),
    Case("a deleted role", key_with(ROLE, "AROAEXAMPLEEXAMPLE123"), [MISTYPED], "that was deleted"),
    Case("a role with a path", key_with(ROLE, ROLE.replace("role/", "role/ebs/")), [MISTYPED], f", not {ROLE}"),
    Case("other driver", key_with(ROLE, f"{ROLE}-2"), [MISSING, MISSING, MISSING]),
    Case("everyone", key_with(f'"AWS": "{NODE}"', '"AWS": "*"'), [WIDE, WIDE], "every principal"),
    Case(
        "any region",
        key_with(
            '"StringEquals": {"kms:ViaService": "ec2.us-west-2.',
            '"StringLike": {"kms:ViaService": "ec2.*.',
        ),
        [WIDE],
        "the condition on kms:ViaService",
    ),
    Case("no administrator", {**KEY_POLICY, "Statement": KEY_POLICY["Statement"][1:]}, [OPTIONAL], "kms:PutKeyPolicy"),
    Case(
        "administrator alone",
        {**KEY_POLICY, "Statement": KEY_POLICY["Statement"][:1]},
        [MISSING] * 5,
        "leaves it to the policies",
    ),
    Case(
        "all actions",
        key_with('"Action": "kms:DescribeKey"', '"Action": "kms:*"'),
        [WIDE, WIDE],
        "kms:ScheduleKeyDeletion",
    ),
]


@pytest.mark.parametrize("case", KEY_CASES, ids=lambda case: case.id)
def test_the_policy_of_a_key(case: Case) -> None:
    """SageMaker Developer Guide, "Customer managed AWS KMS key encryption for SageMaker HyperPod"."""
    found = findings(key_job(SETTING, KEY, USERS), Subject(policies=[given_policy(case.document, Kind.RESOURCE)]))

    assert sorted({*kinds_of(found)}) == sorted({*case.kinds}), found
    assert case.part in "; ".join(finding.message for finding in found)


names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,20}", fullmatch=True)
accounts = st.builds(
    Setting,
    partition=st.sampled_from(["aws", "aws-cn", "aws-us-gov"]),
    region=st.sampled_from(["us-west-2", "cn-north-1", "us-gov-west-1", "eu-central-1"]),
    account=st.from_regex(r"[0-9]{12}", fullmatch=True),
    eks_cluster=names | st.just("*"),
    hyperpod_cluster=st.from_regex(r"[a-z0-9]{12}", fullmatch=True) | st.just("*"),
)


def generated_jobs(setting: Setting) -> Iterator[tuple[Job, Kind, list[Json]]]:
    """Each job with its documents."""
    role = setting.iam_arn("role/driver")
    users = KeyUsers(
        driver=role, callers=(setting.iam_arn("user/ann"),), execution_roles=(setting.iam_arn("role/node"),)
    )
    key = f"arn:{setting.partition}:kms:{setting.region}:{setting.account}:key/1"
    inline = [each.json for each in driver_documents(setting, inline=True).values()]
    yield driver_job(setting, role), Kind.IDENTITY, inline
    yield caller_job(setting, "Attach", role), Kind.IDENTITY, [attach_document(setting).json]
    yield caller_job(setting, "Detach", role), Kind.IDENTITY, [detach_document(setting).json]
    yield key_job(setting, key, users), Kind.RESOURCE, [key_policy(setting, users).json]


def subject_of(documents: Sequence[Json], kind: Kind) -> Subject:
    return Subject(policies=[given_policy(raw, kind, f"policy {index}") for index, raw in enumerate(documents)])


@settings(max_examples=15)
@given(accounts)
def test_generated_documents_fit(setting: Setting) -> None:
    for job, kind, documents in generated_jobs(setting):
        assert findings(job, subject_of(documents, kind)) == []


def removals(documents: Sequence[Json]) -> Iterator[tuple[str, list[Json]]]:
    """The documents without a statement, an action, a resource, a principal, a condition, or one of its values."""
    whole = json.loads(json.dumps(documents))
    for number, raw in enumerate(whole):
        for index, statement in enumerate(raw["Statement"]):
            for path in ((), *_paths(statement)):
                changed = copy.deepcopy(whole)
                place = changed[number]["Statement"]
                *parents, last = (index, *path)
                for word in parents:
                    place = place[word]
                del place[last]
                yield f"{statement['Sid']} {path}", [each for each in changed if each["Statement"]]


def _paths(statement: Any) -> Iterator[tuple[Any, ...]]:
    for member in ("Action", "Resource"):
        if isinstance(statement[member], list):
            yield from ((member, position) for position in range(len(statement[member])))
    for kind, principals in statement.get("Principal", {}).items():
        if isinstance(principals, list):
            yield from (("Principal", kind, position) for position in range(len(principals)))
    for operator, keys in statement.get("Condition", {}).items():
        for key, values in keys.items():
            yield ("Condition", operator, key)
            if isinstance(values, list) and len(values) > 1:
                yield from (("Condition", operator, key, position) for position in range(len(values)))


@settings(max_examples=40)
@given(accounts, st.data())
def test_each_removal_from_a_generated_document_is_found_and_given_back(setting: Setting, data: st.DataObject) -> None:
    job, kind, documents = data.draw(st.sampled_from(list(generated_jobs(setting))))
    what, changed = data.draw(st.sampled_from(list(removals(documents))))
    subject = subject_of(changed, kind)

    found = findings(job, subject)

    assert found, what
    policies = {policy.name: policy for policy in subject.policies}
    for finding in found:
        fixed = policies[finding.policy].with_patch(finding.patch)
        assert fixed is not None, finding
        policies[finding.policy] = fixed
    assert findings(job, Subject(policies=list(policies.values()))) == [], what


DAMAGE: Final = [
    None,
    [],
    {},
    True,
    5,
    "",
    "*",
    "${aws:x}",
    "arn:aws:ec2",
    "ec2:[a",
    ["*"],
    [["a"]],
    {"AWS": "*"},
    {"a": [1]},
]


def nodes(value: Json, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all values in a JSON value, except itself."""
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for word, member in members:
        yield (*path, word)
        yield from nodes(member, (*path, word))


@settings(max_examples=60)
@given(st.data())
def test_a_damaged_document_is_compared_or_refused(data: st.DataObject) -> None:
    job, kind, documents = data.draw(st.sampled_from(list(generated_jobs(SETTING))))
    damaged = json.loads(json.dumps(documents))
    *parents, last = data.draw(st.sampled_from(list(nodes(damaged))))
    place = damaged
    for word in parents:
        place = place[word]
    place[last] = copy.deepcopy(data.draw(st.sampled_from(DAMAGE)))

    try:
        found = [each for number, raw in enumerate(damaged) for each in find_documents(json.dumps(raw), str(number))]
        subject = Subject(policies=[given_policy(raw, kind, name) for name, raw in found])
    except (InvalidRequest, MalformedPolicy):
        return

    assert all(finding.document["message"] for finding in findings(job, subject))
