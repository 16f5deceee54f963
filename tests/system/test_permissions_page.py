"""The page of permissions is true: a controller process runs its whole job with each permission missing."""

from pathlib import Path
from typing import Final

import pytest

from tests.support import permissions_page
from tests.support.missing_permissions import OWN_TAGS
from tests.support.permissions_page import EVENTS, FIRST, HEAD, KEYS, section_of

PAGE: Final = Path(__file__).parents[2] / permissions_page.PAGE

slow = pytest.mark.timeout(600)


@slow
@pytest.mark.requirement("denied.names-the-statement")
@pytest.mark.parametrize("name", OWN_TAGS)
async def test_each_permission_that_is_taken_away_is_on_the_page_with_what_the_user_reads(
    short_path: Path, name: str
) -> None:
    """Each message names the action, the resource and the role; each refused step succeeds with the permission."""
    text = PAGE.read_text()

    made = await permissions_page.policy_section(short_path, name, "" if name == FIRST else section_of(text, FIRST))

    assert made == section_of(text, name), "run make permissions"


@slow
async def test_each_permission_for_a_key_that_is_taken_away_is_on_the_page(short_path: Path) -> None:
    """SageMaker Developer Guide, "Using the Amazon EBS CSI driver on SageMaker HyperPod EKS clusters": the key."""
    assert await permissions_page.keys_section(short_path) == section_of(PAGE.read_text(), KEYS), "run make permissions"


def test_the_page_begins_with_where_kubernetes_shows_the_messages() -> None:
    assert PAGE.read_text().startswith(HEAD + "".join(event.row for event in EVENTS)), "run make permissions"
