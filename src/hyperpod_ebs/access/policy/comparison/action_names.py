"""The names of all actions of the services that the jobs use, and the actions that a pattern stands for."""

import functools
import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from fnmatch import translate
from importlib import resources
from typing import Final

_FILE: Final = "action_names.txt"
_CLOSE: Final = 0.8
"""How similar two names must be for one to be a misspelling of the other, from 0 to 1."""


@functools.cache
def actions_by_service() -> Mapping[str, tuple[str, ...]]:
    """The names of the actions by the service's prefix: ec2, AttachVolume."""
    lines = (resources.files("hyperpod_ebs.access.policy.comparison") / _FILE).read_text().splitlines()
    return {service: tuple(names) for service, *names in map(str.split, lines)}


def matching_actions(pattern: str) -> Sequence[str]:
    """The actions that a pattern of a policy, such as ec2:Describe*, stands for; those of unknown services are not."""
    matches = re.compile(translate(pattern.lower().replace("[", "[[]"))).match
    return [action for action in all_actions() if matches(action.lower())]


def is_known_service(action: str) -> bool:
    """Whether the names of the service's actions are known."""
    return action.partition(":")[0].lower() in actions_by_service()


def similar_action(action: str) -> str | None:
    """The action that a misspelt one probably means; None if none is similar."""
    service, _, name = action.partition(":")
    names = actions_by_service().get(service.lower())
    if names is None:
        services = get_close_matches(service.lower(), actions_by_service(), n=1, cutoff=_CLOSE)
        return next(iter(matching_actions(f"{services[0]}:{name}")), None) if services else None
    by_lower = {known.lower(): known for known in names}
    close = get_close_matches(name.lower(), by_lower, n=1, cutoff=_CLOSE)
    return f"{service.lower()}:{by_lower[close[0]]}" if close else None


@functools.cache
def all_actions() -> tuple[str, ...]:
    """All actions of the known services, each with its service's prefix."""
    return tuple(f"{service}:{name}" for service, names in actions_by_service().items() for name in names)
