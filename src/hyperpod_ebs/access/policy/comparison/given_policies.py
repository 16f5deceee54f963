"""The policies that are compared: documents as the user has them, and compiled."""

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, cast
from urllib.parse import unquote

from hyperpod_ebs.access.policy.comparison.findings import Operation
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.iam import documents
from hyperpod_ebs.iam.documents import Json, Kind, MalformedPolicy, Policy

RawStatement = Mapping[str, Json]

_MAX_DEPTH: Final = 12
_GENERIC: Final = frozenset({"Document", "PolicyDocument", "Policy", "PolicyVersion", "Role", "RolePolicy", "policy"})
"""The members in answers of IAM and KMS, and in Terraform's resources, that do not name a policy."""

_TRUST_ACTIONS: Final = ("sts:assume", "sts:tag", "sts:set", "sts:*")


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenPolicy:
    """A policy document."""

    name: str
    """The ARN of a managed policy, the name of an inline one, or the file's name."""

    kind: Kind
    raw: Mapping[str, Json]
    compiled: Policy
    is_aws_managed: bool = False

    @property
    def statements(self) -> Sequence[RawStatement]:
        """The statements as the document has them; they have the indices of the compiled ones."""
        return _statements(self.raw)

    @property
    def is_variable(self) -> bool:
        """Whether policy variables are replaced, which version 2008-10-17 does not do."""
        return self.raw.get("Version") == documents.VERSIONS[0]

    def statement_name(self, index: int) -> str:
        """A statement's id, or its position if it has none."""
        return self.compiled.statements[index].name

    def path(self, index: int, *members: str | int) -> str:
        """A statement, or one of its members, as a JSON pointer (RFC 6901)."""
        place = [index] if isinstance(self.raw.get("Statement"), list) else []
        words = [str(each).replace("~", "~0").replace("/", "~1") for each in ("Statement", *place, *members)]
        return "/" + "/".join(words)

    def addition(self, statement: RawStatement) -> Operation:
        """The operation that adds a statement."""
        if isinstance(self.raw.get("Statement"), list):
            return {"op": "add", "path": "/Statement/-", "value": dict(statement)}
        both: list[Json] = [dict(each) for each in (*self.statements, statement)]
        return {"op": "replace", "path": "/Statement", "value": both}

    def with_patch(self, patch: Sequence[Operation]) -> "GivenPolicy | None":
        """The policy after the operations of a JSON patch; None if the result is not a policy."""
        raw = copy.deepcopy(dict(self.raw))
        for operation in patch:
            _apply(raw, operation)
        try:
            return compile_policy(self.name, raw, self.kind)
        except MalformedPolicy:
            return None


def compile_policy(name: str, raw: Mapping[str, Json], kind: Kind, *, is_aws_managed: bool = False) -> GivenPolicy:
    """Compile a document.

    Raises:
        MalformedPolicy: IAM would refuse the document.
    """
    compiled = documents.parse(json.dumps(raw), kind=kind, name=name)
    return GivenPolicy(name=name, kind=kind, raw=raw, compiled=compiled, is_aws_managed=is_aws_managed)


def find_documents(text: str, name: str) -> list[tuple[str, Mapping[str, Json]]]:
    """The policy documents in a text, each with its name.

    The text is a document, or JSON that contains documents, such as the output of the AWS CLI. A document may be a
    string with JSON, and URL-encoded.

    Raises:
        InvalidRequest: The text is not JSON, or has no policy document.
    """
    text = text.removeprefix("\N{ZERO WIDTH NO-BREAK SPACE}").strip()
    try:
        value: Json = json.loads(_without_url_encoding(text), object_pairs_hook=_unique)
        found = list(_documents(value, name, 0))
    except (ValueError, RecursionError) as error:
        hint = "a policy is JSON; for Terraform, give the output of `terraform show -json`"
        raise errors.InvalidRequest(f"cannot read {name}: {error}; {hint}") from error
    if not found:
        raise errors.InvalidRequest(f"cannot read {name}: no policy document with a Statement is in it")
    names = [each for each, _ in found]
    return [
        (each if names.count(each) == 1 else f"{each} ({number})", raw) for number, (each, raw) in enumerate(found, 1)
    ]


