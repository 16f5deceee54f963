"""Random requests with random policies, on which another implementation of IAM's rules gives its opinion.

Cases avoid what the other implementation is known to decide unlike AWS: networks of all addresses, IPv6 addresses
beside IPv4 networks, `*/*` as a resource, version 2008-10-17, and a session's own ARN beside a session policy.
They also avoid what the other implementation leaves open, NotPrincipal, and what AWS does: NotResource with a policy
variable that the request lacks.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Final, TypeVar

from hyperpod_ebs.iam import documents
from hyperpod_ebs.iam.decision import Allowed, DeniedExplicitly, Policies, ResourcePolicy, decide
from hyperpod_ebs.iam.documents import Kind, Policy
from hyperpod_ebs.iam.request import Context, Principal, PrincipalType, Request

T = TypeVar("T")

Case = dict[str, Any]  # a JSON document, as the other implementation reads it

ACCOUNT: Final = "123456789012"
OTHER: Final = "210987654321"
USER: Final = f"arn:aws:iam::{ACCOUNT}:user/team/bob"
ROLE: Final = f"arn:aws:iam::{ACCOUNT}:role/training"
SESSION: Final = f"arn:aws:sts::{ACCOUNT}:assumed-role/training/job"

_RESOURCES: Final = {
    "ec2:AttachVolume": ["arn:aws:ec2:us-west-2:{}:volume/vol-1", "arn:aws:ec2:us-west-2:{}:instance/i-1"],
    "ec2:CreateVolume": ["arn:aws:ec2:us-west-2:{}:volume/vol-2"],
    "kms:CreateGrant": ["arn:aws:kms:us-west-2:{}:key/k1"],
    "kms:Decrypt": ["arn:aws:kms:us-west-2:{}:key/k1"],
    "sagemaker:AttachClusterNodeVolume": ["arn:aws:sagemaker:us-west-2:{}:cluster/abc"],
    "sts:AssumeRole": ["arn:aws:iam::{}:role/target"],
}

_WITH_RESOURCE_POLICY: Final = ("kms", "sts")
"""Services whose resources always have a policy."""


@dataclass(frozen=True, slots=True)
class _Key:
    """A condition key: operators, values in policies, and values in requests."""

    operators: tuple[str, ...]
    in_policies: tuple[str | bool, ...]
    in_requests: tuple[str, ...]
    is_list: bool = False


_STRINGS = ("StringEquals", "StringNotEquals", "StringEqualsIgnoreCase", "StringNotEqualsIgnoreCase")
_LIKE = ("StringLike", "StringNotLike")
_NUMERIC = tuple(f"Numeric{each}" for each in ("Equals", "NotEquals", "LessThan", "LessThanEquals", "GreaterThan"))
_DATE = tuple(f"Date{each}" for each in ("Equals", "NotEquals", "LessThan", "GreaterThan", "GreaterThanEquals"))
_TEXT = ("a", "b", "A", "a*", "?", "ab", "b?b", "bob", "${aws:username}", "${aws:nope}", "${aws:nope, 'b'}")

_KEYS: Final = {
    "aws:RequestTag/a": _Key(_STRINGS, _TEXT, ("a", "b", "A", "ab", "bob")),
    "ec2:VolumeType": _Key(_LIKE, (*_TEXT, "*", "a${*}", "${$}"), ("a", "b", "ab", "bob", "a*", "$")),
    "aws:PrincipalTag/team": _Key((*_STRINGS, *_LIKE), _TEXT, ("a", "b", "bob")),
    "aws:TagKeys": _Key((*_STRINGS, *_LIKE), ("a", "b", "c", "a*"), ("a", "b", "c"), is_list=True),
    "kms:GrantOperations": _Key(("StringEquals",), ("Decrypt", "Encrypt"), ("Decrypt", "Encrypt", "x"), is_list=True),
    "ec2:VolumeSize": _Key(_NUMERIC, ("1", "10", "10.0", "-3", "4.5", "x"), ("1", "10", "4.5", "x", "11")),
    "aws:CurrentTime": _Key(
        _DATE,
        ("2026-01-01T00:00:00Z", "2026-06-01", "2026-01-01T00:00:00+02:00"),
        ("2026-01-01T00:00:00Z", "2026-07-01T00:00:00Z"),
    ),
    "kms:GrantIsForAWSResource": _Key(("Bool",), ("true", "false", "True", True, False), ("true", "false")),
    "aws:SourceIp": _Key(
        ("IpAddress", "NotIpAddress"),
        ("10.0.0.0/8", "10.1.2.3", "10.0.0.1/8", "192.168.0.0/16", "8.0.0.0/5"),
        ("10.1.2.3", "192.168.1.1", "8.8.8.8"),
    ),
    "aws:PrincipalArn": _Key(
        ("ArnEquals", "ArnLike", "ArnNotEquals", "ArnNotLike"),
        (USER, ROLE, f"arn:aws:iam::{ACCOUNT}:user/*", "arn:aws:iam::*:role/?raining", "arn:aws:iam::*:*"),
        (USER, ROLE, "arn:aws:iam::111111111111:role/training"),
    ),
}


class CaseMaker:
    """Makes cases from one seed."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)  # noqa: S311 - tests want the same cases again

    def case(self) -> Case:
        """A request and its policies."""
        action = self._one(*_RESOURCES)
        service = action.partition(":")[0]
        account = self._one(ACCOUNT, ACCOUNT, ACCOUNT, OTHER)
        resource = self._one(*_RESOURCES[action]).format(account)
        principal = self._one(USER, SESSION)
        has_session_policy = principal == SESSION and self._chance(0.3)
        case: Case = {
            "principal": principal,
            "action": action,
            "resource": resource,
            "account": account,
            "context": self._context(),
            "identity": [self._policy(resource) for _ in range(self._one(0, 1, 1, 2))],
        }
        if self._chance(0.25):
            case["boundary"] = [self._policy(resource)]
        if has_session_policy:
            case["session"] = [self._policy(resource)]
        if service in _WITH_RESOURCE_POLICY or self._chance(0.1):
            names = [USER, ROLE, f"arn:aws:iam::{ACCOUNT}:root", ACCOUNT, f"arn:aws:iam::{OTHER}:root", "*"]
            if not has_session_policy:
                names.append(SESSION)
            case["resourcePolicy"] = self._policy("" if service == "sts" else resource, names)
        return case

    def _one(self, *choices: T) -> T:
        return self._random.choice(choices)

    def _chance(self, share: float) -> bool:
        return self._random.random() < share

    def _few(self, make: Callable[[], T]) -> T | list[T]:
        if self._chance(0.4):
            return make()
        return [make() for _ in range(self._one(1, 1, 2, 3))]

    def _context(self) -> dict[str, str | list[str]]:
        context: dict[str, str | list[str]] = {"aws:username": "bob"} if self._chance(0.8) else {}
        for name, key in _KEYS.items():
            if self._chance(0.5):
                continue
            if key.is_list and self._chance(0.6):
                context[name] = self._random.sample(key.in_requests, 2)
            else:
                context[name] = self._one(*key.in_requests)
        return context

    def long_case(self, statements: int) -> Case:
        """A request with one identity policy of that many statements."""
        case = self.case()
        while len(case["identity"]) != 1:
            case = self.case()
        document = case["identity"][0]
        document["Statement"] = [self._statement(case["resource"], ()) for _ in range(statements)]
        return {key: value for key, value in case.items() if key not in {"boundary", "session"}}

    def _policy(self, resource: str, names: Sequence[str] = ()) -> Case:
        statements = [self._statement(resource, names) for _ in range(self._one(1, 1, 2, 3))]
        return {"Version": "2012-10-17", "Statement": statements}

    def _statement(self, resource: str, names: Sequence[str]) -> Case:
        statement: Case = {"Effect": self._one("Allow", "Allow", "Allow", "Allow", "Deny")}
        make_action = self._action if resource else self._trust_action
        statement[self._one("Action", "Action", "Action", "Action", "NotAction")] = self._few(make_action)
        if resource:
            if self._chance(0.8):
                statement["Resource"] = self._few(lambda: self._arn(resource, variables=True))
            else:
                statement["NotResource"] = self._few(lambda: self._arn(resource, variables=False))
        if conditions := self._conditions():
            statement["Condition"] = conditions
        if names:
            aws = {"AWS": self._few(lambda: self._one(*names))}
            statement["Principal"] = self._one(aws, aws, aws, {"Service": "ec2.amazonaws.com"})
        return statement

    def _trust_action(self) -> str:
        return self._one("sts:AssumeRole", "sts:*", "STS:assumeROLE", "sts:AssumeRole?", "sts:TagSession")

    def _action(self) -> str:
        service, name = self._one(*_RESOURCES).split(":")
        first = self._random.randrange(len(name))
        last = self._random.randrange(first, len(name) + 1)
        pattern = f"{service}:{name[:first]}{self._one('*', '?')}{name[last:]}"
        whole = f"{service}:{name}"
        return self._one(
            whole, whole, whole, pattern, pattern, f"{service}:*", "*", f"{service.upper()}:{name.lower()}"
        )

    def _arn(self, resource: str, *, variables: bool) -> str:
        if self._chance(0.4):
            return self._one(resource, "*")
        fields = resource.split(":", 5)
        for index in self._random.sample(range(3, 6), self._one(1, 2)):
            fields[index] = self._field(fields[index], variables=variables)
        if self._chance(0.1):
            return ":".join(fields[: self._one(3, 4, 5)]) + ":*"
        return ":".join(fields)

    def _field(self, field: str, *, variables: bool) -> str:
        kind, slash, name = field.rpartition("/")
        start = kind + slash
        choices = [field, f"{field[:-1]}*", f"{field[:-1]}?", f"{start}*", "*"]
        if variables:
            choices += [start + "${aws:username}", start + "${aws:PrincipalTag/team}"]
            choices.append(f"{start}${{aws:nope, '{name[:1]}'}}*" if start else "${*}")
        return self._one(*choices)

    def _conditions(self) -> Case:
        conditions: Case = {}
        for _ in range(self._one(0, 0, 0, 1, 1, 2)):
            name = self._one(*_KEYS)
            operator, values = self._condition(_KEYS[name])
            conditions.setdefault(operator, {})[self._one(name, name, name, name.lower())] = values
        return conditions

    def _condition(self, key: _Key) -> tuple[str, Any]:
        if self._chance(0.1):
            return "Null", self._one("true", "false", True)  # noqa: FBT003 - a value of JSON
        prefix = self._one("ForAllValues:", "ForAnyValue:") if self._chance(0.7 if key.is_list else 0.1) else ""
        suffix = "IfExists" if self._chance(0.2) else ""
        return f"{prefix}{self._one(*key.operators)}{suffix}", self._few(lambda: self._one(*key.in_policies))


