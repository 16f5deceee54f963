"""What the claims of a web identity token mean to AWS: condition keys, session tags and source identity.

Sources: IAM User Guide, "Available keys for AWS OIDC federation", "Passing session tags using
AssumeRoleWithWebIdentity" and "Monitor and control actions taken with assumed roles".
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from hyperpod_ebs.emulator.identity.identities import ContextValues
from hyperpod_ebs.emulator.identity.web_tokens import WebToken
from hyperpod_ebs.emulator.sts.session_limits import SessionTags, tags_of
from hyperpod_ebs.emulator.wire.operations import AwsFault

TAGS: Final = "https://aws.amazon.com/tags"
SOURCE_IDENTITY: Final = "https://aws.amazon.com/source_identity"

MAX_TAGS: Final = 50
MAX_KEY: Final = 128
MAX_VALUE: Final = 256

_SOURCE_IDENTITY: Final = re.compile(r"[\w+=,.@-]{2,64}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenClaims:
    """The claims of a verified token for a provider's audience."""

    audience: str
    tags: SessionTags
    source_identity: str
    context: ContextValues
    """The condition keys, with the issuer's URL before the name of the claim."""


def claims_of(token: WebToken, *, url: str, audiences: Sequence[str]) -> TokenClaims:
    """Read the claims.

    Args:
        token: The verified token.
        url: The provider's URL without https://, with which the condition keys begin.
        audiences: The audiences that the provider accepts.

    Raises:
        AwsFault: The token is for another audience, or a claim has not the form that AWS demands.
    """
    party = token.claims.get("azp")
    offered = [party] if isinstance(party, str) else token.audiences
    if (audience := next((each for each in offered if each in audiences), None)) is None:
        raise AwsFault("InvalidIdentityToken", "Incorrect token audience")
    context: dict[str, str | Sequence[str]] = {f"{url}:sub": token.subject, f"{url}:aud": audience}
    if isinstance(party, str):
        context[f"{url}:oaud"] = list(token.audiences)
    methods = token.claims.get("amr")
    if isinstance(methods, list) and _are_texts(methods):
        context[f"{url}:amr"] = methods
    return TokenClaims(
        audience=audience, tags=_tags(token.claims), source_identity=_source_identity(token.claims), context=context
    )


def _tags(claims: Mapping[str, Any]) -> SessionTags:  # Any: JSON
    """The session tags, in a nested claim or in one claim per tag."""
    nested = claims.get(TAGS, {})
    nested = nested if isinstance(nested, dict) else {"principal_tags": None}
    prefix = f"{TAGS}/principal_tags/"
    single = {name.removeprefix(prefix): value for name, value in claims.items() if name.startswith(prefix)}
    given = nested.get("principal_tags", single)
    transitive = nested.get("transitive_tag_keys", claims.get(f"{TAGS}/transitive_tag_keys", []))
    transitive = [transitive] if isinstance(transitive, str) else transitive
    if not isinstance(given, dict) or not isinstance(transitive, list) or not _are_texts(transitive):
        raise _invalid("session tags")
    tags = {key: value[0] if isinstance(value, list) and len(value) == 1 else value for key, value in given.items()}
    if not (
        len(tags) <= MAX_TAGS
        and _are_texts(tags.values())
        and all(1 <= len(key) <= MAX_KEY and len(value) <= MAX_VALUE for key, value in tags.items())
    ):
        raise _invalid("session tags")
    parameters = {"Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}
    return tags_of({**parameters, "TransitiveTagKeys": transitive})


def _source_identity(claims: Mapping[str, Any]) -> str:  # Any: JSON
    identity = claims.get(SOURCE_IDENTITY, "")
    if identity == "":
        return ""
    if not isinstance(identity, str) or not _SOURCE_IDENTITY.fullmatch(identity):
        raise _invalid("source identity")
    return identity


def _are_texts(values: Iterable[object]) -> bool:
    return all(isinstance(each, str) for each in values)


def _invalid(what: str) -> AwsFault:
    return AwsFault("InvalidIdentityToken", f"The {what} in the ID Token provided are not valid")
