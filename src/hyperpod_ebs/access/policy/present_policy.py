"""A key's present policy, to which statements are added: a key has only one policy (KMS API reference)."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hyperpod_ebs.driver.model import errors

Raw = Mapping[str, Any]  # JSON


def read_policy(path: Path) -> Raw:
    """Read a policy document.

    Raises:
        InvalidRequest: The file is missing, or is not a policy document.
    """
    try:
        policy = json.loads(path.read_text())
    except OSError as error:
        raise errors.InvalidRequest(f"cannot read --add-to {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise errors.InvalidRequest(f"--add-to {path} is not JSON: {error}") from error
    if not isinstance(policy, dict) or not all(isinstance(each, dict) for each in _statements(policy)):
        raise errors.InvalidRequest(f"--add-to {path} is not a policy document: it has no list of statements")
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
    yield from [value] if isinstance(value, str) else value


def _unused_sid(sid: str, statements: Sequence[Raw]) -> str:
    used = {each.get("Sid") for each in statements}
    candidates = (sid if number == 1 else f"{sid}{number}" for number in range(1, len(statements) + 2))
    return next(each for each in candidates if each not in used)
