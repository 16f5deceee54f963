"""Policy documents: what is accepted, and IAM's message for what is not."""

import json
from typing import Any

import pytest

from hyperpod_ebs.iam import documents
from hyperpod_ebs.iam.documents import Kind, MalformedPolicy

STATEMENT = {"Effect": "Allow", "Action": "ec2:AttachVolume", "Resource": "*"}
TRUST = {"Effect": "Allow", "Principal": {"AWS": "123456789012"}, "Action": "sts:AssumeRole"}
NOT_PRINCIPAL = {"Effect": "Allow", "NotPrincipal": {"AWS": "123456789012"}, "Action": "sts:AssumeRole"}


def refusal(document: object, kind: Kind = Kind.IDENTITY) -> str:
    """The message of the refused document."""
    text = document if isinstance(document, str) else json.dumps(document)
    with pytest.raises(MalformedPolicy) as caught:
        documents.parse(text, kind=kind)
    return str(caught.value)


def policy(**members: Any) -> dict[str, Any]:  # Any: JSON
    """A policy of one statement, with other members in place of the statement's own."""
    return {"Version": "2012-10-17", "Statement": {**STATEMENT, **members}}


@pytest.mark.parametrize(
    "document",
    [
        "",
        "[]",
        "{",
        '"text"',
        '{"Statement": [NaN]}',
        '{"Version": "2012-10-17", "Version": "2012-10-17", "Statement": []}',
        "[" * 100_000,
        '{"a":' * 100_000,
        {"Statement": "text"},
        {"Statement": [STATEMENT], "Other": 1},
        policy(Effect="allow"),
        policy(Effect=None),
        policy(Effect=["Allow"]),
        policy(Effect={"Allow": True}),
        policy(Other="x"),
        policy(NotAction="ec2:*"),
        policy(Action=[["ec2:*"]]),
        policy(Resource={"a": "b"}),
        policy(Condition=[]),
        policy(Condition={"StringEquals": "a"}),
        policy(Condition={"StringEquals": {"a": {"b": "c"}}}),
        policy(Condition={"StringEquals": {"a": [[]]}}),
        policy(Condition={"StringEquals": {"a": [["b"]]}}),
        policy(Sid=["a"]),
        " " * (documents.MAX_DOCUMENT + 1),
    ],
)
def test_a_document_that_breaks_the_grammar_has_syntax_errors(document: object) -> None:
    """IAM User Guide, "Grammar of the IAM JSON policy language"."""
    assert refusal(document) == "Syntax errors in policy."


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"Version": "2012-10-18", "Statement": STATEMENT}, "The policy must contain a valid version string"),
        ({"Version": "2012-10-17"}, "Missing required field Statement"),
        (policy(Action=[]), "Policy statement must contain actions."),
        (policy(Action="AttachVolume"), "Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc."),
        (policy(Action="ec2:a:b"), "Actions/Condition can contain only one colon."),
        (policy(Action="e*:AttachVolume"), "Vendor e* is not valid"),
        (policy(Resource=[]), "Policy statement must contain resources."),
        (policy(Resource="volume/*"), 'Resource volume/* must be in ARN format or "*".'),
        (policy(Resource="arn:aws"), 'Resource arn:aws must be in ARN format or "*".'),
        (policy(Resource="arn:A:ec2:::x"), 'Partition "A" is not valid for resource "arn:A:ec2:::x".'),
        (policy(Principal="*"), "Policy document should not specify a principal."),
        (policy(Condition={"StringIs": {"a": "b"}}), "Invalid Condition type : StringIs."),
        (policy(Condition={"NullIfExists": {"a": "true"}}), "Invalid Condition type : NullIfExists."),
        (policy(Sid="has space"), "Statement IDs (SID) must be alpha-numeric."),
        (
            {"Version": "2012-10-17", "Statement": [{**STATEMENT, "Sid": "One"}, {**STATEMENT, "Sid": "One"}]},
            "Statement IDs (SID) in a single policy must be unique.",
        ),
    ],
)
def test_a_document_that_says_something_else_is_refused_in_iams_words(document: object, message: str) -> None:
    """The messages of MalformedPolicyDocument, as IAM's API returns them."""
    assert refusal(document).startswith(message)


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ({**TRUST, "Resource": "*"}, "Has prohibited field Resource"),
        ({**TRUST, "Action": "ec2:RunInstances"}, "AssumeRole policy may only specify STS AssumeRole actions."),
        ({"Effect": "Allow", "Action": "sts:AssumeRole"}, "Missing required field Principal"),
        ({**TRUST, "Action": "*"}, "AssumeRole policy may only specify STS AssumeRole actions."),
        ({**TRUST, "Action": ["sts:AssumeRole", "*"]}, "AssumeRole policy may only specify STS AssumeRole actions."),
        ({"Effect": "Allow", "Principal": TRUST["Principal"]}, "Missing required field Action"),
        ({**TRUST, "Principal": {}}, "Missing required field Principal cannot be empty!"),
        ({**TRUST, "Principal": "*"}, 'AssumeRolepolicy contained an invalid principal: "STAR":"*".'),
        ({**TRUST, "Principal": {"CanonicalUser": "a"}}, "Invalid principal in policy"),
        (NOT_PRINCIPAL, "Allow with NotPrincipal is not allowed."),
        ({**NOT_PRINCIPAL, "Effect": "Deny"}, "AssumeRole policy must not contain NotPrincipal field."),
        ({**TRUST, "Principal": "root"}, "Invalid principal in policy"),
        ({**TRUST, "Principal": {"User": "a"}}, "Invalid principal in policy"),
        ({**TRUST, "Principal": {"AWS": ""}}, "Invalid principal in policy"),
    ],
)
def test_a_trust_policy_names_principals_and_no_resource(statement: object, message: str) -> None:
    """IAM User Guide, "How to use trust policies with IAM roles"."""
    assert refusal({"Version": "2012-10-17", "Statement": [statement]}, Kind.TRUST) == message


def test_a_trust_policy_that_is_not_json_is_refused_in_other_words() -> None:
    """CreateRole's message differs from that of CreatePolicy."""
    with pytest.raises(MalformedPolicy, match="This policy contains invalid Json"):
        documents.parse("{", kind=Kind.TRUST)


def test_a_key_policy_does_not_allow_everyone_but_a_few() -> None:
    """IAM User Guide, "AWS JSON policy elements: NotPrincipal": it must be used with Deny."""
    statement = {**STATEMENT, "NotPrincipal": {"AWS": "111122223333"}}

    assert refusal(policy(**statement), Kind.RESOURCE) == "Allow with NotPrincipal is not allowed."


def test_values_of_conditions_may_be_bare_booleans_and_numbers() -> None:
    """SageMaker Developer Guide prints `"kms:GrantIsForAWSResource": true` without quotes."""
    condition = {"Bool": {"kms:GrantIsForAWSResource": True}, "NumericLessThan": {"ec2:VolumeSize": [100, 2.50]}}

    (statement,) = documents.parse(json.dumps(policy(Condition=condition)), kind=Kind.IDENTITY).statements

    values = {condition.key: [value.source for value in condition.values] for condition in statement.conditions}
    assert values == {"kms:GrantIsForAWSResource": ["true"], "ec2:VolumeSize": ["100", "2.5"]}
