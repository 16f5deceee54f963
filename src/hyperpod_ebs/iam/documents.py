"""Policy documents: JSON text to compiled statements, or the error that IAM answers.

Sources: IAM User Guide, "Grammar of the IAM JSON policy language"; the texts of
MalformedPolicyDocument as IAM's API returns them.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, NoReturn

from hyperpod_ebs.iam import patterns
from hyperpod_ebs.iam.conditions import Condition
from hyperpod_ebs.iam.patterns import ArnPatterns
from hyperpod_ebs.iam.principals import Principals
from hyperpod_ebs.iam.statements import Effect, Statement

VERSIONS: Final = ("2012-10-17", "2008-10-17")
"""The versions of the policy language; a document without one has the older."""

MAX_DOCUMENT: Final = 131_072
"""Characters of the longest document that any service accepts."""

MAX_DEPTH: Final = 16
"""Nested brackets; the grammar needs six."""

Json = None | bool | str | list["Json"] | dict[str, "Json"]
"""A JSON value; numbers are strings, as conditions compare them."""

_ACTION: Final = re.compile(r"(?P<vendor>[A-Za-z0-9-]+):[A-Za-z0-9*?_-]+", re.ASCII)
_SID: Final = re.compile(r"[0-9A-Za-z]*", re.ASCII)
_PARTITION: Final = re.compile(r"[a-z0-9*?-]+", re.ASCII)


class MalformedPolicy(Exception):  # noqa: N818 - named for what happened, after IAM's MalformedPolicyDocument
    """The document is not a policy of its kind; the message is IAM's."""


class Kind(Enum):
    """What a policy is attached to, which decides the elements that its statements have."""

    IDENTITY = "identity-based policy"
    TRUST = "role trust policy"
    RESOURCE = "resource-based policy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A compiled policy."""

    name: str
    """The ARN of a managed policy, or the name of an inline one."""

    statements: Sequence[Statement]


def parse(document: str, *, kind: Kind, name: str = "") -> Policy:
    """Compile a document.

    Args:
        document: The document's JSON text.
        kind: What the policy is attached to.
        name: The policy's ARN or name, for the reasons of decisions.

    Raises:
        MalformedPolicy: The document is not a policy of this kind.
    """
    root = _object(_json(document, kind))
    _check_members(root, {"Version", "Id", "Statement"})
    version = root.get("Version", VERSIONS[1])
    if version not in VERSIONS:
        raise MalformedPolicy("The policy must contain a valid version string")
    if "Statement" not in root:
        raise MalformedPolicy("Missing required field Statement")
    if isinstance(root.get("Id", ""), list | dict):
        _fail_syntax()
    statements = root["Statement"]
    compiler = _Compiler(kind, variables=version == VERSIONS[0])
    compiled = [
        compiler.statement(index, _object(each))
        for index, each in enumerate(statements if isinstance(statements, list) else [statements])
    ]
    sids = [statement.sid for statement in compiled if statement.sid]
    if len({*sids}) < len(sids):
        raise MalformedPolicy("Statement IDs (SID) in a single policy must be unique.")
    return Policy(name=name, statements=compiled)


