"""A key's present policy, to which statements are added: a key has only one policy (KMS API reference)."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hyperpod_ebs.access.policy.comparison.given_policies import compile_policy, find_documents
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.iam.documents import Kind, MalformedPolicy

Raw = Mapping[str, Any]  # JSON


def read_policy(path: Path) -> Raw:
    """Read the policy of a key, as the key has it or as the AWS CLI prints it.

    Raises:
        InvalidRequest: The file is missing, or IAM would refuse the document.
    """
    name = f"--add-to {path}"
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise errors.InvalidRequest(f"cannot read {name}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise errors.InvalidRequest(f"cannot read {name}: it is not UTF-8 text") from error
    found = find_documents(text, name)
    if len(found) != 1:
        raise errors.InvalidRequest(f"{name} has {len(found)} policy documents, but a key has one")
    ((_, policy),) = found
    try:
        compile_policy(name, policy, Kind.RESOURCE)
    except MalformedPolicy as error:
        raise errors.InvalidRequest(f"{name} is not the policy of a key: {str(error).rstrip('.')}") from error
    return policy


def with_statements(policy: Raw, added: Sequence[Raw]) -> Raw:
    """The policy with more statements.

    If a statement differs from an added one only in its principals, it gets those of the added one. No statement loses
    anything, and an added one whose Sid is in use gets a number.
    """
    statements = list(_statements(policy))
    for new in added:
        found = next((index for index, each in enumerate(statements) if _allows_the_same(each, new)), None)
        if found is not None:
            statements[found] = _with_principals(statements[found], new["Principal"]["AWS"])
        else:
            statements.append({**new, "Sid": _unused_sid(new["Sid"], statements)})
    return {**policy, "Statement": statements}


def _statements(policy: Raw) -> Sequence[Raw]:
    """The statements, of which a document can have one without a list."""
    statements: Any = policy.get("Statement")
    return statements if isinstance(statements, list) else [statements]


def _allows_the_same(present: Raw, new: Raw) -> bool:
    """Whether two statements differ at most in their Sid and in the AWS principals."""
    principal = present.get("Principal")
    return (
        isinstance(principal, dict)
        and set(principal) == {"AWS"}
        and _comparable(_without_names(present)) == _comparable(_without_names(new))
    )


def _without_names(statement: Raw) -> Raw:
    return {name: value for name, value in statement.items() if name not in {"Sid", "Principal"}}


def _comparable(value: Any) -> Any:
    """A value in the one form that all ways to write it have: lists in order, and texts for numbers and booleans."""
    if isinstance(value, dict):
        return {key: _comparable(each) for key, each in value.items()}
    values = value if isinstance(value, list) else [value]
    return sorted(str(each).lower() if isinstance(each, bool) else str(each) for each in values)


def _with_principals(statement: Raw, new: str | Sequence[str]) -> Raw:
    present = statement["Principal"]["AWS"]
    names = list(dict.fromkeys([*_names(present), *_names(new)]))
    return {**statement, "Principal": {"AWS": names if len(names) > 1 else names[0]}}


def _names(value: str | Sequence[str]) -> Iterator[str]:
    yield from map(str, [value] if isinstance(value, str | int) else value)


def _unused_sid(sid: str, statements: Sequence[Raw]) -> str:
    used = {each.get("Sid") for each in statements}
    candidates = (sid if number == 1 else f"{sid}{number}" for number in range(1, len(statements) + 2))
    return next(each for each in candidates if each not in used)