def request(case: Case) -> Request:
    """The request of the case."""
    is_session = case["principal"] == SESSION
    return Request(
        principal=Principal(
            type=PrincipalType.ROLE_SESSION if is_session else PrincipalType.USER,
            arn=case["principal"],
            account=ACCOUNT,
            role=ROLE if is_session else "",
        ),
        action=case["action"],
        resource=case["resource"],
        resource_account=case["account"],
        context=Context(case["context"]),
    )


def policies(case: Case) -> Policies:
    """The policies of the case, compiled.

    Raises:
        MalformedPolicy: One of them is invalid.
    """
    service = case["action"].partition(":")[0]
    resource = None
    if "resourcePolicy" in case:
        policy = _compile(case["resourcePolicy"], Kind.TRUST if service == "sts" else Kind.RESOURCE)
        resource = ResourcePolicy(policy=policy, is_required=service in _WITH_RESOURCE_POLICY)
    return Policies(
        identity=[_compile(each, Kind.IDENTITY) for each in case["identity"]],
        boundary=[_compile(each, Kind.IDENTITY) for each in case["boundary"]] if "boundary" in case else None,
        session=[_compile(each, Kind.IDENTITY) for each in case["session"]] if "session" in case else None,
        resource=resource,
    )


def verdict(case: Case) -> str:
    """The decision in the words of the other implementation."""
    match decide(request(case), policies(case)):
        case Allowed():
            return "Allowed"
        case DeniedExplicitly():
            return "ExplicitlyDenied"
        case _:
            return "ImplicitlyDenied"


def smaller(case: Case) -> Iterator[Case]:
    """The case with one statement, condition, value or context key less."""
    for path in _paths(case):
        copy = json.loads(json.dumps(case))
        parent = copy
        for step in path[:-1]:
            parent = parent[step]
        del parent[path[-1]]
        yield copy


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:  # Any: JSON
    """The paths of the members and elements that can be removed, the largest parts first."""
    if isinstance(value, dict):
        required = {"principal", "action", "resource", "account", "context", "identity", "Effect", "Statement"}
        members: Any = [each for each in value if each not in required | {"Action", "Resource", "Principal", "Version"}]
        steps: Any = value
    elif isinstance(value, list):
        members, steps = range(len(value)), range(len(value))
    else:
        return
    for member in members:
        yield (*path, member)
    for step in steps:
        yield from _paths(value[step], (*path, step))


def _compile(document: Case, kind: Kind) -> Policy:
    return documents.parse(json.dumps(document), kind=kind)
