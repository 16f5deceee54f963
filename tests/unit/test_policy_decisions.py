"""Policy decisions: allowed or denied, and the statement or the missing part that decided."""

import json
from typing import Any

import pytest

from hyperpod_ebs.iam import documents
from hyperpod_ebs.iam.decision import (
    Allowed,
    Decision,
    DeniedExplicitly,
    DeniedImplicitly,
    Policies,
    ResourcePolicy,
    Source,
    decide,
)
from hyperpod_ebs.iam.documents import Kind, Policy
from hyperpod_ebs.iam.request import Context, Principal, PrincipalType, Request
from hyperpod_ebs.iam.statements import Element

ACCOUNT = "111122223333"
BOB = Principal(type=PrincipalType.USER, arn=f"arn:aws:iam::{ACCOUNT}:user/bob", account=ACCOUNT, unique_id="AIDABOB")
JOB = Principal(
    type=PrincipalType.ROLE_SESSION,
    arn=f"arn:aws:sts::{ACCOUNT}:assumed-role/training/job",
    account=ACCOUNT,
    role=f"arn:aws:iam::{ACCOUNT}:role/training",
)
ROOT = Principal(type=PrincipalType.ACCOUNT, arn=f"arn:aws:iam::{ACCOUNT}:root", account=ACCOUNT)
VOLUME = f"arn:aws:ec2:us-west-2:{ACCOUNT}:volume/vol-1"
KEY = f"arn:aws:kms:us-west-2:{ACCOUNT}:key/1"
ALL = {"Effect": "Allow", "Action": "*", "Resource": "*"}
DENY = {**ALL, "Effect": "Deny"}
ALL_BUT = [{**ALL, "Principal": "*"}]
"""The first statement of a key policy that allows everything except what its other statements deny."""
NOTHING = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}


def policy(*statements: dict[str, Any], kind: Kind = Kind.IDENTITY, name: str = "policy") -> Policy:
    """A policy of these statements."""
    return documents.parse(json.dumps({"Version": "2012-10-17", "Statement": statements}), kind=kind, name=name)


def key_policy(*statements: dict[str, Any]) -> ResourcePolicy:
    """A policy of a KMS key."""
    return ResourcePolicy(policy=policy(*statements, kind=Kind.RESOURCE), is_required=True)


def request(
    action: str = "ec2:AttachVolume",
    resource: str = VOLUME,
    principal: Principal = BOB,
    account: str = ACCOUNT,
    **context: Any,
) -> Request:
    """A request; underscores in the names of context keys stand for colons."""
    values = {key.replace("_", ":", 1): value for key, value in context.items()}
    return Request(
        principal=principal, action=action, resource=resource, resource_account=account, context=Context(values)
    )


def is_met(condition: dict[str, Any], **context: Any) -> bool:
    """Whether a statement with the condition allows the request."""
    decision = decide(request(**context), Policies(identity=[policy({**ALL, "Condition": condition})]))
    return isinstance(decision, Allowed)


def test_an_allowed_request_names_the_statement_that_allows_it() -> None:
    """IAM User Guide, "Policy evaluation logic"."""
    allow = {"Sid": "Attach", "Effect": "Allow", "Action": "ec2:Attach*", "Resource": "arn:aws:ec2:*:*:volume/*"}

    decision = decide(request(), Policies(identity=[policy(NOTHING, allow, name="storage")]))

    assert isinstance(decision, Allowed)
    assert decision.rule is not None
    assert (decision.rule.source, decision.rule.policy, decision.rule.statement.name) == (
        Source.IDENTITY,
        "storage",
        "Attach",
    )


def test_an_explicit_deny_wins_and_is_named() -> None:
    """IAM User Guide, "The difference between explicit and implicit denies"."""
    decision = decide(request(), Policies(identity=[policy(ALL), policy({**ALL, "Effect": "Deny"}, name="guard")]))

    assert isinstance(decision, DeniedExplicitly)
    assert (decision.rule.policy, decision.rule.statement.name) == ("guard", "statement 1")


@pytest.mark.parametrize(
    ("statement", "missing"),
    [
        (NOTHING, None),
        ({**ALL, "Resource": "arn:aws:ec2:*:*:snapshot/*"}, Element.RESOURCE),
        ({**ALL, "Condition": {"Bool": {"aws:SecureTransport": "true"}}}, Element.CONDITION),
    ],
)
def test_an_implicit_deny_names_the_element_that_keeps_the_nearest_statement_from_matching(
    statement: dict[str, Any], missing: Element | None
) -> None:
    """IAM User Guide, "Troubleshoot access denied error messages"."""
    decision = decide(request(), Policies(identity=[policy(NOTHING, statement)]))

    assert isinstance(decision, DeniedImplicitly)
    assert decision.source is Source.IDENTITY
    assert (decision.nearest.mismatch.element if decision.nearest else None) == missing