def kind_of(raw: Mapping[str, Json]) -> Kind:
    """What a document is attached to, by the members of its statements."""
    statements = _statements(raw)
    if not any({"Principal", "NotPrincipal"} & {*statement} for statement in statements):
        return Kind.IDENTITY
    actions = [action for statement in statements for action in strings(statement.get("Action"))]
    return Kind.TRUST if all(action.lower().startswith(_TRUST_ACTIONS) for action in actions) else Kind.RESOURCE


def strings(value: Json) -> list[str]:
    """A string or a list of strings, as a list."""
    values = value if isinstance(value, list) else [value]
    return [each for each in values if isinstance(each, str)]


def short(values: Sequence[str]) -> Json:
    """A list of strings as IAM writes it: a list of one is the string."""
    return values[0] if len(values) == 1 else [*values]


def condition_values(value: Json) -> list[str]:
    """The values of a condition as IAM compares them: `true` is the same as "true", and 1 the same as "1"."""
    values = value if isinstance(value, list) else [value]
    return [str(each).lower() if isinstance(each, bool) else str(each) for each in values]


def conditions_of(statement: RawStatement) -> Iterator[tuple[str, str, list[str]]]:
    """The operator, the key and the values of each condition."""
    condition = statement.get("Condition")
    for operator, keys in condition.items() if isinstance(condition, dict) else ():
        for key, value in keys.items() if isinstance(keys, dict) else ():
            yield operator, key, condition_values(value)


def _documents(value: Json, name: str, depth: int) -> Iterator[tuple[str, Mapping[str, Json]]]:
    if depth > _MAX_DEPTH:
        return
    if isinstance(value, dict) and "Statement" in value:
        yield name, value
    elif isinstance(value, dict):
        own = value.get("PolicyName", value.get("RoleName", value.get("name", name)))
        for key, member in value.items():
            inner_name = str(own) if key in _GENERIC or isinstance(member, list) else key
            yield from _documents(member, inner_name, depth + 1)
    elif isinstance(value, list):
        for member in value:
            yield from _documents(member, name, depth + 1)
    elif isinstance(value, str) and (text := _without_url_encoding(value)).startswith("{"):
        try:
            inner: Json = json.loads(text)
        except ValueError:
            return
        yield from _documents(inner, name, depth + 1)


def _unique(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    members = dict(pairs)
    if len(members) < len(pairs):
        twice = next(name for name, _ in pairs if [each for each, _ in pairs].count(name) > 1)
        raise ValueError(f"the member {twice} appears twice in one object, which IAM refuses")
    return members


def _without_url_encoding(text: str) -> str:
    return unquote(text) if text.startswith(("%7B", "%7b")) else text


def _statements(raw: Mapping[str, Json]) -> list[RawStatement]:
    value = raw.get("Statement", [])
    return [each for each in (value if isinstance(value, list) else [value]) if isinstance(each, dict)]


def _apply(raw: dict[str, Json], operation: Operation) -> None:
    """Apply an operation of a JSON patch, which fits the document."""
    words = [each.replace("~1", "/").replace("~0", "~") for each in str(operation["path"]).split("/")[1:]]
    parent: Json = raw
    for word in words[:-1]:
        match parent:
            case list():
                parent = parent[int(word)]
            case _:
                parent = cast("dict[str, Json]", parent)[word]  # or it fails
    last = words[-1]
    if isinstance(parent, list):
        if operation["op"] == "add":
            parent.insert(len(parent) if last == "-" else int(last), operation["value"])
        elif operation["op"] == "replace":
            parent[int(last)] = operation["value"]
        else:
            del parent[int(last)]
    elif isinstance(parent, dict):
        if operation["op"] == "remove":
            del parent[last]
        else:
            parent[last] = operation["value"]
