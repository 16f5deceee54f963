"""The errors of IAM, with the texts that AWS answers (IAM API reference, "Common errors" and each operation's)."""

from hyperpod_ebs.emulator.wire.operations import AwsFault


def no_such_entity(text: str) -> AwsFault:
    """The error of a call that names an object that does not exist."""
    return AwsFault("NoSuchEntity", text, 404)


def not_found(kind: str, name: str) -> AwsFault:
    """The error of a call that names a user, group, role, inline policy or access key that does not exist."""
    label = "id" if kind == "Access Key" else "name"
    return no_such_entity(f"The {kind} with {label} {name} cannot be found.")


def already_exists(text: str) -> AwsFault:
    """The error of a call that creates an object that exists."""
    return AwsFault("EntityAlreadyExists", text, 409)


def delete_conflict(text: str) -> AwsFault:
    """The error of a call that deletes an object that is in use."""
    return AwsFault("DeleteConflict", f"Cannot delete entity, must {text} first.", 409)


def limit_exceeded(quota: str, limit: int) -> AwsFault:
    """The error of a call that exceeds a quota."""
    return AwsFault("LimitExceeded", f"Cannot exceed quota for {quota}: {limit}", 409)


def malformed_policy(text: str) -> AwsFault:
    """The error of a call with a document that is not a policy."""
    return AwsFault("MalformedPolicyDocument", text, 400)


def invalid_input(text: str) -> AwsFault:
    """The error of a call with an invalid parameter."""
    return AwsFault("InvalidInput", text, 400)


def validation_error(text: str) -> AwsFault:
    """The error of a call whose parameter has the wrong form."""
    return AwsFault("ValidationError", text, 400)