@pytest.mark.parametrize(
    ("policies", "source"),
    [
        (Policies(identity=[policy(ALL)], boundary=[policy(NOTHING)]), Source.BOUNDARY),
        (Policies(identity=[policy(ALL)], session=[policy(NOTHING)]), Source.SESSION),
    ],
)
def test_a_limit_that_does_not_allow_the_action_denies_it(policies: Policies, source: Source) -> None:
    """IAM User Guide, "Permissions boundaries for IAM entities" and "Session policies"."""
    decision = decide(request(), policies)

    assert isinstance(decision, DeniedImplicitly)
    assert decision.source is source


def test_a_key_policy_decides_alone_unless_it_delegates_to_the_account() -> None:
    """KMS Developer Guide, "Default key policy"."""
    root = {**ALL, "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}}
    bob = {**ALL, "Principal": {"AWS": BOB.arn}}
    ask = request("kms:Decrypt", KEY)

    assert isinstance(decide(ask, Policies(identity=[policy(ALL)], resource=key_policy())), DeniedImplicitly)
    assert isinstance(decide(ask, Policies(resource=key_policy(root))), DeniedImplicitly)
    assert isinstance(decide(ask, Policies(identity=[policy(ALL)], resource=key_policy(root))), Allowed)
    assert isinstance(decide(ask, Policies(resource=key_policy(bob))), Allowed)


def test_a_key_of_another_account_needs_both_policies() -> None:
    """IAM User Guide, "Cross-account policy evaluation logic"."""
    bob = key_policy({**ALL, "Principal": {"AWS": BOB.arn}})
    ask = request("kms:Decrypt", KEY, account="999988887777")

    assert isinstance(decide(ask, Policies(resource=bob)), DeniedImplicitly)
    assert isinstance(decide(ask, Policies(identity=[policy(ALL)])), DeniedImplicitly)
    assert isinstance(decide(ask, Policies(identity=[policy(ALL)], resource=bob)), Allowed)


def test_no_policy_of_the_principal_limits_what_is_granted_to_a_session_by_its_own_arn() -> None:
    """IAM User Guide, "Permissions boundaries for IAM entities": evaluating effective permissions, role sessions."""

    def decision_about(arn: str) -> Decision:
        grant = key_policy({**ALL, "Principal": {"AWS": arn}})
        return decide(
            request("kms:Decrypt", KEY, JOB),
            Policies(resource=grant, boundary=[policy(NOTHING)], session=[policy(NOTHING)]),
        )

    assert isinstance(decision_about(JOB.arn), Allowed)
    assert isinstance(decision_about(JOB.role), DeniedImplicitly)


def test_a_deny_with_not_principal_always_denies_a_principal_with_a_boundary() -> None:
    """IAM User Guide, "AWS JSON policy elements: NotPrincipal"."""
    others = key_policy(*ALL_BUT, {**DENY, "NotPrincipal": {"AWS": [BOB.arn, ACCOUNT]}})
    ask = request("kms:Decrypt", KEY)

    assert isinstance(decide(ask, Policies(resource=others)), Allowed)
    assert isinstance(decide(ask, Policies(resource=others, boundary=[policy(ALL)])), DeniedExplicitly)


@pytest.mark.parametrize(
    ("principal", "named", "is_spared"),
    [
        (BOB, [BOB.arn, ACCOUNT], True),
        (BOB, ["AIDABOB", f"arn:aws:iam::{ACCOUNT}:root"], True),
        (BOB, [BOB.arn], False),
        (BOB, [ACCOUNT], False),
        (JOB, [JOB.arn, JOB.role, ACCOUNT], True),
        (JOB, [JOB.role, ACCOUNT], False),
        (JOB, [JOB.arn, ACCOUNT], False),
        (ROOT, [ACCOUNT], True),
        (ROOT, [BOB.arn], False),
    ],
    ids=[
        *("user and account", "id and account", "user alone", "account of the user", "session, role and account"),
        *("role without session", "session without role", "root user", "another principal"),
    ],
)
def test_a_deny_with_not_principal_spares_a_principal_that_is_named_with_its_role_and_account(
    principal: Principal,
    named: list[str],
    is_spared: bool,  # noqa: FBT001 - a column of the table
) -> None:
    """IAM User Guide, "AWS JSON policy elements: NotPrincipal": AWS may check account, role and session in turn."""
    others = key_policy(*ALL_BUT, {**DENY, "NotPrincipal": {"AWS": named}})

    decision = decide(request("kms:Decrypt", KEY, principal), Policies(resource=others))

    assert isinstance(decision, Allowed) is is_spared


def test_a_root_user_needs_no_policy_but_obeys_a_deny_of_the_resource() -> None:
    """IAM User Guide, "AWS account root user"; KMS Developer Guide, "Default key policy"."""
    assert isinstance(decide(request(principal=ROOT), Policies()), Allowed)
    assert isinstance(decide(request("kms:Decrypt", KEY, ROOT), Policies(resource=key_policy())), DeniedImplicitly)


def test_only_the_resources_policy_decides_about_a_service_or_a_token() -> None:
    """IAM User Guide, "AWS JSON policy elements: Principal"."""
    provider = f"arn:aws:iam::{ACCOUNT}:oidc-provider/issuer.example"
    token = Principal(type=PrincipalType.FEDERATED, arn=provider)
    service = Principal(type=PrincipalType.SERVICE, arn="pods.eks.amazonaws.com")
    statement = {"Effect": "Allow", "Action": "sts:AssumeRoleWithWebIdentity", "Principal": {"Federated": provider}}
    trust = ResourcePolicy(policy=policy(statement, kind=Kind.TRUST), is_required=True)
    role = f"arn:aws:iam::{ACCOUNT}:role/driver"

    def decision_about(principal: Principal) -> Decision:
        return decide(request("sts:AssumeRoleWithWebIdentity", role, principal), Policies(resource=trust))

    assert isinstance(decision_about(token), Allowed)
    assert isinstance(decision_about(service), DeniedImplicitly)


@pytest.mark.parametrize("named", ["*", {"AWS": "*"}])
def test_an_asterisk_names_services_and_tokens_too(named: object) -> None:
    """IAM User Guide, "AWS JSON policy elements: Principal": both ways to name all principals are equivalent."""
    provider = f"arn:aws:iam::{ACCOUNT}:oidc-provider/issuer.example"
    allow = {**ALL, "Principal": {"Federated": provider, "Service": "ec2.amazonaws.com"}}
    policies = Policies(resource=key_policy(allow, {**DENY, "Principal": named}))

    for principal in (
        Principal(type=PrincipalType.FEDERATED, arn=provider),
        Principal(type=PrincipalType.SERVICE, arn="ec2.amazonaws.com"),
    ):
        assert isinstance(decide(request("kms:Decrypt", KEY, principal), policies), DeniedExplicitly)


@pytest.mark.parametrize(
    ("pattern", "matches"),
    [
        ("arn:aws:ec2:*:*:*/*", True),
        ("arn:aws:ec2:*", True),
        ("arn:aws:ec2:*:volume/*", False),
        ("arn:aws:ec2:us-west-2*:volume/vol-1", False),
        ("arn:aws:ec2:us-west-?:*:volume/vol-?", True),
        ("arn:aws:ec2:us-west-2:*:VOLUME/*", False),
        ("arn:aws:ec2:*:*:volume/${aws:username}-1", True),
        ("arn:aws:ec2:*:*:volume/${aws:missing, 'vol'}-1", True),
        ("arn:aws:ec2:*:*:volume/${aws:missing}", False),
        ("arn:aws:ec2:*:*:volume/vol-${*}", False),
        ("${aws:PrincipalTag/volume}", True),
    ],
)
def test_resources_match_field_by_field(pattern: str, matches: bool) -> None:  # noqa: FBT001 - a column of the table
    """IAM User Guide, "Resource"; EC2 User Guide grants CreateTags on `arn:aws:ec2:REGION:ACCOUNT:*/*`."""
    ask = Request(
        principal=BOB,
        action="ec2:AttachVolume",
        resource=VOLUME,
        resource_account=ACCOUNT,
        context=Context({"aws:username": "vol", "aws:PrincipalTag/volume": VOLUME}),
    )

    decision = decide(ask, Policies(identity=[policy({**ALL, "Resource": pattern})]))

    assert isinstance(decision, Allowed) == matches


def test_documents_of_the_older_version_have_no_variables() -> None:
    """IAM User Guide, "IAM policy elements: Variables and tags"."""
    document = {
        "Version": "2008-10-17",
        "Statement": {**ALL, "Condition": {"StringEquals": {"a:b": "${aws:username}"}}},
    }
    older = documents.parse(json.dumps(document), kind=Kind.IDENTITY)

    def is_allowed(value: str) -> bool:
        return isinstance(decide(request(a_b=value, aws_username="bob"), Policies(identity=[older])), Allowed)

    assert is_allowed("${aws:username}")
    assert not is_allowed("bob")


def test_a_list_of_keys_is_compared_as_the_set_prefix_says() -> None:
    """IAM User Guide, "Single-valued vs. multivalued context keys"."""
    all_of, any_of = {"ForAllValues:StringEquals": {"k:ops": "a"}}, {"ForAnyValue:StringEquals": {"k:ops": "a"}}

    assert [is_met(all_of, k_ops=ops) for ops in (["a"], ["a", "b"], [])] == [True, False, True]
    assert [is_met(any_of, k_ops=ops) for ops in (["a"], ["a", "b"], [])] == [True, True, False]
    assert not is_met({"StringEquals": {"k:ops": "a"}}, k_ops=["a", "b"])


def test_networks_are_compared_by_address_family() -> None:
    """IAM User Guide, "IP address condition operators"."""
    assert is_met({"IpAddress": {"aws:SourceIp": "0.0.0.0/0"}}, aws_SourceIp="8.8.8.8")
    assert is_met({"IpAddress": {"aws:SourceIp": "2001:db8::/32"}}, aws_SourceIp="2001:db8::5")
    assert is_met({"NotIpAddress": {"aws:SourceIp": "10.0.0.0/8"}}, aws_SourceIp="2001:db8::5")


def test_dates_are_iso_8601_or_seconds_since_1970() -> None:
    """IAM User Guide, "Date condition operators"."""
    assert is_met({"DateEquals": {"a:t": "2020-01-01T00:00:00Z"}}, a_t="1577836800")
    assert is_met({"DateLessThan": {"a:t": "1577836801"}}, a_t="2020-01-01")
    assert not is_met({"DateNotEquals": {"a:t": "2020-02-30"}}, a_t="2020-01-01")


def test_many_wildcards_cost_no_more_than_a_long_pattern() -> None:
    """IAM limits the length of a policy, not its wildcards; a backtracking match would never end."""
    hostile = "*a" * 1000 + "b"

    assert not is_met({"StringLike": {"a:b": hostile}}, a_b="a" * 5000)
    decision = decide(
        request(resource=f"{VOLUME}{'a' * 5000}"),
        Policies(identity=[policy({**ALL, "Resource": f"arn:aws:{hostile}"})]),
    )
    assert isinstance(decision, DeniedImplicitly)


def test_a_long_user_agent_is_compared_with_a_long_pattern_in_time_that_grows_with_one_length() -> None:
    """A caller chooses both with a session policy; at each place of the agent, all but one character would match."""
    agent, pattern = "a" * 2_000_000, f"*{'a' * 120_000}b*"

    assert not is_met({"StringLike": {"aws:UserAgent": pattern}}, aws_UserAgent=agent)
    assert is_met({"StringLike": {"aws:UserAgent": pattern}}, aws_UserAgent=f"{agent}b{agent}")


@pytest.mark.parametrize(
    ("pattern", "matching", "other"),
    [
        ("a?c", "abc", "abcd"),
        ("a?c*", "abcd", "ac"),
        ("*a?c", "xabc", "ac"),
        ("*a?c*", "aabcx", "acx"),
        ("*a?a?b*a", "aaaaba", "aaaabb"),
        ("*?", "a", ""),
        ("a*a", "aa", "a"),
        ("a**b", "ab", "abc"),
        ("*${?}*", "why?", "why!"),
    ],
)
def test_an_asterisk_is_any_text_and_a_question_mark_is_one_character(pattern: str, matching: str, other: str) -> None:
    """IAM User Guide, "Using wildcards in resource ARNs"."""
    assert is_met({"StringLike": {"a:b": pattern}}, a_b=matching)
    assert not is_met({"StringLike": {"a:b": pattern}}, a_b=other)


def test_tags_that_differ_only_by_case_match_no_value() -> None:
    """IAM User Guide, "aws:ResourceTag": a condition matches TagKey1 or tagkey1, but not both.

    Otherwise a caller who may add a tag could hide another one.
    """
    condition = {"StringEquals": {"aws:ResourceTag/Owner": "bob"}}
    tags = {"aws_ResourceTag/Owner": "ann", "aws_ResourceTag/owner": "bob"}

    assert is_met(condition, **{"aws_ResourceTag/owner": "bob"})
    assert not is_met(condition, **tags)
    assert not is_met(condition, **dict(reversed(tags.items())))


def test_a_later_layer_of_a_context_replaces_the_keys_of_an_earlier_one() -> None:
    """IAM User Guide, "Pass session tags in AWS STS": a session tag overrides the tag of the role."""
    context = Context({"aws:PrincipalTag/Team": "red", "a:b": ["1", "2"]}, {"aws:principaltag/team": "blue"})

    assert context.get("aws:PrincipalTag/Team") == ("blue",)
    assert context.get("A:B") == ("1", "2")