@dataclass(frozen=True, slots=True)
class _Compiler:
    """Compiles the statements of one document."""

    kind: Kind
    variables: bool

    def statement(self, index: int, source: Mapping[str, Json]) -> Statement:
        """Compile a statement."""
        _check_members(source, {"Sid", "Effect", "Condition", *_PAIRS, *_PAIRS.values()})
        for element, negation in _PAIRS.items():
            if element in source and negation in source:
                _fail_syntax()
        if source.get("Effect") not in [effect.value for effect in Effect]:
            _fail_syntax()
        actions = self._actions(source)
        principals = self._principals(source)
        return Statement(
            index=index,
            sid=self._sid(source),
            effect=Effect(source["Effect"]),
            actions=frozenset(action.lower() for action in actions if not {*action} & {*"*?"}),
            action_patterns=[
                pattern
                for action in actions
                if {*action} & {*"*?"} and (pattern := patterns.parse(action.lower(), variables=False).constant)
            ],
            is_not_action="NotAction" in source,
            resources=self._resources(source),
            is_not_resource="NotResource" in source,
            principals=principals,
            is_not_principal="NotPrincipal" in source,
            conditions=self._conditions(source.get("Condition", {})),
        )

    def _sid(self, source: Mapping[str, Json]) -> str:
        sid = source.get("Sid", "")
        if not isinstance(sid, str):
            _fail_syntax()
        if self.kind is Kind.IDENTITY and not _SID.fullmatch(sid):
            raise MalformedPolicy(
                "Statement IDs (SID) must be alpha-numeric. Check that your input satisfies the regular expression "
                "[0-9A-Za-z]*"
            )
        return sid

    def _actions(self, source: Mapping[str, Json]) -> Sequence[str]:
        actions = _strings(source.get("Action", source.get("NotAction", [])))
        if not actions:
            is_trust = self.kind is Kind.TRUST
            raise MalformedPolicy("Missing required field Action" if is_trust else _NO_ACTIONS)
        for action in actions:
            if self.kind is Kind.TRUST and not action.lower().startswith("sts:"):
                raise MalformedPolicy("AssumeRole policy may only specify STS AssumeRole actions.")
            if action == "*":
                continue
            if ":" not in action:
                raise MalformedPolicy("Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc.")
            if action.count(":") > 1:
                raise MalformedPolicy("Actions/Condition can contain only one colon.")
            if not _ACTION.fullmatch(action):
                raise MalformedPolicy(f"Vendor {action.partition(':')[0]} is not valid")
        return actions

    def _resources(self, source: Mapping[str, Json]) -> ArnPatterns | None:
        if self.kind is Kind.TRUST:
            if "Resource" in source or "NotResource" in source:
                raise MalformedPolicy("Has prohibited field Resource")
            return None
        resources = _strings(source.get("Resource", source.get("NotResource", [])))
        if not resources:
            raise MalformedPolicy("Policy statement must contain resources.")
        for resource in resources:
            self._check_resource(resource)
        return ArnPatterns.compile([patterns.parse(each, variables=self.variables) for each in resources])

    @staticmethod
    def _check_resource(resource: str) -> None:
        if resource == "*" or resource.startswith("${"):
            return
        scheme, _, rest = resource.partition(":")
        if scheme != "arn" or not rest:
            raise MalformedPolicy(f'Resource {resource} must be in ARN format or "*".')
        partition, _, rest = rest.partition(":")
        if not _PARTITION.fullmatch(partition):
            raise MalformedPolicy(f'Partition "{partition}" is not valid for resource "{resource}".')
        if not rest and partition != "*":
            raise MalformedPolicy(f'Resource {resource} must be in ARN format or "*".')

    def _principals(self, source: Mapping[str, Json]) -> Principals | None:
        field = "NotPrincipal" if "NotPrincipal" in source else "Principal"
        if self.kind is Kind.IDENTITY:
            if field in source:
                raise MalformedPolicy("Policy document should not specify a principal.")
            return None
        if field not in source:
            raise MalformedPolicy("Missing required field Principal")
        named = source[field]
        self._check_principal_element(field, named, source["Effect"])
        if named == "*":
            return Principals.build(aws=["*"])
        if not isinstance(named, dict) or {*named} - {"AWS", "Service", "Federated"}:
            raise MalformedPolicy("Invalid principal in policy")
        names = {type_: _strings(value) for type_, value in named.items()}
        if not all(name for values in names.values() for name in values):
            raise MalformedPolicy("Invalid principal in policy")
        return Principals.build(
            aws=names.get("AWS", ()), services=names.get("Service", ()), federated=names.get("Federated", ())
        )

    def _check_principal_element(self, field: str, named: Json, effect: Json) -> None:
        """Refuse what AWS's grammar allows and its services do not.

        Raises:
            MalformedPolicy: NotPrincipal is in an Allow statement, or the element is not one of a trust policy.
        """
        if field == "NotPrincipal" and effect == Effect.ALLOW.value:
            raise MalformedPolicy("Allow with NotPrincipal is not allowed.")
        if field == "NotPrincipal" and self.kind is Kind.TRUST:
            raise MalformedPolicy("AssumeRole policy must not contain NotPrincipal field.")
        if named == "*" and self.kind is Kind.TRUST:
            raise MalformedPolicy('AssumeRolepolicy contained an invalid principal: "STAR":"*".')
        if named == {}:
            raise MalformedPolicy("Missing required field Principal cannot be empty!")

    def _conditions(self, source: Json) -> Sequence[Condition]:
        conditions: list[Condition] = []
        for operator, keys in _object(source).items():
            for key, values in _object(keys).items():
                templates = [patterns.parse(value, variables=self.variables) for value in _values(values)]
                try:
                    conditions.append(Condition.compile(operator, key, templates))
                except KeyError as error:
                    raise MalformedPolicy(f"Invalid Condition type : {operator}.") from error
        return conditions


_SYNTAX: Final = "Syntax errors in policy."
_NO_ACTIONS: Final = "Policy statement must contain actions."

_PAIRS: Final = {"Action": "NotAction", "Resource": "NotResource", "Principal": "NotPrincipal"}
"""Elements and their negations; a statement has one of the two."""


def _json(document: str, kind: Kind) -> Json:
    if len(document) > MAX_DOCUMENT or _depth(document) > MAX_DEPTH:
        _fail_syntax()
    try:
        parsed: Json = json.loads(
            document, object_pairs_hook=_unique, parse_int=str, parse_float=str, parse_constant=_fail_syntax
        )
    except (ValueError, RecursionError) as error:
        is_trust = kind is Kind.TRUST
        raise MalformedPolicy("This policy contains invalid Json" if is_trust else _SYNTAX) from error
    return parsed


def _depth(document: str) -> int:
    """The deepest nesting of brackets, brackets in strings included."""
    depth = deepest = 0
    for bracket in re.findall(r"[\[{}\]]", document):
        depth += 1 if bracket in "[{" else -1
        deepest = max(deepest, depth)
    return deepest


def _unique(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    members = dict(pairs)
    if len(members) < len(pairs):
        _fail_syntax()
    return members


def _object(value: Json) -> Mapping[str, Json]:
    if not isinstance(value, dict):
        _fail_syntax()
    return value


def _strings(value: Json) -> Sequence[str]:
    """A string or a list of strings, as a list."""
    values = value if isinstance(value, list) else [value]
    return [each if isinstance(each, str) else _fail_syntax() for each in values]


def _values(value: Json) -> Sequence[str]:
    """The values of a condition; a bare true or false is the same as the string."""
    values = value if isinstance(value, list) else [value]
    return _strings([str(each).lower() if isinstance(each, bool) else each for each in values])


def _check_members(source: Mapping[str, Json], known: set[str]) -> None:
    if {*source} - known:
        _fail_syntax()


def _fail_syntax(_: object = None) -> NoReturn:
    raise MalformedPolicy(_SYNTAX)
